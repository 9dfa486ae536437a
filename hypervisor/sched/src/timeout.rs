//! Timeouts of one CPU, earliest first.
//!
//! Insertion walks the list: a blocking call with a timeout is not a hot path, and few wait at once.

use crate::{Link, Node, Queue};
use core::cell::Cell;

/// Link and time of an object that may have a timeout.
pub struct Deadline<T: 'static> {
    link: Link<T>,
    at: Cell<u64>,
}

impl<T> Deadline<T> {
    /// Not armed.
    pub const fn new() -> Self {
        Deadline { link: Link::new(), at: Cell::new(0) }
    }

    /// The link, for the [`Node`] implementation.
    pub const fn link(&self) -> &Link<T> {
        &self.link
    }

    /// Whether it is armed.
    pub fn armed(&self) -> bool {
        self.link.queued()
    }
}

impl<T> Default for Deadline<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Armed timeouts, ordered by time; equal times in the order of arming.
pub struct Timeouts<T: 'static> {
    queue: Queue<T>,
}

impl<T> Timeouts<T> {
    /// None armed.
    pub const fn new() -> Self {
        Timeouts { queue: Queue::new() }
    }

    /// Time of the earliest one.
    pub fn next<Tag>(&self, of: impl Fn(&T) -> &Deadline<T>) -> Option<u64>
    where
        T: Node<Tag>,
    {
        self.queue.head().map(|t| of(t).at.get())
    }

    /// Arms `t` for the time `at`; one that is armed already keeps its time.
    pub fn arm<Tag>(&self, t: &'static T, at: u64, of: impl Fn(&T) -> &Deadline<T>)
    where
        T: Node<Tag>,
    {
        if of(t).armed() {
            return;
        }
        of(t).at.set(at);
        let mut n = self.queue.head();
        while let Some(later) = n.filter(|x| of(x).at.get() <= at) {
            n = self.queue.next::<Tag>(later);
        }
        self.queue.insert_before::<Tag>(t, n);
    }

    /// Disarms `t`; `false` if it was not armed.
    pub fn disarm<Tag>(&self, t: &'static T) -> bool
    where
        T: Node<Tag>,
    {
        self.queue.remove::<Tag>(t)
    }

    /// Takes one whose time has come.
    pub fn expire<Tag>(&self, now: u64, of: impl Fn(&T) -> &Deadline<T>) -> Option<&'static T>
    where
        T: Node<Tag>,
    {
        let t = self.queue.head().filter(|t| of(t).at.get() <= now)?;
        self.queue.remove::<Tag>(t);
        Some(t)
    }
}

impl<T> Default for Timeouts<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Item {
        at: u64,
        d: Deadline<Item>,
    }
    impl Node<()> for Item {
        fn link(&self) -> &Link<Item> {
            self.d.link()
        }
    }
    fn d(i: &Item) -> &Deadline<Item> {
        &i.d
    }

    #[test]
    fn one_that_is_armed_keeps_its_time() {
        let q = Timeouts::default();
        assert_eq!(q.next::<()>(d), None);
        let i: &'static Item = Box::leak(Box::new(Item { at: 7, d: Deadline::default() }));
        assert!(!i.d.armed());
        q.arm::<()>(i, 7, d);
        q.arm::<()>(i, 3, d);
        assert!(i.d.armed() && q.expire::<()>(6, d).is_none());
        assert_eq!(q.next::<()>(d), Some(7));
        assert!(q.expire::<()>(7, d).is_some() && !i.d.armed());
        q.arm::<()>(i, 3, d);
        assert_eq!(q.next::<()>(d), Some(3), "armed anew after it came");
    }

    proptest! {
        #[test]
        fn expire_in_order_and_never_early(times in prop::collection::vec(0u64..50, 1..40), skip in 0usize..40) {
            let q: Timeouts<Item> = Timeouts::new();
            let all: Vec<&'static Item> =
                times.iter().map(|&at| &*Box::leak(Box::new(Item { at, d: Deadline::new() }))).collect();
            for &i in &all { q.arm(i, i.at, d); }
            let gone = skip % all.len();
            prop_assert!(q.disarm::<()>(all[gone]));
            prop_assert!(!q.disarm::<()>(all[gone]));
            let mut left: Vec<u64> = times.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, t)| *t).collect();
            left.sort_unstable();
            for now in 0..50 {
                while let Some(i) = q.expire(now, d) {
                    prop_assert!(i.at <= now);
                    prop_assert_eq!(left.remove(0), i.at);
                }
                prop_assert_eq!(q.next(d), left.first().copied());
                prop_assert!(left.first().is_none_or(|t| *t > now));
            }
        }
    }
}
