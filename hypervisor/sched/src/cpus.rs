//! Sets of CPUs, changed and read by several CPUs at once.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Most CPUs that a set can name.
pub const MAX_CPUS: usize = 128;
const WORD: usize = u64::BITS as usize;

/// A set of CPU numbers below [`MAX_CPUS`]. All operations are sequentially consistent: who puts itself into the set
/// before it looks at data, and who changes the data before it reads the set, cannot miss each other.
#[derive(Debug, Default)]
pub struct CpuSet([AtomicU64; MAX_CPUS / WORD]);

impl CpuSet {
    /// The empty set.
    pub const fn new() -> CpuSet {
        CpuSet([const { AtomicU64::new(0) }; MAX_CPUS / WORD])
    }

    /// All that there can be.
    pub const fn all() -> CpuSet {
        CpuSet([const { AtomicU64::new(u64::MAX) }; MAX_CPUS / WORD])
    }

    /// Adds a CPU; numbers beyond the last possible one are ignored.
    pub fn insert(&self, cpu: usize) {
        if let Some(w) = self.0.get(cpu / WORD) {
            w.fetch_or(1 << (cpu % WORD), SeqCst);
        }
    }

    /// Removes a CPU.
    pub fn remove(&self, cpu: usize) {
        if let Some(w) = self.0.get(cpu / WORD) {
            w.fetch_and(!(1 << (cpu % WORD)), SeqCst);
        }
    }

    /// Whether a CPU is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.get(cpu / WORD).is_some_and(|w| w.load(SeqCst) & 1 << (cpu % WORD) != 0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| w.load(SeqCst) == 0)
    }

    /// The members, in order. Each word is read once.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let words: [u64; MAX_CPUS / WORD] = core::array::from_fn(|i| self.0[i].load(SeqCst));
        (0..MAX_CPUS).filter(move |c| words[c / WORD] & 1 << (c % WORD) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((any::<bool>(), 0usize..140), 0..200)) {
            let (s, mut model) = (CpuSet::new(), BTreeSet::new());
            for (add, cpu) in ops {
                if add {
                    s.insert(cpu);
                    if cpu < MAX_CPUS { model.insert(cpu); }
                } else {
                    s.remove(cpu);
                    model.remove(&cpu);
                }
                prop_assert_eq!(s.contains(cpu), model.contains(&cpu));
                prop_assert_eq!(s.is_empty(), model.is_empty());
            }
            prop_assert_eq!(s.iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
