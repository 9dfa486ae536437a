//! How the tests explore: all interleavings with a few preemptions, or with any number if `LOOM_MAX_PREEMPTIONS` says so.
#![allow(dead_code, reason = "each test binary uses its part")]

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};

/// Preemptions in one execution, unless the environment says otherwise. Where a thread waits it may lose the CPU besides.
const PREEMPTIONS: usize = 3;

/// Explores.
pub fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = b.preemption_bound.or(Some(PREEMPTIONS));
    b.check(test);
}

/// Memory that must not be used again while somebody may access it: loom finds accesses that nothing orders.
pub struct Memory(UnsafeCell<u64>);

impl Memory {
    pub fn new() -> Memory {
        Memory(UnsafeCell::new(1))
    }

    /// Somebody accesses what it is now.
    pub fn access(&self) {
        self.0.with(|p| assert!(!p.is_null()));
    }

    /// Becomes something else.
    pub fn reuse(&self) {
        self.0.with_mut(|p| assert!(!p.is_null()));
    }
}

/// Interrupts for one CPU: requests merge while one is pending, as in a local APIC. Accepting one orders the sender's stores
/// before what follows, as the fence before a write to the APIC does.
pub struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: bool,
    off: bool,
}

impl Line {
    pub fn new() -> Line {
        Line { state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        f(&mut self.state.lock().unwrap());
        self.changed.notify_one();
    }

    pub fn send(&self) {
        self.change(|s| s.pending = true);
    }

    /// The test is over: nobody waits for an interrupt any more.
    pub fn switch_off(&self) {
        self.change(|s| s.off = true);
    }

    /// The CPU halts until there is an interrupt, and accepts it; `false`: there will be none.
    pub fn halt(&self) -> bool {
        let mut s = self.state.lock().unwrap();
        while !s.pending && !s.off {
            s = self.changed.wait(s).unwrap();
        }
        std::mem::take(&mut s.pending)
    }
}
