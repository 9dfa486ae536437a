//! Ready queue: one FIFO per priority and a bitmap of the non-empty ones.

use crate::{Node, Queue};
use core::cell::Cell;

/// Number of priorities; 0 is the lowest.
pub const PRIORITIES: usize = 128;

/// What is ready on one CPU.
pub struct ReadyQueue<T: 'static> {
    levels: [Queue<T>; PRIORITIES],
    /// A bit for each level, in two words: the lower ones and the higher.
    filled: [Cell<u64>; 2],
}

impl<T> ReadyQueue<T> {
    /// Empty.
    pub const fn new() -> Self {
        ReadyQueue { levels: [const { Queue::new() }; PRIORITIES], filled: [const { Cell::new(0) }; 2] }
    }

    /// Priority of the first object, if there is one.
    pub fn highest(&self) -> Option<u8> {
        let [low, high] = [self.filled[0].get(), self.filled[1].get()];
        match (low, high) {
            (0, 0) => None,
            (_, 0) => Some(63 - low.leading_zeros() as u8),
            _ => Some(127 - high.leading_zeros() as u8),
        }
    }

    /// Whether all are below `prio`.
    #[inline]
    pub fn is_below(&self, prio: u8) -> bool {
        let [low, high] = [self.filled[0].get(), self.filled[1].get()];
        low | high == 0 || self.highest().is_none_or(|h| h < prio)
    }

    /// Appends at `prio` (taken modulo [`PRIORITIES`]).
    pub fn push_back<Tag>(&self, t: &'static T, prio: u8)
    where
        T: Node<Tag>,
    {
        self.level(prio).push_back::<Tag>(t);
        let (word, bit) = self.bit(prio);
        word.set(word.get() | bit);
    }

    /// Puts in front at `prio`.
    #[inline(always)]
    pub fn push_front<Tag>(&self, t: &'static T, prio: u8)
    where
        T: Node<Tag>,
    {
        self.level(prio).push_front::<Tag>(t);
        let (word, bit) = self.bit(prio);
        word.set(word.get() | bit);
    }

    /// Takes the first object of the highest priority.
    pub fn pop<Tag>(&self) -> Option<&'static T>
    where
        T: Node<Tag>,
    {
        let prio = self.highest()?;
        let t = self.level(prio).pop_front::<Tag>();
        self.note(prio);
        t
    }

    /// Unlinks `t`, which was queued at `prio` or not at all.
    pub fn remove<Tag>(&self, t: &'static T, prio: u8) -> bool
    where
        T: Node<Tag>,
    {
        let was = self.level(prio).remove::<Tag>(t);
        self.note(prio);
        was
    }

    fn bit(&self, prio: u8) -> (&Cell<u64>, u64) {
        (&self.filled[prio as usize / 64 % 2], 1 << (prio % 64))
    }

    fn level(&self, prio: u8) -> &Queue<T> {
        &self.levels[prio as usize % PRIORITIES]
    }

    fn note(&self, prio: u8) {
        if self.level(prio).is_empty() {
            let (word, bit) = self.bit(prio);
            word.set(word.get() & !bit);
        }
    }
}

impl<T> Default for ReadyQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Link;
    use proptest::prelude::*;

    struct Item {
        id: usize,
        link: Link<Item>,
    }
    impl Node<()> for Item {
        fn link(&self) -> &Link<Item> {
            &self.link
        }
    }

    proptest! {
        #[test]
        fn highest_priority_first_then_fifo(prios in prop::collection::vec(0u8..128, 1..60)) {
            let q = ReadyQueue::new();
            for (id, p) in prios.iter().enumerate() {
                q.push_back::<()>(Box::leak(Box::new(Item { id, link: Link::new() })), *p);
            }
            let mut want: Vec<usize> = (0..prios.len()).collect();
            want.sort_by_key(|i| (127 - prios[*i], *i));
            prop_assert_eq!(q.highest(), prios.iter().max().copied());
            (0..128).for_each(|p| assert_eq!(q.is_below(p), prios.iter().all(|q| *q < p)));
            let got: Vec<usize> = core::iter::from_fn(|| q.pop::<()>().map(|t| t.id)).collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(q.highest(), None);
        }
    }

    #[test]
    fn at_first_nobody_is_ready() {
        for q in [ReadyQueue::<Item>::new(), ReadyQueue::default()] {
            assert_eq!(q.highest(), None);
            assert!(q.is_below(0) && q.pop::<()>().is_none());
        }
    }

    #[test]
    fn front_goes_before_its_equals_only() {
        let it = |id| -> &'static Item { Box::leak(Box::new(Item { id, link: Link::new() })) };
        let q = ReadyQueue::new();
        let (a, b, c) = (it(1), it(2), it(3));
        q.push_back::<()>(a, 5);
        q.push_front::<()>(b, 5);
        q.push_front::<()>(c, 4);
        assert!(q.remove::<()>(a, 5));
        assert_eq!(q.pop::<()>().map(|t| t.id), Some(2));
        assert_eq!(q.pop::<()>().map(|t| t.id), Some(3));
    }
}
