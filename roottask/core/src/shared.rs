//! What the portal handler and the supervisor share: who the components are, and messages from one to the other.
//!
//! Key types: [`Running`], [`Objects`], [`Shared`], [`Ended`].

use abi::{Sel, Status};
use core_task_logic::fault::Fault;
use parent::{MAX_COURIERS, MAX_CPUS};
use policy::{ComponentPlan, End};
use rt::Semaphore;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// What we hold of it.
    pub objects: Objects,
    /// CPUs on which it has its portals, bit by bit.
    open_cpus: Mutex<u128>,
    /// How many couriers it has on CPUs that are not its own.
    couriers: Mutex<BTreeMap<u16, usize>>,
    /// Held while the first thread is being started.
    starting: Mutex<()>,
    first_thread: AtomicBool,
    ended: AtomicBool,
}

/// The selectors of a component in the root task's object space; 0: not there yet.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Protection domain around its own, to which nobody else has a capability: its own it can destroy itself, and then
    /// this tells when that is done.
    pub cage: Sel,
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
    /// Its SC.
    pub sc: Sel,
    /// Interrupt semaphores.
    pub irqs: Vec<Sel>,
    /// The CPU that the interrupts go to.
    pub cpu: u16,
}

impl Running {
    /// One that has not started a thread yet.
    pub fn new(plan: &ComponentPlan, objects: Objects) -> Running {
        Running {
            label: plan.name.to_string(),
            entry: plan.entry,
            priority: plan.priority,
            cpus: plan.cpus.clone(),
            objects,
            open_cpus: Mutex::new(1 << plan.first_cpu()),
            couriers: Mutex::default(),
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

    /// Has `create` make a courier on `cpu`; `None`: it has as many there as it can have, or there is no such CPU.
    pub fn another_courier<E>(&self, cpu: u16, create: impl FnOnce() -> Result<(), E>) -> Option<Result<(), E>> {
        if usize::from(cpu) >= MAX_CPUS {
            return None;
        }
        if self.cpus.contains(&cpu) {
            // What it could do as well without asking for a courier.
            return Some(create());
        }
        let mut all = self.couriers.lock().unwrap_or_else(PoisonError::into_inner);
        let there = all.entry(cpu).or_default();
        if *there >= MAX_COURIERS {
            return None;
        }
        let created = create();
        *there += usize::from(created.is_ok());
        Some(created)
    }

    /// While this is held, STARTUP of the first thread is not answered.
    pub fn hold_start(&self) -> MutexGuard<'_, ()> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// By index of the system file: those that were created and have not been destroyed.
    components: Vec<Mutex<Option<Arc<Running>>>>,
    /// To the supervisor, one for each component at most. Not a channel of std: its receiver spins until a sender that
    /// was preempted goes on, and handlers run at the low priority of their callers.
    ends: Mutex<VecDeque<Ended>>,
    /// Counts them.
    ended: Semaphore,
}

impl Shared {
    /// Room for `count` components.
    pub fn new(count: usize) -> Arc<Shared> {
        let components = (0..count).map(|_| Mutex::new(None)).collect();
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

    fn slot(&self, index: usize) -> Option<MutexGuard<'_, Option<Arc<Running>>>> {
        Some(self.components.get(index)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Component `index`, if it was created.
    pub fn component(&self, index: usize) -> Option<Arc<Running>> {
        self.slot(index)?.clone()
    }

    /// Component `index` was created.
    pub fn put(&self, index: usize, component: Running) {
        if let Some(mut slot) = self.slot(index) {
            *slot = Some(Arc::new(component));
        }
    }

    /// Component `index` is about to be destroyed: who comes in finds it no more.
    pub fn take(&self, index: usize) -> Option<Arc<Running>> {
        self.slot(index)?.take()
    }

    /// Ends a component, that of this index, if nobody did before.
    pub fn end(&self, component: &Running, index: usize, end: End, fault: Option<Fault>) {
        if component.end() {
            self.ends().push_back(Ended { index, end, fault });
            self.ended.up();
        }
    }
}
