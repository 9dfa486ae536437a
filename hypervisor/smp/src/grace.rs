//! Grace periods: after one, every CPU has been at a point where it refers to no object by a reference that it does not
//! count.

use crate::sync::atomic::{AtomicU64, Ordering::*};
use crate::sync::const_fn;

/// Number of the last grace period that was asked for.
#[derive(Debug)]
pub struct Period(AtomicU64);

/// The last grace period that one CPU knew of at a quiescent point.
#[derive(Debug)]
pub struct Seen(AtomicU64);

impl Period {
    const_fn! {
        /// None was asked for.
        pub fn new() -> Self {
            Period(AtomicU64::new(0))
        }
    }

    /// Begins a new one. The CPUs that have not [passed](Seen::has_passed) it have to be interrupted, since they may not
    /// be in the kernel.
    pub fn begin(&self) -> u64 {
        self.0.fetch_add(1, AcqRel) + 1
    }
}

impl Default for Period {
    fn default() -> Self {
        Self::new()
    }
}

impl Seen {
    const_fn! {
        /// Of a CPU that has not begun.
        pub fn new() -> Self {
            Seen(AtomicU64::new(0))
        }
    }

    /// Its CPU is at a quiescent point. What it did before, the end of the period comes after; what it finds later, was
    /// to be found when the period had begun.
    pub fn pass(&self, period: &Period) {
        self.0.store(period.0.load(Acquire), Release);
    }

    /// Whether its CPU has been at a quiescent point since that period began.
    pub fn has_passed(&self, period: u64) -> bool {
        self.0.load(Acquire) >= period
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_over_when_it_was_passed() {
        let (period, seen) = (Period::default(), Seen::default());
        assert!(seen.has_passed(0));
        let first = period.begin();
        assert!(!seen.has_passed(first));
        seen.pass(&period);
        assert!(seen.has_passed(first));
        let second = period.begin();
        assert!(seen.has_passed(first) && !seen.has_passed(second), "one pass serves the periods before it");
    }
}
