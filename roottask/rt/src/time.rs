//! Time: the TSC, scaled. `Instant` and `SystemTime` of std come from here by way of `clock`.

use crate::lock::StartCell;
use core::sync::atomic::{AtomicU64, Ordering};
use rtlogic::Scale;

struct Clock {
    hz: u64,
    scale: Scale,
}

static CLOCK: StartCell<Clock> = StartCell::new();
/// Wall-clock time in ns since 1970 when the TSC was 0.
static WALL_BASE_NS: AtomicU64 = AtomicU64::new(0);

/// # Safety
/// As [`StartCell::set`].
pub(crate) unsafe fn init(hz: u64, wall_base_ns: u64) {
    // SAFETY: passed on.
    unsafe { CLOCK.set(Clock { hz, scale: Scale::new(hz) }) };
    set_wall_base(wall_base_ns);
}

pub(crate) fn set_wall_base(ns: u64) {
    WALL_BASE_NS.store(ns, Ordering::Relaxed);
}

/// The time-stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC is there on every x86-64 CPU and allowed in user mode.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Its frequency in Hz.
pub fn tsc_hz() -> u64 {
    CLOCK.get().hz
}

/// The TSC value at which the monotonic clock has surely reached `ns`: for deadlines.
pub fn tsc_from_ns(ns: u64) -> u64 {
    CLOCK.get().scale.ticks(ns)
}

/// The monotonic clock in ns when the TSC is `tsc`.
pub fn ns_from_tsc(tsc: u64) -> u64 {
    CLOCK.get().scale.ns(tsc)
}

/// The monotonic clock, in ns.
pub(crate) fn now_ns() -> u64 {
    ns_from_tsc(tsc())
}

/// The wall clock, in ns since 1970.
pub(crate) fn wall_ns() -> u64 {
    WALL_BASE_NS.load(Ordering::Relaxed).saturating_add(now_ns())
}

/// `struct timespec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

const NS: u64 = 1_000_000_000;

impl Timespec {
    pub fn from_ns(ns: u64) -> Timespec {
        Timespec { sec: (ns / NS) as i64, nsec: (ns % NS) as i64 }
    }

    /// In ns, saturating; `None` if it is no valid time.
    pub fn ns(self) -> Option<u64> {
        let (sec, nsec) = (u64::try_from(self.sec).ok()?, u64::try_from(self.nsec).ok().filter(|&n| n < NS)?);
        Some(sec.saturating_mul(NS).saturating_add(nsec))
    }
}
