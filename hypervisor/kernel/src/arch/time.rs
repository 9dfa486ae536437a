//! Time: the TSC is the system time counter; the local APIC's timer wakes this CPU.

use super::cpu::{Cpu, cpu};
use super::interrupt;
use crate::object::ec::{Ec, Timed};
use crate::{iommu, schedule};
use abi::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use switches::Switches;
use x86::io::{inb, outb};
use x86::msr;

static TSC_HZ: AtomicU64 = AtomicU64::new(0);
/// How close to the timer's time it counts as due, in [`catch_up`].
static NEAR: AtomicU64 = AtomicU64::new(0);

impl Cpu {
    /// The timer fires then; `u64::MAX`: it does not.
    pub fn set_timer(&self, at: u64) {
        self.timer.set(at);
        self.timer_near.set(at.saturating_sub(NEAR.load(Relaxed)));
    }
}
/// Counts of the local APIC's timer in 2^32 ticks of the TSC, if it has no TSC-deadline mode.
///
/// It is periodic then, though each shot is meant to be the only one: where an emulator forgets a pending interrupt
/// ([`catch_up`]) the next shot brings it back.
static TIMER_RATE: AtomicU64 = AtomicU64::new(0);
/// Its shortest period.
static SHORTEST: AtomicU64 = AtomicU64::new(1);

/// Frequency of the programmable interval timer in Hz.
const PIT_HZ: u64 = 1_193_182;
/// How long to calibrate: 20 ms.
const PIT_COUNT: u64 = PIT_HZ / 50;

/// System time counter.
pub fn now() -> u64 {
    // SAFETY: reading the TSC has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Its frequency in Hz.
pub fn frequency() -> u64 {
    TSC_HZ.load(Relaxed)
}

/// Measures the TSC against the PIT, and the local APIC's timer against the TSC: CPUID's figures are not right everywhere. The
/// shortest of some measurements counts: firmware, or the host below an emulator, can make one longer, and none shorter.
pub fn calibrate() {
    let (mut tsc, mut rate) = measure();
    for n in 2.. {
        let (before, next) = (tsc, measure());
        (tsc, rate) = (tsc, rate).min(next);
        if n == MOST || n >= LEAST && before.abs_diff(next.0) < tsc / 256 {
            break;
        }
    }
    TSC_HZ.store(tsc * PIT_HZ / PIT_COUNT, Relaxed);
    NEAR.store(frequency() / 50_000, Relaxed);
    TIMER_RATE.store(rate, Relaxed);
    let shortest = (u128::from(frequency() / SHORTEST_PERIODS) * u128::from(rate)) >> 32;
    SHORTEST.store(shortest.max(1) as u64, Relaxed);
}

/// So many measurements, and more until one agrees with the shortest.
const LEAST: u32 = 3;
const MOST: u32 = 10;

/// Ticks of the TSC in PIT_COUNT ticks of the PIT, and meanwhile of the local APIC's timer in 2^32 of the TSC.
fn measure() -> (u64, u64) {
    interrupt::set_local_timer(u32::MAX);
    let (first, l0) = both();
    // SAFETY: channel 2 of the PIT drives the speaker and nobody else uses it; port 0x61 gates it.
    let ticks = unsafe {
        outb(0x61, inb(0x61) & !2 | 1);
        outb(0x43, 0xb0);
        outb(0x42, PIT_COUNT as u8);
        // The PIT starts after this.
        let t0 = now();
        outb(0x42, (PIT_COUNT >> 8) as u8);
        let limit = t0 + 20_000_000_000;
        while inb(0x61) & 0x20 == 0 && now() < limit {}
        now() - t0
    };
    let (last, l1) = both();
    interrupt::set_local_timer(0);
    (ticks, ((l0.saturating_sub(l1) as u64) << 32) / (last - first).max(1))
}

/// TSC and local APIC's timer: of some readings the one that nothing came between.
fn both() -> (u64, u32) {
    let one = |_| {
        let t = now();
        let timer = interrupt::local_timer();
        (now() - t, t, timer)
    };
    let (_, t, timer) = (0..5).map(one).min().unwrap_or_default();
    (t, timer)
}

/// A period of the local APIC's timer is at least so small a part of a second: 10 us.
const SHORTEST_PERIODS: u64 = 100_000;

/// Makes sure that the timer fires at `at` or before, or 10 us later. A timer armed too early fires, finds nothing, and is armed again.
#[inline]
pub fn arm(at: u64) {
    if at < cpu().timer.get() {
        arm_earlier(at);
    }
}

#[cold]
fn arm_earlier(at: u64) {
    let c = cpu();
    c.set_timer(at);
    if c.uses(Switches::TSC_DEADLINE) {
        // SAFETY: a time in the past fires at once; 0 would disarm.
        unsafe { msr::wrmsr(msr::IA32_TSC_DEADLINE, at.max(1)) };
        return;
    }
    let ticks = at.saturating_sub(now());
    let count = ((u128::from(ticks) * u128::from(TIMER_RATE.load(Relaxed))) >> 32) as u64;
    interrupt::set_local_timer(count.max(SHORTEST.load(Relaxed)).min(u32::MAX.into()) as u32);
}

fn deadline(e: &Ec) -> &sched::Deadline<Ec> {
    &e.deadline
}

/// The timer of this CPU fired, or the guest's time slice ended: handles what is due and arms the timer anew.
pub fn fired() {
    if let Some(ec) = expired() {
        ec.unblock(Status::Timeout);
    }
    arm_anew();
}

/// The first half of that. Who is returned is in no queue any more, and is still to be released.
#[inline(always)]
pub fn expired() -> Option<&'static Ec> {
    let (c, t) = (cpu(), now());
    c.set_timer(u64::MAX);
    let mut last = None;
    while let Some(ec) = c.timeouts.expire::<Timed>(t, deadline) {
        let sm = ec.blocked_on.take();
        if sm.is_none_or(|s| s.forget(ec))
            && let Some(before) = last.replace(ec)
        {
            Ec::unblock(before, Status::Timeout);
        }
    }
    schedule::tick(t);
    iommu::resume(t);
    last
}

/// The second.
pub fn arm_anew() {
    let c = cpu();
    rearm();
    if c.timer.get() == u64::MAX && !c.uses(Switches::TSC_DEADLINE) {
        interrupt::set_local_timer(0);
    }
}

/// After a guest's exit on SVM: QEMU's TCG (7.2) clears a flag there without the lock under which another thread of it
/// notes that an interrupt is pending, and the note can be lost. Then the interrupt stays pending and comes only with
/// the next one, and without the timer there may be none. So a timer that is due, or nearly, counts as fired.
pub fn catch_up() {
    if is_behind() {
        fired();
    }
}

/// Whether it has something to do.
#[inline(always)]
pub fn is_behind() -> bool {
    now() >= cpu().timer_near.get()
}

/// Arms the timer for what comes next.
pub fn rearm() {
    let c = cpu();
    rearm_for(if c.ipc.payer().is_some() { c.slice_end.get() } else { u64::MAX });
}

/// The same if the turn of who pays is over then.
#[inline(always)]
pub fn rearm_for(slice_end: u64) {
    let next = cpu().timeouts.next::<Timed>(deadline).unwrap_or(u64::MAX);
    // If it is `u64::MAX` the timer is armed for no later.
    arm(next.min(slice_end).min(iommu::resume_at()));
}
