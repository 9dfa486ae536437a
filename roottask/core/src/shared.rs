//! What the portal handler and the supervisor share: who the components are, and messages from one to the other.
//!
//! Key types: [`Running`], [`Shared`], [`Ended`].

use abi::{Sel, Status};
use core_task_logic::fault::Fault;
use policy::{ComponentPlan, End};
use rt::Semaphore;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A component that was created.
#[derive(Debug)]
pub struct Running {
    /// Label.
    pub label: String,
    /// Entry point of all its threads.
    pub entry: u64,
    /// Priority of its first thread.
    pub priority: u8,
    /// CPUs that it may use.
    pub cpus: Vec<u16>,
    /// Its protection domain.
    pub pd: Sel,
    /// Its object space.
    pub obj: Sel,
    /// Its host space.
    pub hst: Sel,
    /// Its PIO space.
    pub pio: Sel,
    /// Its first EC.
    pub ec: Sel,
    /// Its interrupt semaphores.
    pub irqs: Vec<Sel>,
    /// CPUs on which it has its portals, bit by bit.
    open_cpus: Mutex<u128>,
    /// Its vCPUs that were started.
    vcpus: Mutex<Vec<Sel>>,
    /// Held while the first thread is being started.
    starting: Mutex<()>,
    first_thread: AtomicBool,
    ended: AtomicBool,
}

/// The selectors of a component in the root task's object space.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Protection domain.
    pub pd: Sel,
    /// Object space.
    pub obj: Sel,
    /// Host space.
    pub hst: Sel,
    /// PIO space.
    pub pio: Sel,
    /// First EC.
    pub ec: Sel,
    /// Interrupt semaphores.
    pub irqs: Vec<Sel>,
}

impl Running {
    /// One that has not started a thread yet.
    pub fn new(plan: &ComponentPlan, o: Objects) -> Running {
        let Objects { pd, obj, hst, pio, ec, irqs } = o;
        Running {
            label: plan.name.to_string(),
            entry: plan.entry,
            priority: plan.priority,
            cpus: plan.cpus.clone(),
            pd,
            obj,
            hst,
            pio,
            ec,
            irqs,
            open_cpus: Mutex::new(1 << plan.first_cpu()),
            vcpus: Mutex::default(),
            starting: Mutex::new(()),
            first_thread: AtomicBool::new(true),
            ended: AtomicBool::new(false),
        }
    }

    /// Has `give` make the component's portals on `cpu`, one of its own, if it has none there yet.
    pub fn open_cpu(&self, cpu: u16, give: impl FnOnce() -> Result<(), Status>) -> Result<(), Status> {
        let mut open = self.open_cpus.lock().unwrap_or_else(PoisonError::into_inner);
        if *open & 1 << cpu == 0 {
            give()?;
            *open |= 1 << cpu;
        }
        Ok(())
    }

    /// While this is held, STARTUP of the first thread is not answered.
    pub fn hold_start(&self) -> MutexGuard<'_, ()> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its vCPUs that were started.
    pub fn vcpus(&self) -> MutexGuard<'_, Vec<Sel>> {
        self.vcpus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `true` once: at the start of the first thread.
    pub fn take_first_thread(&self) -> bool {
        self.first_thread.swap(false, Ordering::Relaxed)
    }

    /// Marks the component as ended; `true` for the first one who says so.
    pub fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// A component ended: what handlers tell the supervisor.
#[derive(Debug)]
pub struct Ended {
    /// Its index.
    pub index: usize,
    /// How.
    pub end: End,
    /// The exception, if there was one.
    pub fault: Option<Fault>,
}

/// Shared by handler and supervisor.
pub struct Shared {
    /// By index of the system file.
    pub components: Vec<OnceLock<Running>>,
    /// To the supervisor, one for each component at most. Not a channel of std: its receiver spins until a sender that
    /// was preempted goes on, and handlers run at the low priority of their callers.
    ends: Mutex<VecDeque<Ended>>,
    /// Counts them.
    ended: Semaphore,
}

impl Shared {
    /// Room for `count` components.
    pub fn new(count: usize) -> Arc<Shared> {
        let components = (0..count).map(|_| OnceLock::new()).collect();
        Arc::new(Shared { components, ends: Mutex::new(VecDeque::with_capacity(count)), ended: Semaphore::new(0) })
    }

    fn ends(&self) -> MutexGuard<'_, VecDeque<Ended>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next end of a component.
    pub fn next_end(&self) -> Ended {
        loop {
            self.ended.down();
            if let Some(ended) = self.ends().pop_front() {
                return ended;
            }
        }
    }

    /// Component `index`, if it was created.
    pub fn component(&self, index: usize) -> Option<&Running> {
        self.components.get(index)?.get()
    }

    /// Ends component `index`, if nobody did before.
    pub fn end(&self, index: usize, end: End, fault: Option<Fault>) {
        if self.component(index).is_some_and(Running::end) {
            self.ends().push_back(Ended { index, end, fault });
            self.ended.up();
        }
    }
}
