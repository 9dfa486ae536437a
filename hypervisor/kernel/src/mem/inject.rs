//! Fault injection: kernels built with the feature `inject` can be told which of their allocations fails.
//!
//! An allocation is a frame, a row of frames, or the cell of an object. Without the feature none fails for that reason,
//! and nothing of this is in the kernel.

#[cfg(feature = "inject")]
mod counter {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static LEFT: AtomicU64 = AtomicU64::new(0);

    /// The `n`-th allocation from now on fails, once; 0: none.
    pub fn set(n: u64) {
        LEFT.store(n, Relaxed);
    }

    /// Whether the allocation that is about to be made fails.
    pub fn fails() -> bool {
        LEFT.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)) == Ok(1)
    }
}

#[cfg(feature = "inject")]
pub use counter::{fails, set};

/// No allocation is made to fail.
#[cfg(not(feature = "inject"))]
pub const fn fails() -> bool {
    false
}
