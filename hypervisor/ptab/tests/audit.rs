//! The audit of a tree of host tables.

use proptest::prelude::*;
use ptab::Audit;
use ptab::spec::host::{NX, P, RW, US};
use std::collections::HashMap;

const ROOT: u64 = 0x1000;
const LARGE: u64 = 1 << 7;

/// Tables by address and index; all else is 0.
fn audit(entries: &[(u64, usize, u64)]) -> Audit {
    let map: HashMap<_, _> = entries.iter().map(|(t, i, e)| ((*t, *i), *e)).collect();
    Audit::of(ROOT, |t, i| map.get(&(t, i)).copied().unwrap_or(0))
}

/// One leaf in the last page of the address space, with the rights of each level from the top.
fn last(rights: [u64; 4]) -> Audit {
    let [a, b, c, d] = rights;
    audit(&[(0x1000, 511, 0x2000 | a), (0x2000, 511, 0x3000 | b), (0x3000, 511, 0x4000 | c), (0x4000, 511, 0x9000 | d)])
}

#[test]
fn nothing_is_mapped_by_an_empty_tree() {
    assert_eq!(audit(&[]), Audit::default());
    // Not present: bits that do not matter.
    assert_eq!(audit(&[(ROOT, 511, RW | US | 0x2000)]), Audit::default());
}

#[test]
fn code_that_can_be_written_is_found_in_both_halves() {
    for slot in [0, 511] {
        let found = audit(&[(ROOT, slot, 0x2000 | P | RW), (0x2000, 1, 0x4000_0000 | P | RW | LARGE)]);
        assert_eq!(found, Audit { leaves: 1, writable_code: 1, open_kernel: 0 });
    }
}

#[test]
fn what_user_mode_reaches_counts_in_the_upper_half_only() {
    for (slot, open_kernel) in [(255, 0), (256, 1)] {
        let found = audit(&[(ROOT, slot, 0x2000 | P | US), (0x2000, 0, P | US | LARGE)]);
        assert_eq!(found, Audit { leaves: 1, writable_code: 0, open_kernel });
    }
}

proptest! {
    #[test]
    fn a_right_has_to_be_given_at_every_level(w in any::<[bool; 4]>(), u in any::<[bool; 4]>(), nx in any::<[bool; 4]>()) {
        let bit = |set: bool, b: u64| if set { b } else { 0 };
        let found = last(std::array::from_fn(|i| P | bit(w[i], RW) | bit(u[i], US) | bit(nx[i], NX)));
        let all = |b: [bool; 4]| b.iter().all(|b| *b);
        prop_assert_eq!(found.leaves, 1);
        prop_assert_eq!(found.writable_code, u64::from(all(w) && !nx.contains(&true)));
        prop_assert_eq!(found.open_kernel, u64::from(all(u)));
    }
}
