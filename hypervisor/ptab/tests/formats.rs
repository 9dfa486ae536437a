//! Bit layouts, against the Intel SDM vol. 3: tables 4-15 to 4-20, 12-10 to 12-12, 29-1 to 29-7.

use abi::{Mad, perm::Mem};
use ptab::{BOUND, Ept, Format, Hpt, IA32_PAT, Leaf};

const HPT: Hpt = Hpt::host(true);
const EPT: Ept = Ept { giant: true };
/// Ignored by hardware in leaves of both formats, and in use here.
const SOFT: u64 = 0xf << 52;

fn leaf(phys: u64, order: u32, perms: Mem, mad: Mad) -> Leaf {
    Leaf { phys, order, perms, mad }
}

fn all_leaves() -> impl Iterator<Item = Leaf> {
    let phys = [(0, 0x000f_ffff_ffff_f000), (9, 0x000f_ffff_ffe0_0000), (18, 0x000f_ffff_c000_0000)];
    phys.into_iter().flat_map(|(order, phys)| {
        (1..16).flat_map(move |p| {
            (0..5).flat_map(move |m| [0, phys].map(|a| leaf(a, order, Mem::from_bits_truncate(p), Mad(m))))
        })
    })
}

#[test]
fn every_leaf_is_decoded_as_it_was_encoded() {
    for l in all_leaves() {
        let level = l.order / 9;
        for hpt in [HPT, Hpt::host(false), Hpt::nested(true)] {
            assert_eq!(hpt.decode(hpt.leaf(l), level), l);
            assert!(hpt.present(hpt.leaf(l)) && hpt.is_leaf(hpt.leaf(l), level));
        }
        assert_eq!(EPT.decode(EPT.leaf(l), level), l);
        assert!(EPT.present(EPT.leaf(l)) && EPT.is_leaf(EPT.leaf(l), level));
    }
}

#[test]
fn host_leaves_have_the_architected_bits() {
    let (r, rw, rx) = (Mem::R, Mem::R | Mem::W, Mem::R | Mem::XU);
    const NX: u64 = 1 << 63;
    for (l, want) in [
        (leaf(0x1234_5000, 0, r, Mad::WB), NX | 0x1234_5025),  // NX, A, U, P
        (leaf(0x1234_5000, 0, rw, Mad::WB), NX | 0x1234_5067), // D and W too
        (leaf(0x1234_5000, 0, rx, Mad::WB), 0x1234_5025),      // no NX
        (leaf(0x1234_5000, 0, rw | Mem::XU, Mad::WT), 0x1234_506f), // PWT
        (leaf(0x1234_5000, 0, rx, Mad::UC), 0x1234_503d),      // PCD, PWT
        (leaf(0x1234_5000, 0, rx, Mad::WC), 0x1234_50a5),      // PAT is bit 7
        (leaf(0x1234_5000, 0, rx, Mad::WP), 0x1234_50ad),      // PAT, PWT
        (leaf(0x1220_0000, 9, rx, Mad::WB), 0x1220_00a5),      // PS is bit 7
        (leaf(0x1220_0000, 9, rx, Mad::WC), 0x1220_10a5),      // PAT is bit 12
        (leaf(0x4000_0000, 18, rw, Mad::WP), NX | 0x4000_10ef),
    ] {
        assert_eq!(HPT.leaf(l) & !SOFT, want, "{l:x?}");
    }
}

#[test]
fn guests_execute_what_is_executable_for_either_mode() {
    for (perms, nx) in [(Mem::R, 1), (Mem::R | Mem::XU, 0), (Mem::R | Mem::XS, 0), (Mem::all(), 0)] {
        assert_eq!(Hpt::nested(false).leaf(leaf(0x5000, 0, perms, Mad::WB)) >> 63, nx, "{perms:?}");
    }
}

#[test]
fn supervisor_execution_does_not_reach_user_mode() {
    let e = HPT.leaf(leaf(0x5000, 0, Mem::R | Mem::XS, Mad::WB));
    assert_eq!(e >> 63, 1);
    assert_eq!(HPT.decode(e, 0).perms, Mem::R | Mem::XS);
}

#[test]
fn what_goes_no_further_is_beside_the_permissions() {
    for order in [0, 9, 18] {
        let (free, bound) =
            (leaf(0x4000_0000, order, Mem::R, Mad::WB), leaf(0x4000_0000, order, Mem::R | BOUND, Mad::WB));
        let (a, b) = (HPT.leaf(free), HPT.leaf(bound));
        assert_eq!((a ^ b, HPT.decode(b, order / 9)), (1 << 56, bound), "hardware sees the same");
        assert!(!HPT.decode(a, order / 9).perms.contains(BOUND) && !Mem::all().contains(BOUND));
    }
}

#[test]
fn extended_leaves_have_the_architected_bits() {
    let (r, rw, all) = (Mem::R, Mem::R | Mem::W, Mem::R | Mem::W | Mem::XU);
    for (l, want) in [
        (leaf(0x1234_5000, 0, r, Mad::WB), 0x1234_5131),   // A, type 6, R
        (leaf(0x1234_5000, 0, rw, Mad::WB), 0x1234_5333),  // D, W
        (leaf(0x1234_5000, 0, all, Mad::UC), 0x1234_5307), // type 0, RWX
        (leaf(0x1234_5000, 0, all, Mad::WC), 0x1234_530f), // type 1
        (leaf(0x1234_5000, 0, all, Mad::WT), 0x1234_5327), // type 4
        (leaf(0x1234_5000, 0, all, Mad::WP), 0x1234_532f), // type 5
        (leaf(0x1220_0000, 9, all, Mad::WB), 0x1220_03b7), // bit 7: leaf
        (leaf(0x4000_0000, 18, r | Mem::XS, Mad::WB), 0x4000_01b5),
    ] {
        assert_eq!(EPT.leaf(l) & !SOFT, want, "{l:x?}");
    }
}

#[test]
fn no_entry_is_a_misconfiguration() {
    for l in all_leaves() {
        let e = EPT.leaf(l);
        assert_eq!(e & 1, 1, "writable or executable without readable: {l:x?}");
        assert!([0, 1, 4, 5, 6].contains(&(e >> 3 & 7)), "reserved memory type: {l:x?}");
        assert_eq!(e & 0x40, 0, "ignore-PAT: {l:x?}");
    }
}

#[test]
fn writes_are_granted_only_if_asked_for() {
    for l in all_leaves() {
        assert_eq!(HPT.leaf(l) & 2 != 0, l.perms.contains(Mem::W));
        assert_eq!(EPT.leaf(l) & 2 != 0, l.perms.contains(Mem::W));
        assert_eq!(HPT.leaf(l) >> 63 == 0, l.perms.contains(Mem::XU));
        assert_eq!(EPT.leaf(l) & 4 != 0, l.perms.intersects(Mem::XU | Mem::XS));
    }
}

#[test]
fn table_references_permit_all_and_are_no_leaves() {
    assert_eq!(HPT.table(0x000f_ffff_ffff_f000, 1), 0x000f_ffff_ffff_f027);
    assert_eq!(EPT.table(0x000f_ffff_ffff_f000, 1), 0x000f_ffff_ffff_f107);
    for level in 1..4 {
        assert!(HPT.present(HPT.table(0x7000, 1)) && !HPT.is_leaf(HPT.table(0x7000, 1), level));
        assert!(EPT.present(EPT.table(0x7000, 1)) && !EPT.is_leaf(EPT.table(0x7000, 1), level));
    }
    assert_eq!((HPT.table_phys(HPT.table(0x7000, 1)), EPT.table_phys(EPT.table(0x7000, 1))), (0x7000, 0x7000));
}

#[test]
fn zero_is_not_present() {
    assert!(!HPT.present(0) && !EPT.present(0));
}

#[test]
fn the_pat_gives_each_encoding_its_memory_type() {
    assert_eq!(IA32_PAT, 0x0007_0501_0007_0406);
    for (mad, memory_type) in [(Mad::WB, 6), (Mad::WT, 4), (Mad::WC, 1), (Mad::UC, 0), (Mad::WP, 5)] {
        for (order, pat_bit) in [(0, 7), (9, 12), (18, 12)] {
            let e = HPT.leaf(leaf(0, order, Mem::R, mad));
            let index = e >> 3 & 3 | (e >> pat_bit & 1) << 2;
            assert_eq!(IA32_PAT >> (8 * index) & 0xff, memory_type, "{mad:?}, order {order}");
            assert_eq!(EPT.leaf(leaf(0, order, Mem::R, mad)) >> 3 & 7, memory_type);
        }
    }
}

#[test]
fn reserved_cacheability_is_uncacheable() {
    let (bad, uc) = (leaf(0, 0, Mem::R, Mad(6)), leaf(0, 0, Mem::R, Mad::UC));
    assert_eq!(HPT.leaf(bad), HPT.leaf(uc));
    assert_eq!(EPT.leaf(bad), EPT.leaf(uc));
}

#[test]
fn the_largest_leaf_follows_the_cpu() {
    assert_eq!([true, false].map(|giant| Hpt::host(giant).max_order()), [18, 9]);
    assert_eq!([true, false].map(|giant| Ept { giant }.max_order()), [18, 9]);
}
