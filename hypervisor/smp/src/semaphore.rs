//! Semaphores: a counter and a queue of waiters of some kind. An `up` is taken by one: by a waiter, or by the counter.

use crate::sync::{Mutex, const_fn};

/// A counter and those who wait.
#[derive(Debug)]
pub struct Semaphore<Q>(Mutex<State<Q>>);

#[derive(Debug)]
struct State<Q> {
    count: u64,
    waiting: Q,
}

impl<Q> State<Q> {
    fn take(&mut self, all: bool) {
        self.count = if all { 0 } else { self.count - 1 };
    }
}

/// The counter is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

impl<Q> Semaphore<Q> {
    const_fn! {
        /// With a count, and nobody in the queue.
        pub fn new(count: u64, waiting: Q) -> Self {
            Semaphore(Mutex::new(State { count, waiting }))
        }
    }

    /// The waiter that `pop` takes out of the queue is to be released; if there is none the counter goes up.
    pub fn up<W>(&self, pop: impl FnOnce(&mut Q) -> Option<W>) -> Result<Option<W>, Overflow> {
        let mut s = self.0.lock();
        let waiter = pop(&mut s.waiting);
        if waiter.is_none() {
            s.count = s.count.checked_add(1).ok_or(Overflow)?;
        }
        Ok(waiter)
    }

    /// Takes one, or all; if there is none `push` puts the caller into the queue. `false`: it waits.
    #[must_use = "who waits does not go on"]
    pub fn down(&self, all: bool, push: impl FnOnce(&mut Q)) -> bool {
        let mut s = self.0.lock();
        if s.count == 0 {
            push(&mut s.waiting);
            return false;
        }
        s.take(all);
        true
    }

    /// [`down`](Self::down), if the counter is above zero. `false`: nothing has happened.
    #[inline]
    pub fn count_down(&self, all: bool) -> bool {
        let mut s = self.0.lock();
        if s.count == 0 {
            return false;
        }
        s.take(all);
        true
    }

    /// Takes a waiter out because its time is over. `false`: it was released meanwhile.
    #[must_use = "who was released has what it waited for"]
    pub fn forget(&self, remove: impl FnOnce(&mut Q) -> bool) -> bool {
        remove(&mut self.0.lock().waiting)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn the_counter_does_not_wrap() {
        let s = Semaphore::new(u64::MAX, ());
        assert_eq!(s.up(|_| None::<()>), Err(Overflow));
        assert!(s.down(true, |_| {}));
        assert!(!s.down(true, |_| {}));
    }

    #[test]
    fn what_is_not_for_the_counter_changes_nothing() {
        let s = Semaphore::new(2, ());
        assert!(s.count_down(false) && s.count_down(true));
        assert!(!s.count_down(true) && !s.count_down(false), "at zero");
    }

    proptest! {
        /// Ups, downs and timeouts against a count and a list.
        #[test]
        fn first_come_first_released(start in 0u64..3, steps in prop::collection::vec((0u8..5, 0u32..6), 0..60)) {
            let s = Semaphore::new(start, VecDeque::new());
            let (mut count, mut list) = (start, VecDeque::new());
            for (step, who) in steps {
                match step {
                    0 => {
                        let want = list.pop_front();
                        count += u64::from(want.is_none());
                        prop_assert_eq!(s.up(VecDeque::pop_front), Ok(want));
                    }
                    1 | 2 => {
                        prop_assert_eq!(s.down(step == 2, |q| q.push_back(who)), count > 0);
                        match count {
                            0 => list.push_back(who),
                            _ => count = if step == 2 { 0 } else { count - 1 },
                        }
                    }
                    3 => {
                        prop_assert_eq!(s.count_down(who == 0), count > 0);
                        count = if who == 0 { 0 } else { count.saturating_sub(1) };
                    }
                    _ => {
                        let at = list.iter().position(|w| *w == who);
                        let gone = s.forget(|q| q.iter().position(|w| *w == who).and_then(|i| q.remove(i)).is_some());
                        prop_assert_eq!(gone, at.and_then(|i| list.remove(i)).is_some());
                    }
                }
            }
        }
    }
}
