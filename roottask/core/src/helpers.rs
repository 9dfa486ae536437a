//! Threads that lend handlers their time.
//!
//! A handler of components' portals runs on the time and at the priority of who called it. If that is preempted for
//! long, or is killed while the handler has no time of its own (docs/spec/destroy.md), the handler stays where it is:
//! perhaps with a lock, and with what it knows of a component that has ended since. Who calls a busy handler helps it.
//! So for each handler, and each entry point of the hub, a thread of ours on its CPU, above all components, can be asked to
//! call it: its call is answered when the handler is done with what it was at.
//!
//! * Whoever is about to wait for a lock asks all of them ([`ask_all`]): wherever the lock is held, it is let go of.
//! * Before what a component had is used again, all of them have called ([`Helpers::flush`]): no handler works for it
//!   any more, as its threads, which could have called since, are gone.
//!
//! Key type: [`Helpers`].

use abi::Status;
use parent::MAX_CPUS;
use rt::{Semaphore, hypercall};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stack of a helper: it makes one call, over and over.
const STACK: usize = 32 << 10;

/// Semaphores of all helpers, two on a CPU, 0 behind the last: for who must not take a lock.
static KICKS: [AtomicU64; 2 * MAX_CPUS] = [const { AtomicU64::new(0) }; 2 * MAX_CPUS];

/// Has all helpers call their handlers, soon.
pub fn ask_all() {
    KICKS.iter().map(|k| k.load(Ordering::Acquire)).take_while(|&k| k != 0).for_each(|k| _ = hypercall::sm_up(k));
}

/// A thread on the CPU of a handler.
struct Helper {
    /// To be upped to have it call.
    kick: Semaphore,
    /// Calls that `flush` has asked for.
    asked: AtomicU64,
    /// Upped for each of them when it has been answered.
    answered: Semaphore,
}

impl Helper {
    fn run(&self, call: impl Fn()) {
        let mut done = 0;
        loop {
            self.kick.down_zero();
            let asked = self.asked.load(Ordering::Acquire);
            // Without an answer the handler is gone, and with it what it held.
            call();
            (done..asked).for_each(|_| self.answered.up());
            done = asked;
        }
    }
}

/// The helpers, in the order of their creation.
#[derive(Default)]
pub struct Helpers(Mutex<Vec<Arc<Helper>>>);

impl Helpers {
    fn list(&self) -> MutexGuard<'_, Vec<Arc<Helper>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one on `cpu`, for whoever `call` calls.
    pub fn start(&self, cpu: u16, call: impl Fn() + Send + 'static) -> Result<(), Status> {
        let mut list = self.list();
        let slot = KICKS.get(list.len()).ok_or(Status::BadCpu)?;
        let (kick, answered) = (Semaphore::try_new(0)?, Semaphore::try_new(0)?);
        let helper = Arc::new(Helper { kick, asked: AtomicU64::new(0), answered });
        let own = Arc::clone(&helper);
        rt::thread::set_spawn_cpu(cpu);
        let spawned = std::thread::Builder::new().stack_size(STACK).spawn(move || own.run(call));
        rt::thread::set_spawn_cpu(rt::thread::cpu());
        spawned.map_err(|_| Status::MemObj)?;
        slot.store(helper.kick.sel(), Ordering::Release);
        list.push(helper);
        Ok(())
    }

    /// Returns when every handler is done with what it was at. For one thread, the supervisor's.
    pub fn flush(&self) {
        let all: Vec<Arc<Helper>> = self.list().clone();
        // All at once: one may wait for a lock that another holds.
        for h in &all {
            h.asked.fetch_add(1, Ordering::Release);
            h.kick.up();
        }
        all.iter().for_each(|h| h.answered.down());
    }
}
