//! What CPUs do to each other (docs/design/0008): mailboxes, and the interrupt that says that there is mail.
//!
//! The protocols are in the `smp` crate, where their interleavings are explored; here they meet the hardware.
//! No lock is held while a CPU waits for another, and a CPU that waits answers shoot-downs meanwhile.

use crate::arch::{cpu::cpu, guest, interrupt, paging, time};
use crate::boot::cpus_online;
use crate::mem::refs::{self, DeadList};
use crate::object::ec::{Ec, Posted};
use crate::object::sc::Sc;
use abi::Status;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use ipc::Queued;
use sched::{CpuSet, MAX_CPUS, Queue};
use smp::{Mailbox, Period, Presence, Requests, Seen};
use spin::Once;

/// A shoot-down wants the address space left, so that its marked root is flushed at the next entry.
pub const HOST: u32 = 1;
/// A shoot-down wants guest translations flushed.
pub const GUEST: u32 = 2;
/// A shoot-down wants no more than that the CPU enters the kernel.
pub const ENTER: u32 = 0;

/// What others may touch of a CPU.
#[repr(align(64))]
struct Shared {
    /// Identifier of the local APIC.
    apic: AtomicU32,
    /// Root of the kernel half.
    pdpt: AtomicU64,
    presence: Presence,
    requests: Requests,
    seen: Seen,
    mail: Mailbox<Mail>,
    idle: Once<&'static Sc>,
}

struct Mail {
    /// ECs that a semaphore has released, and those whose semaphore was destroyed.
    released: Queue<Ec>,
    aborted: Queue<Ec>,
    /// New SCs.
    started: Queue<Sc>,
    /// Objects that only this CPU may end, or destroy; in that case their grace period is over.
    condemned: DeadList,
}

static CPUS: [Shared; MAX_CPUS] = [const {
    Shared {
        apic: AtomicU32::new(0),
        pdpt: AtomicU64::new(0),
        presence: Presence::new(),
        requests: Requests::new(),
        seen: Seen::new(),
        mail: Mailbox::new(Mail {
            released: Queue::new(),
            aborted: Queue::new(),
            started: Queue::new(),
            condemned: DeadList::new(),
        }),
        idle: Once::new(),
    }
}; MAX_CPUS];

static PERIOD: Period = Period::new();

fn of(cpu: u16) -> &'static Shared {
    &CPUS[cpu as usize % MAX_CPUS]
}

fn mine() -> &'static Shared {
    of(cpu().id.get())
}

fn others() -> impl Iterator<Item = &'static Shared> {
    let me = cpu().id.get();
    (0..cpus_online()).filter(move |c| *c != me).map(of)
}

/// This CPU takes part from now on.
pub fn join(apic: u32) {
    mine().apic.store(apic, SeqCst);
    mine().pdpt.store(cpu().pdpt.get(), SeqCst);
    pass();
}

/// The local APIC of a CPU.
pub fn apic_of(cpu: u16) -> u32 {
    of(cpu).apic.load(Relaxed)
}

/// Root of the kernel half of a CPU.
pub fn pdpt_of(cpu: u16) -> u64 {
    of(cpu).pdpt.load(Relaxed)
}

/// Where this CPU is, in terms of page tables.
pub fn presence() -> &'static Presence {
    &mine().presence
}

/// Whether a CPU may use that root.
pub fn is_in(cpu: usize, root: u64) -> bool {
    of(cpu as u16).presence.may_be_in(root)
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
    if m.mail.post(f) {
        interrupt::notify(m.apic.load(Relaxed));
    }
}

/// Has the EC's CPU release it from the semaphore that it was blocked on, which is destroyed unless that was a success.
pub fn release(ec: &'static Ec, s: Status) {
    post(ec.home(), |m| if s == Status::Success { &m.released } else { &m.aborted }.push_back::<Posted>(ec));
}

/// Has the CPU of a new SC schedule it.
pub fn start(sc: &'static Sc) {
    post(sc.ipc.ec.home(), |m| m.started.push_back::<Queued>(sc));
}

/// Has a CPU end or destroy an object.
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
    if ec.home() == cpu().id.get() {
        return;
    }
    if wait {
        let one = CpuSet::new();
        one.insert(ec.home().into());
        shoot(&one, ENTER);
    } else {
        interrupt::notify(apic_of(ec.home()));
    }
}

/// Has these CPUs, but for this one, do what is wanted, and waits until they have. No lock may be held.
pub fn shoot(cpus: &CpuSet, what: u32) {
    let me = cpu().id.get() as usize;
    let targets = || cpus.iter().filter(|c| *c != me && *c < cpus_online() as usize).map(|c| of(c as u16));
    for m in targets() {
        m.requests.ask(what);
        interrupt::notify(m.apic.load(Relaxed));
    }
    for m in targets() {
        let asked = m.requests.asked();
        while !m.requests.answered(asked) {
            answer_shootdowns();
            spin_loop();
        }
    }
}

fn answer_shootdowns() {
    mine().requests.answer(|what| {
        if what & HOST != 0 {
            paging::enter_bare();
        }
        if what & GUEST != 0 {
            guest::flush_all();
        }
    });
}

/// Asks all other CPUs to pass a quiescent point; the result is for [`grace_over`].
pub fn begin_grace() -> u64 {
    let period = PERIOD.begin();
    pass();
    for m in others().filter(|m| !m.seen.has_passed(period)) {
        interrupt::notify(m.apic.load(Relaxed));
    }
    period
}

/// Whether all CPUs have passed one since.
pub fn grace_over(period: u64) -> bool {
    others().all(|m| m.seen.has_passed(period))
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
    mine().seen.pass(&PERIOD);
}

/// The interrupt. Interrupts are off in the kernel, so this is a quiescent point.
pub fn answer() {
    answer_shootdowns();
    pass();
    open_mail();
}

/// Does what other CPUs want of this one.
pub fn open_mail() {
    use core::mem::take;
    let (released, started, condemned) = mine().mail.open(|m| {
        let released = [(take(&mut m.released), Status::Success), (take(&mut m.aborted), Status::Aborted)];
        (released, take(&mut m.started), m.condemned.take())
    });
    for (list, status) in released {
        while let Some(ec) = list.pop_front::<Posted>() {
            ec.unblock(status);
        }
    }
    while let Some(sc) = started.pop_front::<Queued>() {
        ipc::start(sc);
    }
    refs::take_over(condemned);
}
