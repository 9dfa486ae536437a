//! The interfaces that the test's components talk by, and the object behind [`Tally`], which is the example of the guide
//! (docs/guide/write-an-interface.md).
#![forbid(unsafe_code)]

use rpc::{Cap, Signal, Text};

/// Why nothing was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, rpc::Value)]
#[repr(u8)]
pub enum TallyError {
    /// There is less.
    TooLittle = 1,
}

/// A count that several clients share.
#[rpc::interface(version = "1.0", ram = "8K", caps = 4)]
pub trait Tally {
    /// Adds both numbers, wrapping around, and returns what there is now.
    fn add(&mut self, a: u64, b: u64) -> u64;
    /// Takes `n` away and returns what is left.
    fn take(&mut self, n: u32) -> Result<u64, TallyError>;
    /// Gives it a name and returns the one that it had.
    fn rename(&mut self, name: Text<64>) -> Text<64>;
    /// What is raised at each change from now on, in place of what was before.
    fn watch(&mut self, signal: Signal);
    /// Whether that is this very tally.
    fn is(&mut self, other: Cap<dyn Tally>) -> bool;
}

/// What a tally needs of the system that it runs on.
pub trait System {
    /// A signal that is kept.
    type Kept;
    /// Keeps one.
    fn keep(&mut self, signal: Signal) -> Self::Kept;
    /// Raises one.
    fn raise(&mut self, signal: &Self::Kept);
    /// Whether a capability is one to the tally itself.
    fn is_own(&self, cap: Cap<dyn Tally>) -> bool;
}

/// A tally.
#[derive(Debug)]
pub struct Count<S: System> {
    count: u64,
    name: Text<64>,
    watcher: Option<S::Kept>,
    system: S,
}

impl<S: System> Count<S> {
    /// One that begins with 0, without a name.
    pub fn new(system: S) -> Count<S> {
        Count { count: 0, name: Text::default(), watcher: None, system }
    }

    fn change(&mut self, count: u64) -> u64 {
        self.count = count;
        if let Some(watcher) = &self.watcher {
            self.system.raise(watcher);
        }
        count
    }
}

impl<S: System> Tally for Count<S> {
    fn add(&mut self, a: u64, b: u64) -> u64 {
        self.change(self.count.wrapping_add(a).wrapping_add(b))
    }

    fn take(&mut self, n: u32) -> Result<u64, TallyError> {
        let left = self.count.checked_sub(n.into()).ok_or(TallyError::TooLittle)?;
        Ok(self.change(left))
    }

    fn rename(&mut self, name: Text<64>) -> Text<64> {
        std::mem::replace(&mut self.name, name)
    }

    fn watch(&mut self, signal: Signal) {
        self.watcher = Some(self.system.keep(signal));
    }

    fn is(&mut self, other: Cap<dyn Tally>) -> bool {
        self.system.is_own(other)
    }
}

/// Something that takes long.
#[rpc::interface(version = "1.0", ram = "4K", caps = 1)]
pub trait Door {
    /// Returns when somebody opens it.
    fn enter(&mut self);
}

/// Why a mill does not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, rpc::Value)]
#[repr(u8)]
pub enum MillError {
    /// Too many are at work.
    Busy = 1,
}

/// Work that takes long: a method begins it, a signal says that it is over, and another method gives what came of it.
#[rpc::interface(version = "1.0", ram = "8K", caps = 5)]
pub trait Mill {
    /// Begins with some work, which turns so many times; `done` is raised when it is over.
    fn grind(&mut self, turns: u32, done: Signal) -> Result<(), MillError>;
    /// What turns all that is at work, once.
    fn wind(&mut self) -> Option<Signal>;
    /// How many turns all work that is over has taken, and how much is still at work.
    fn ground(&mut self) -> (u64, u32);
    /// Gives up all work.
    fn halt(&mut self);
}

/// What the components of the test have in common: how they find each other, and where they report.
#[rpc::interface(version = "1.0", ram = "4K", caps = 4)]
pub trait Hub {
    /// The tally to talk to.
    fn tally(&mut self) -> Option<Cap<dyn Tally>>;
    /// The door to knock at.
    fn door(&mut self) -> Option<Cap<dyn Door>>;
    /// A server is ready.
    fn announce(&mut self, tally: Cap<dyn Tally>, door: Cap<dyn Door>);
    /// What is to be raised, to try signals.
    fn signal(&mut self) -> Option<Signal>;
    /// How often its handler ran.
    fn handled(&mut self) -> u64;
    /// Takes so many ms, in which no handler may run.
    fn busy(&mut self, ms: u64);
    /// Keeps a capability, and returns the selector that it has here.
    fn keep(&mut self, tally: Cap<dyn Tally>) -> u64;
    /// Gives up all that is kept, and returns how many selectors are free here.
    fn forget(&mut self) -> u64;
    /// A check has come out; without a text well.
    fn report(&mut self, check: Text<64>, why: Option<Text<200>>);
    /// Calls a tally in the midst of this call, which adds `n`, and returns what it says.
    fn call_back(&mut self, tally: Cap<dyn Tally>, n: u64) -> Option<u64>;
    /// On which CPU it is.
    fn cpu(&mut self) -> u16;
    /// The mill.
    fn mill(&mut self) -> Option<Cap<dyn Mill>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Fake(Rc<RefCell<Vec<Signal>>>);

    impl System for Fake {
        type Kept = Signal;
        fn keep(&mut self, signal: Signal) -> Signal {
            signal
        }
        fn raise(&mut self, signal: &Signal) {
            self.0.borrow_mut().push(*signal);
        }
        fn is_own(&self, cap: Cap<dyn Tally>) -> bool {
            cap.sel() == 5
        }
    }

    #[test]
    fn a_tally_counts_and_says_so() {
        let raised = Fake::default();
        let mut t = Count::new(raised.clone());
        assert_eq!((t.add(1, 2), t.take(4), t.take(3)), (3, Err(TallyError::TooLittle), Ok(0)));
        let signal = Signal { context: 1, bell: 2 };
        t.watch(signal);
        assert_eq!((t.add(u64::MAX, 2), t.take(2)), (1, Err(TallyError::TooLittle)));
        assert_eq!(*raised.0.borrow(), [signal]);
        assert_eq!(t.rename(Text::new("a").unwrap()).as_str(), "");
        assert_eq!(t.rename(Text::new("b").unwrap()).as_str(), "a");
        assert!(t.is(Cap::from_sel(5)) && !t.is(Cap::from_sel(6)));
    }
}
