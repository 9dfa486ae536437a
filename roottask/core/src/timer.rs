//! The timer service: one thread that wakes whoever has an alarm.
//!
//! Key types: [`Clock`], [`Session`]. What is due when is in `core_task_logic::alarms`.

use core_task_logic::alarms::Alarms;
use rpc::Signal;
use rt::Semaphore;
use rt::rpc::{Held, raise};
use services::Timer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stack of the thread.
const STACK: usize = 32 << 10;

/// What the sessions of all clients share.
pub struct Clock {
    state: Mutex<State>,
    /// Upped when the first alarm may be another.
    changed: Semaphore,
}

#[derive(Default)]
struct State {
    alarms: Alarms,
    signals: BTreeMap<u64, Arc<Held<Signal>>>,
    /// Numbers of sessions are never used again.
    next: u64,
}

impl Clock {
    /// One with its thread.
    pub fn start() -> std::io::Result<Arc<Clock>> {
        let clock = Arc::new(Clock { state: Mutex::default(), changed: Semaphore::new(0) });
        let own = Arc::clone(&clock);
        std::thread::Builder::new().name("timer".into()).stack_size(STACK).spawn(move || own.run())?;
        Ok(clock)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let next = self.state().alarms.next();
            match next {
                Some(ns) => _ = self.changed.down_until(rt::time::tsc_from_ns(ns)),
                None => self.changed.down_zero(),
            }
            while let Some(signal) = self.due() {
                // Who does not live any more needs none.
                let _ = raise(**signal);
            }
        }
    }

    /// What is to be raised now, a signal at a time: nobody waits for the lock while one is raised.
    fn due(&self) -> Option<Arc<Held<Signal>>> {
        let mut state = self.state();
        loop {
            let number = state.alarms.take(now())?;
            if let Some(signal) = state.signals.get(&number) {
                return Some(Arc::clone(signal));
            }
        }
    }

    fn change(&self, f: impl FnOnce(&mut Alarms)) {
        let mut state = self.state();
        let before = state.alarms.next();
        f(&mut state.alarms);
        let sooner = state.alarms.next().is_some_and(|next| before.is_none_or(|b| next < b));
        drop(state);
        // Too late is never woken up for: then there is just nothing to do.
        if sooner {
            self.changed.up();
        }
    }
}

/// Nanoseconds since the TSC was 0.
pub fn now() -> u64 {
    rt::time::ns_from_tsc(rt::time::tsc())
}

/// A session.
pub struct Session {
    clock: Arc<Clock>,
    number: u64,
    began: u64,
}

impl Session {
    /// One that begins now.
    pub fn new(clock: &Arc<Clock>) -> Session {
        let mut state = clock.state();
        state.next += 1;
        Session { clock: Arc::clone(clock), number: state.next, began: now() }
    }
}

impl Timer for Session {
    fn heed(&mut self, signal: Signal) {
        let held = Arc::new(Held::keep(signal));
        let old = self.clock.state().signals.insert(self.number, held);
        drop(old);
    }

    fn after(&mut self, us: u64) {
        let at = now().saturating_add(us.saturating_mul(1000));
        self.clock.change(|alarms| alarms.once(self.number, at));
    }

    fn every(&mut self, us: u64) {
        self.clock.change(|alarms| match us {
            0 => alarms.cancel(self.number),
            us => alarms.each(self.number, now(), us.saturating_mul(1000)),
        });
    }

    fn elapsed(&mut self) -> u64 {
        now().saturating_sub(self.began) / 1000
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.clock.state();
        state.alarms.cancel(self.number);
        let old = state.signals.remove(&self.number);
        drop(state);
        drop(old);
    }
}
