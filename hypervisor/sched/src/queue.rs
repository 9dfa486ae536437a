//! Doubly linked FIFO with constant-time removal.

use core::cell::Cell;

/// Links of an object in one queue. An object that can be in several queues at once has several.
pub struct Link<T: 'static> {
    next: Cell<Option<&'static T>>,
    prev: Cell<Option<&'static T>>,
    queued: Cell<bool>,
}

impl<T> Link<T> {
    /// Unlinked.
    pub const fn new() -> Self {
        Link { next: Cell::new(None), prev: Cell::new(None), queued: Cell::new(false) }
    }

    /// Whether the object is in a queue through this link.
    pub fn queued(&self) -> bool {
        self.queued.get()
    }
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// An object with a link. `Tag` tells the links of one object apart.
pub trait Node<Tag>: Sized + 'static {
    /// The link for queues of that tag.
    fn link(&self) -> &Link<Self>;
}

/// FIFO queue.
pub struct Queue<T: 'static> {
    head: Cell<Option<&'static T>>,
    tail: Cell<Option<&'static T>>,
}

impl<T> Queue<T> {
    /// Empty.
    pub const fn new() -> Self {
        Queue { head: Cell::new(None), tail: Cell::new(None) }
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// First object.
    pub fn head(&self) -> Option<&'static T> {
        self.head.get()
    }

    /// Appends. An object that is queued already stays where it is.
    pub fn push_back<Tag>(&self, t: &'static T)
    where
        T: Node<Tag>,
    {
        let l = t.link();
        if l.queued.replace(true) {
            return;
        }
        l.next.set(None);
        l.prev.set(self.tail.get());
        match self.tail.replace(Some(t)) {
            Some(last) => last.link().next.set(Some(t)),
            None => self.head.set(Some(t)),
        }
    }

    /// Puts in front. An object that is queued already stays where it is.
    #[inline(always)]
    pub fn push_front<Tag>(&self, t: &'static T)
    where
        T: Node<Tag>,
    {
        let l = t.link();
        if l.queued.replace(true) {
            return;
        }
        let next = self.head.replace(Some(t));
        l.next.set(next);
        match next {
            Some(n) => n.link().prev.set(Some(t)),
            None => self.tail.set(Some(t)),
        }
    }

    /// Inserts before `next`, which must be in this queue; at the end for `None`.
    pub(crate) fn insert_before<Tag>(&self, t: &'static T, next: Option<&'static T>)
    where
        T: Node<Tag>,
    {
        let Some(n) = next else { return self.push_back::<Tag>(t) };
        let l = t.link();
        if l.queued.replace(true) {
            return;
        }
        let prev = n.link().prev.replace(Some(t));
        l.next.set(Some(n));
        l.prev.set(prev);
        match prev {
            Some(p) => p.link().next.set(Some(t)),
            None => self.head.set(Some(t)),
        }
    }

    /// Takes the first object.
    pub fn pop_front<Tag>(&self) -> Option<&'static T>
    where
        T: Node<Tag>,
    {
        let t = self.head.get()?;
        let l = t.link();
        l.queued.set(false);
        let next = l.next.take();
        self.head.set(next);
        // Nobody is before the first.
        match next {
            Some(n) => n.link().prev.set(None),
            None => self.tail.set(None),
        }
        Some(t)
    }

    /// Unlinks `t`, which must be in this queue or in none; `false` if it was in none.
    pub fn remove<Tag>(&self, t: &'static T) -> bool
    where
        T: Node<Tag>,
    {
        let l = t.link();
        if !l.queued.replace(false) {
            return false;
        }
        let (next, prev) = (l.next.take(), l.prev.take());
        match prev {
            Some(p) => p.link().next.set(next),
            None => self.head.set(next),
        }
        match next {
            Some(n) => n.link().prev.set(prev),
            None => self.tail.set(prev),
        }
        true
    }

    /// The object behind `t` in this queue.
    pub fn next<Tag>(&self, t: &'static T) -> Option<&'static T>
    where
        T: Node<Tag>,
    {
        t.link().next.get()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    struct Item {
        id: usize,
        a: Link<Item>,
        b: Link<Item>,
    }
    struct A;
    struct B;
    impl Node<A> for Item {
        fn link(&self) -> &Link<Item> {
            &self.a
        }
    }
    impl Node<B> for Item {
        fn link(&self) -> &Link<Item> {
            &self.b
        }
    }

    fn items(n: usize) -> Vec<&'static Item> {
        (0..n).map(|id| &*Box::leak(Box::new(Item { id, a: Link::new(), b: Link::new() }))).collect()
    }

    #[test]
    fn one_object_in_two_queues_at_once() {
        let i = items(1)[0];
        let (qa, qb) = (Queue::new(), Queue::new());
        qa.push_back::<A>(i);
        qb.push_back::<B>(i);
        assert!(qa.remove::<A>(i));
        assert!(qa.is_empty() && !qb.is_empty());
        assert!(!qa.remove::<A>(i), "a second removal does nothing");
    }

    #[test]
    fn at_first_nothing_is_queued() {
        for q in [Queue::<Item>::new(), Queue::default()] {
            assert!(q.is_empty() && q.head().is_none() && q.pop_front::<A>().is_none());
        }
        assert!(!Link::<Item>::default().queued());
    }

    proptest! {
        #[test]
        fn behaves_like_a_deque(ops in prop::collection::vec((0u8..4, 0usize..8), 0..200)) {
            let all = items(8);
            let q = Queue::new();
            let mut model: VecDeque<usize> = VecDeque::new();
            for (op, i) in ops {
                match op {
                    0 => {
                        q.push_back::<A>(all[i]);
                        if !model.contains(&i) { model.push_back(i) }
                    }
                    1 => {
                        q.push_front::<A>(all[i]);
                        if !model.contains(&i) { model.push_front(i) }
                    }
                    2 => prop_assert_eq!(q.pop_front::<A>().map(|t| t.id), model.pop_front()),
                    _ => {
                        prop_assert_eq!(q.remove::<A>(all[i]), model.contains(&i));
                        model.retain(|m| *m != i);
                    }
                }
                prop_assert_eq!(q.head().map(|t| t.id), model.front().copied());
            }
            while let Some(t) = q.pop_front::<A>() {
                prop_assert_eq!(Some(t.id), model.pop_front());
            }
            prop_assert!(model.is_empty());
        }
    }
}
