//! Address-space identifiers (15.16): TLB tags of one CPU, handed out in turn.
//!
//! There may be few (QEMU has 15), and virtual CPUs come and go. When all are given out a new generation begins, and every
//! virtual CPU gets another one before its next entry. Whoever gets one flushes it at that entry.

use core::cell::Cell;

/// The identifiers of a CPU.
#[derive(Debug, Default)]
pub struct Asids {
    generation: Cell<u64>,
    last: Cell<u32>,
}

/// The identifier of a virtual CPU; 0 and old ones are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asid {
    generation: u64,
    /// For the VMCB.
    pub number: u32,
}

impl Asids {
    /// Another identifier below `limit` if `old` is no longer good; 1 is always one.
    pub fn renew(&self, old: Asid, limit: u32) -> Option<Asid> {
        if old.number != 0 && old.generation == self.generation.get() {
            return None;
        }
        let next = self.last.get() + 1;
        let number = if next < limit.max(2) {
            next
        } else {
            self.generation.set(self.generation.get() + 1);
            1
        };
        self.last.set(number);
        Some(Asid { generation: self.generation.get(), number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No two virtual CPUs ever enter with the same identifier unless one of them has flushed it since the other's last
        /// entry.
        #[test]
        fn nobody_finds_translations_of_another(limit in 0u32..20, entries in prop::collection::vec(0usize..24, 1..300)) {
            let (cpu, mut vcpus) = (Asids::default(), [Asid::default(); 24]);
            let mut tlb = [None; 32];
            for v in entries {
                if let Some(new) = cpu.renew(vcpus[v], limit) {
                    vcpus[v] = new;
                    tlb[new.number as usize] = None;
                }
                let n = vcpus[v].number as usize;
                prop_assert!(n >= 1 && n < limit.max(2) as usize);
                prop_assert!(tlb[n].is_none_or(|owner| owner == v), "vCPU {v} finds those of {:?}", tlb[n]);
                tlb[n] = Some(v);
                prop_assert_eq!(cpu.renew(vcpus[v], limit), None, "who has just entered keeps it");
            }
        }
    }

    #[test]
    fn few_enough_keep_theirs_for_ever() {
        let cpu = Asids::default();
        let all: Vec<Asid> = (0..15).map(|_| cpu.renew(Asid::default(), 16).unwrap()).collect();
        assert!(all.iter().all(|a| cpu.renew(*a, 16).is_none()));
        assert_eq!(cpu.renew(Asid::default(), 16).map(|a| a.number), Some(1));
        assert!(all.iter().all(|a| cpu.renew(*a, 16).is_some()));
    }
}
