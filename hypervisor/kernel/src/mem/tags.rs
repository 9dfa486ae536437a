//! TLB tags: PCIDs and VPIDs. Tag 0 is nobody's.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WORD: usize = u64::BITS as usize;
const WORDS: usize = 64;

/// Tags 1 to N - 1; N is at most 4096.
pub struct Tags<const N: usize> {
    used: [AtomicU64; WORDS],
}

impl<const N: usize> Tags<N> {
    /// All free.
    pub const fn new() -> Self {
        const { assert!(N <= WORDS * WORD) };
        Tags { used: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// A tag that nobody else has; `None` if all are in use.
    pub fn take(&self) -> Option<u16> {
        (1..N).find(|n| self.used[n / WORD].fetch_or(1 << (n % WORD), Relaxed) & 1 << (n % WORD) == 0).map(|n| n as u16)
    }

    /// Gives a tag back; translations with that tag are flushed before it is used again. 0 is ignored.
    pub fn give(&self, tag: u16) {
        if tag != 0 {
            self.used[tag as usize / WORD].fetch_and(!(1 << (tag as usize % WORD)), Relaxed);
        }
    }
}
