//! What the portal handler and the supervisor share: who the components are, and messages from one to the other.
//!
//! Components have numbers: those of the system file that there, and the children of others higher ones, another one each
//! time that they are started.
//!
//! Key types: [`Running`], [`Objects`], [`Shared`], [`Order`].

use crate::hub::{Kin, Member};
use crate::offspring::Launch;
use crate::own::Kept;
use abi::{Sel, Status};
use core_task_logic::fault::Fault;
use core_task_logic::threads::Threads;
use parent::{MAX_COURIERS, MAX_CPUS};
use policy::{ComponentPlan, End};
use rt::{Semaphore, hypercall};
use session::{Cause, End as Over, Life};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A component that was created.
#[derive(Debug)]
pub struct Running {
    /// Label, with those of its parents in front.
    pub label: String,
    /// Entry point of all its threads.
    pub entry: u64,
    /// Priority of its first thread.
    pub priority: u8,
    /// CPUs that it may use.
    pub cpus: Vec<u16>,
    /// Whether it may have guests.
    pub guests: bool,
    /// As its parent knows it.
    pub member: Arc<Member>,
    /// What we hold of it.
    pub objects: Objects,
    /// SCs of its threads but the first.
    threads: Mutex<Threads>,
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
}

impl Running {
    /// One that has not started a thread yet.
    pub fn new(label: &str, plan: &ComponentPlan, member: Arc<Member>, objects: Objects) -> Running {
        Running {
            label: label.into(),
            entry: plan.entry,
            priority: plan.priority,
            cpus: plan.cpus.clone(),
            guests: plan.guests,
            member,
            objects,
            threads: Mutex::default(),
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

    /// An SC was made for it.
    pub fn add_thread(&self, sc: Sel) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = threads.add(sc, |sc| hypercall::ctrl_sc(sc).ok()) {
            // Theirs stays: what they hold keeps the SC alive.
            rt::sel::free(gone);
        }
    }

    /// Time of all CPUs that its threads have had, in ticks of the TSC.
    pub fn ticks(&self) -> u64 {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let others = threads.ticks(|sc| hypercall::ctrl_sc(sc).ok());
        others.saturating_add(hypercall::ctrl_sc(self.objects.sc).unwrap_or(0))
    }

    /// Gives up the SCs of its threads, which has ended.
    pub fn forget_threads(&self) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).take().for_each(rt::sel::free);
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

/// What the supervisor is told.
#[derive(Debug)]
pub enum Order {
    /// A life of a component has ended.
    Ended(Life, End, Option<Fault>),
    /// It is not to run any more, and all that it had is to be taken back.
    Stop(Life, Cause),
    /// It is to be started.
    Start(Life),
    /// A component has a child to be started.
    Launch(Launch),
    /// That child, by its number, has ended.
    Left(usize, End, Option<Fault>),
    /// It is not to run any more.
    Dismiss(usize),
    /// A line for the log.
    Line(String),
    /// Lines of a component, by its label, for the log.
    Unread(String, String),
    /// The root task's own session with the log is there.
    Log(Arc<Kept>),
    /// It is over.
    NoLog(Over),
    /// COM1 is a component's now: lines are for a provider of the log.
    AskLog,
    /// COM1 is free.
    ConsoleFree,
}

impl Order {
    /// First nobody runs any more who is not to: others can depend on that, and so can the log. What is started comes last,
    /// as it may need what others had.
    fn rank(&self) -> u8 {
        match self {
            Order::Ended(..)
            | Order::Stop(..)
            | Order::Left(..)
            | Order::Dismiss(_)
            | Order::Log(_)
            | Order::NoLog(_)
            | Order::AskLog => 0,
            Order::Line(_) | Order::Unread(..) | Order::ConsoleFree => 1,
            Order::Start(_) | Order::Launch(_) => 2,
        }
    }
}

/// Lines beyond so many orders are dropped: the supervisor has fallen behind, and somebody gives it no rest.
const MOST: usize = 1000;

/// Shared by handler and supervisor.
pub struct Shared {
    /// Somebody may look at what components use: the SCs of their threads are kept.
    pub watched: bool,
    /// By number: those that were created and have not been destroyed.
    components: Mutex<BTreeMap<usize, Arc<Running>>>,
    /// The next number of a child of a component.
    next: AtomicUsize,
    /// To the supervisor. Not a channel of std: its receiver spins until a sender that was preempted goes on, and handlers
    /// run at the low priority of their callers.
    orders: Mutex<VecDeque<Order>>,
    /// Counts them, and wakes the supervisor to look at the clock.
    ordered: Semaphore,
}

impl Shared {
    /// For so many components of the system file.
    pub fn new(count: usize, watched: bool) -> Arc<Shared> {
        let (components, orders) = Default::default();
        let next = AtomicUsize::new(count);
        Arc::new(Shared { watched, components, next, orders, ordered: Semaphore::new(0) })
    }

    /// A number for a child of a component.
    pub fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn orders(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next order, if there is one.
    pub fn next(&self) -> Option<Order> {
        self.orders().pop_front()
    }

    /// Waits for orders, or until that time.
    pub fn wait(&self, until_ns: Option<u64>) {
        match until_ns {
            Some(ns) => _ = self.ordered.down_until(rt::time::tsc_from_ns(ns)),
            None => self.ordered.down_zero(),
        }
    }

    /// Has the supervisor look at the clock.
    pub fn wake(&self) {
        self.ordered.up();
    }

    /// Tells the supervisor something.
    pub fn order(&self, mut new: Vec<Order>) {
        if new.is_empty() {
            return;
        }
        new.sort_by_key(Order::rank);
        let mut orders = self.orders();
        for order in new {
            if orders.len() < MOST || !matches!(order, Order::Line(_) | Order::Unread(..)) {
                orders.push_back(order);
            }
        }
        drop(orders);
        self.ordered.up();
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Running>>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Component `index`, if it was created.
    pub fn component(&self, index: usize) -> Option<Arc<Running>> {
        self.components().get(&index).cloned()
    }

    /// The child of a component with that number, or the first behind it.
    pub fn offspring(&self, from: usize) -> Option<Arc<Running>> {
        let components = self.components();
        let mut all = components.range(from..).map(|(_, c)| c);
        all.find(|c| matches!(c.member.kin, Kin::Other { .. })).cloned()
    }

    /// A component was created.
    pub fn put(&self, component: Running) {
        self.components().insert(component.member.index, Arc::new(component));
    }

    /// Component `index` is about to be destroyed: who comes in finds it no more.
    pub fn take(&self, index: usize) -> Option<Arc<Running>> {
        self.components().remove(&index)
    }

    /// Ends a component, if nobody did before.
    pub fn end(&self, component: &Running, end: End, fault: Option<Fault>) {
        if component.end() {
            self.order(vec![match component.member.kin {
                Kin::Own(life) => Order::Ended(life, end, fault),
                Kin::Other { .. } => Order::Left(component.member.index, end, fault),
            }]);
        }
    }

    /// Ends the component whose life that is.
    pub fn end_life(&self, member: &Member, end: End) {
        if let Some(component) = self.component(member.index).filter(|c| std::ptr::eq(&*c.member, member)) {
            self.end(&component, end, None);
        }
    }
}
