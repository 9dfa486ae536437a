//! What CPUs do to each other (docs/design/0008): mailboxes, and the interrupt that says that there is mail.
//!
//! No lock is held while a CPU waits for another, and a CPU that waits answers shoot-downs meanwhile.

use crate::arch::{cpu::cpu, guest, interrupt, paging, time};
use crate::boot::cpus_online;
use crate::mem::refs::{self, DeadList};
use crate::object::ec::{Ec, Posted};
use crate::object::sc::{Ready, Sc};
use abi::Status;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use sched::{CpuSet, MAX_CPUS, Queue};
use spin::{Mutex, Once};

/// A shoot-down wants the address space left, so that its marked root is flushed at the next entry.
pub const HOST: u32 = 1;
/// A shoot-down wants guest translations flushed.
pub const GUEST: u32 = 2;
/// A shoot-down wants no more than that the CPU enters the kernel.
pub const ENTER: u32 = 0;

/// What others may touch of a CPU.
#[repr(align(64))]
struct Mailbox {
    /// Identifier of the local APIC.
    apic: AtomicU32,
    /// Root of the kernel half.
    pdpt: AtomicU64,
    /// Physical address of the root in CR3, or about to be there; while it is loaded, also of the one before.
    root: AtomicU64,
    leaving: AtomicU64,
    /// What shoot-downs want, how many there were, and how many of them are answered.
    wanted: AtomicU32,
    asked: AtomicU64,
    answered: AtomicU64,
    /// The last grace period that this CPU knew of at a quiescent point.
    seen: AtomicU64,
    mail: Mutex<Mail>,
    idle: Once<&'static Sc>,
}

struct Mail {
    /// An interrupt is on its way.
    notified: bool,
    /// ECs that a semaphore has released.
    released: Queue<Ec>,
    /// New SCs.
    started: Queue<Sc>,
    /// Objects that only this CPU may destroy; their grace period is over.
    condemned: DeadList,
}

static BOXES: [Mailbox; MAX_CPUS] = [const {
    Mailbox {
        apic: AtomicU32::new(0),
        pdpt: AtomicU64::new(0),
        root: AtomicU64::new(0),
        leaving: AtomicU64::new(0),
        wanted: AtomicU32::new(0),
        asked: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        seen: AtomicU64::new(0),
        mail: Mutex::new(Mail {
            notified: false,
            released: Queue::new(),
            started: Queue::new(),
            condemned: DeadList::new(),
        }),
        idle: Once::new(),
    }
}; MAX_CPUS];

/// Number of the last grace period that was asked for.
static PERIOD: AtomicU64 = AtomicU64::new(0);

fn of(cpu: u16) -> &'static Mailbox {
    &BOXES[cpu as usize % MAX_CPUS]
}

fn mine() -> &'static Mailbox {
    of(cpu().id.get())
}

fn others() -> impl Iterator<Item = &'static Mailbox> {
    let me = cpu().id.get();
    (0..cpus_online()).filter(move |c| *c != me).map(of)
}

/// This CPU takes part from now on.
pub fn join(apic: u32) {
    mine().apic.store(apic, SeqCst);
    mine().pdpt.store(cpu().pdpt.get(), SeqCst);
    mine().seen.store(PERIOD.load(SeqCst), SeqCst);
}

/// The local APIC of a CPU.
pub fn apic_of(cpu: u16) -> u32 {
    of(cpu).apic.load(Relaxed)
}

/// Root of the kernel half of a CPU.
pub fn pdpt_of(cpu: u16) -> u64 {
    of(cpu).pdpt.load(Relaxed)
}

/// Notes which root is about to be in CR3; [`root_loaded`] has to follow.
pub fn note_root(root: u64) {
    let m = mine();
    m.leaving.store(m.root.load(Relaxed), SeqCst);
    m.root.store(root, SeqCst);
}

/// It is there, and the one before is not in use any more.
pub fn root_loaded() {
    mine().leaving.store(0, Release);
}

/// Whether a CPU may use that root.
pub fn is_in(cpu: usize, root: u64) -> bool {
    let m = of(cpu as u16);
    // In this order: what is no longer the new one may be the one before.
    m.root.load(SeqCst) == root || m.leaving.load(SeqCst) == root
}

/// The SC that stands for a CPU's idle time.
pub fn set_idle(cpu: u16, sc: &'static Sc) {
    sc.clock(time::now());
    of(cpu).idle.call_once(|| sc);
}

/// The SC that this CPU's idle time is charged to.
pub fn idle() -> Option<&'static Sc> {
    mine().idle.get().copied()
}

fn post(cpu: u16, f: impl FnOnce(&mut Mail)) {
    let m = of(cpu);
    let mut mail = m.mail.lock();
    f(&mut mail);
    let notified = core::mem::replace(&mut mail.notified, true);
    drop(mail);
    if !notified {
        interrupt::notify(m.apic.load(Relaxed));
    }
}

/// Has the EC's CPU release it from the semaphore that it was blocked on.
pub fn release(ec: &'static Ec) {
    post(ec.cpu, |m| m.released.push_back::<Posted>(ec));
}

/// Has the CPU of a new SC schedule it.
pub fn start(sc: &'static Sc) {
    post(sc.ec.cpu, |m| m.started.push_back::<Ready>(sc));
}

/// Has a CPU destroy an object that nobody refers to.
pub fn condemn(cpu: u16, object: refs::Dead) {
    post(cpu, |m| m.condemned.push(object));
}

/// Stops all other CPUs, whatever they do: this one cannot go on.
pub fn stop_others() {
    STOP.store(true, SeqCst);
    others().for_each(|m| interrupt::send_nmi(m.apic.load(Relaxed)));
}

/// Whether an NMI was sent to stop this CPU.
pub fn stopped() -> bool {
    STOP.load(SeqCst)
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Makes the CPU of `ec` enter the kernel, and waits until it has if `wait`.
pub fn recall(ec: &'static Ec, wait: bool) {
    if ec.cpu == cpu().id.get() {
        return;
    }
    if wait {
        let one = CpuSet::new();
        one.insert(ec.cpu.into());
        shoot(&one, ENTER);
    } else {
        interrupt::notify(apic_of(ec.cpu));
    }
}

/// Has these CPUs, but for this one, do what is wanted, and waits until they have. No lock may be held.
pub fn shoot(cpus: &CpuSet, what: u32) {
    let me = cpu().id.get() as usize;
    let targets = || cpus.iter().filter(|c| *c != me && *c < cpus_online() as usize).map(|c| of(c as u16));
    for m in targets() {
        m.wanted.fetch_or(what, SeqCst);
        m.asked.fetch_add(1, SeqCst);
        interrupt::notify(m.apic.load(Relaxed));
    }
    for m in targets() {
        let asked = m.asked.load(SeqCst);
        while m.answered.load(Acquire) < asked {
            answer_shootdowns();
            spin_loop();
        }
    }
}

fn answer_shootdowns() {
    let m = mine();
    let asked = m.asked.load(SeqCst);
    if m.answered.load(Relaxed) == asked {
        return;
    }
    let what = m.wanted.swap(0, SeqCst);
    if what & HOST != 0 {
        paging::enter_bare();
    }
    if what & GUEST != 0 {
        guest::flush_all();
    }
    m.answered.store(asked, Release);
}

/// Asks all other CPUs to pass a quiescent point; the result is for [`grace_over`].
pub fn begin_grace() -> u64 {
    let period = PERIOD.fetch_add(1, SeqCst) + 1;
    pass();
    for m in others().filter(|m| m.seen.load(Relaxed) < period) {
        interrupt::notify(m.apic.load(Relaxed));
    }
    period
}

/// Whether all CPUs have passed one since.
pub fn grace_over(period: u64) -> bool {
    others().all(|m| m.seen.load(Acquire) >= period)
}

/// Waits for the end of a grace period. Only at a quiescent point, and no lock may be held.
pub fn wait_for_grace(period: u64) {
    while !grace_over(period) {
        answer_shootdowns();
        pass();
        spin_loop();
    }
}

/// This CPU is at a quiescent point.
fn pass() {
    mine().seen.store(PERIOD.load(SeqCst), Release);
}

/// The interrupt. Interrupts are off in the kernel, so this is a quiescent point.
pub fn answer() {
    answer_shootdowns();
    pass();
    let (released, started, condemned) = {
        let mut m = mine().mail.lock();
        m.notified = false;
        let m = &mut *m;
        (core::mem::take(&mut m.released), core::mem::take(&mut m.started), m.condemned.take())
    };
    while let Some(ec) = released.pop_front::<Posted>() {
        ec.unblock(Status::Success);
    }
    while let Some(sc) = started.pop_front::<Ready>() {
        sc.start();
    }
    refs::take_over(condemned);
}
