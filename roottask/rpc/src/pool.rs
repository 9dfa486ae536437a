//! Who gets a thing of which there are few, and which is made when one is needed: couriers.
//!
//! Key types: [`Pool`], [`Turn`].

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Things, who uses them, and who waits for one.
#[derive(Debug)]
pub struct Pool<T, W> {
    most: usize,
    /// Those that there are, and those that are being made.
    count: usize,
    idle: Vec<T>,
    waiting: VecDeque<W>,
}

/// What whoever asks for a thing has to do.
#[derive(PartialEq, Eq, Debug)]
pub enum Turn<T, W> {
    /// Use this one, and [give it back](Pool::give_back).
    Use(T),
    /// Make one, use it, and give it back; or say that it [cannot be made](Pool::cannot_make).
    Make,
    /// Wait: whoever gives one back hands it over.
    Wait,
    /// There is none, and none can be made; these wait for nothing, and have to be told.
    Fail(VecDeque<W>),
}

impl<T, W> Pool<T, W> {
    /// One with nothing in it, and never more than `most`.
    pub const fn new(most: usize) -> Pool<T, W> {
        Pool { most, count: 0, idle: Vec::new(), waiting: VecDeque::new() }
    }

    /// Somebody needs one.
    pub fn ask(&mut self, who: W) -> Turn<T, W> {
        match self.idle.pop() {
            // The last one that was in use: the others are not needed as long as it is enough.
            Some(thing) => Turn::Use(thing),
            None if self.count < self.most => {
                self.count += 1;
                Turn::Make
            }
            None => self.wait(who),
        }
    }

    fn wait(&mut self, who: W) -> Turn<T, W> {
        self.waiting.push_back(who);
        Turn::Wait
    }

    /// Somebody who was to make one could not.
    pub fn cannot_make(&mut self, who: W) -> Turn<T, W> {
        self.count -= 1;
        match self.idle.pop() {
            Some(thing) => Turn::Use(thing),
            None if self.count > 0 => self.wait(who),
            None => Turn::Fail(core::mem::take(&mut self.waiting)),
        }
    }

    /// Somebody needs his no more; to be handed over to whom that names.
    pub fn give_back(&mut self, thing: T) -> Option<(T, W)> {
        match self.waiting.pop_front() {
            Some(who) => Some((thing, who)),
            None => {
                self.idle.push(thing);
                None
            }
        }
    }

    /// Whether there is one, or is being made.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Things = Pool<u32, u32>;

    #[test]
    fn the_last_used_is_used_again() {
        let mut p = Things::new(3);
        assert!(p.is_empty());
        assert_eq!((p.ask(1), p.ask(2)), (Turn::Make, Turn::Make));
        assert!(!p.is_empty());
        assert_eq!((p.give_back(10), p.give_back(20)), (None, None));
        assert_eq!(p.ask(3), Turn::Use(20));
    }

    #[test]
    fn who_comes_too_late_waits_for_the_first_that_is_free() {
        let mut p = Things::new(1);
        assert_eq!((p.ask(1), p.ask(2), p.ask(3)), (Turn::Make, Turn::Wait, Turn::Wait));
        assert_eq!((p.give_back(10), p.give_back(10), p.give_back(10)), (Some((10, 2)), Some((10, 3)), None));
    }

    #[test]
    fn without_memory_those_that_there_are_have_to_do() {
        let mut p = Things::new(2);
        assert_eq!((p.ask(1), p.ask(2)), (Turn::Make, Turn::Make));
        assert_eq!(p.cannot_make(2), Turn::Wait);
        assert_eq!(p.give_back(10), Some((10, 2)));
        assert_eq!(p.ask(3), Turn::Make);
        p.give_back(10);
        assert_eq!(p.cannot_make(3), Turn::Use(10));
    }

    #[test]
    fn nobody_waits_for_what_will_never_be() {
        let mut p = Things::new(2);
        assert_eq!((p.ask(1), p.ask(2), p.ask(3)), (Turn::Make, Turn::Make, Turn::Wait));
        assert_eq!(p.cannot_make(1), Turn::Wait);
        assert_eq!(p.cannot_make(2), Turn::Fail([3, 1].into()));
        assert!(p.is_empty());
        assert_eq!(p.ask(4), Turn::Make);
    }

    proptest! {
        /// Whatever succeeds: everybody gets a thing that nobody else has, or is told; nobody waits when nothing is in use.
        #[test]
        fn everybody_is_served(most in 1usize..4, steps in prop::collection::vec((0u8..3, any::<bool>()), 1..200)) {
            let mut p = Things::new(most);
            // Who asked and is to make one; who has which; who waits.
            let (mut making, mut using, mut waiting) = (Vec::new(), BTreeMap::new(), Vec::new());
            let (mut made, mut next) = (0, 0);
            let follow = |turn: Turn<u32, u32>, who, making: &mut Vec<u32>, using: &mut BTreeMap<u32, u32>,
                          waiting: &mut Vec<u32>| match turn {
                Turn::Use(thing) => assert_eq!(using.insert(thing, who), None),
                Turn::Make => making.push(who),
                Turn::Wait => waiting.push(who),
                Turn::Fail(told) => {
                    let told: Vec<u32> = told.into();
                    assert_eq!(&told, waiting);
                    waiting.clear();
                }
            };
            for (what, works) in steps {
                match what {
                    0 => {
                        next += 1;
                        follow(p.ask(next), next, &mut making, &mut using, &mut waiting);
                    }
                    1 => if let Some(who) = making.pop() {
                        if works {
                            made += 1;
                            using.insert(made, who);
                        } else {
                            follow(p.cannot_make(who), who, &mut making, &mut using, &mut waiting);
                        }
                    },
                    _ => if let Some((thing, _)) = using.pop_first()
                        && let Some((thing, who)) = p.give_back(thing) {
                        prop_assert_eq!(waiting.remove(0), who);
                        using.insert(thing, who);
                    },
                }
                prop_assert!(using.len() + making.len() <= most);
                prop_assert!(waiting.is_empty() || !using.is_empty() || !making.is_empty());
            }
        }
    }
}
