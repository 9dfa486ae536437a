//! Entries for devices, against the VT-d specification (9.8) and the AMD I/O virtualization specification (2.2.3).

mod fake;

use abi::{Mad, perm::Mem};
use fake::{Memory, ROOT, lookup};
use ptab::{Change, Dma, Format, Full, Leaf, PageTable, Walker};

const VTD: Dma = Dma { walker: Walker::Vtd, levels: 4, max_order: 18 };
const AMD: Dma = Dma { walker: Walker::AmdVi, levels: 4, max_order: 18 };

fn leaf(phys: u64, order: u32, perms: Mem) -> Leaf {
    Leaf { phys, order, perms, mad: Mad::WB }
}

#[test]
fn leaves_have_the_bits_of_the_manuals() {
    let (r, w) = (Mem::R, Mem::W);
    for (l, vtd, amd) in [
        (leaf(0x1234_5000, 0, r), 0x1234_5001, 0x3000_0000_1234_5001),
        (leaf(0x1234_5000, 0, w), 0x1234_5002, 0x5000_0000_1234_5001),
        (leaf(0x1234_5000, 0, r | w), 0x1234_5003, 0x7000_0000_1234_5001),
        (leaf(0x1220_0000, 9, r | w), 0x1220_0083, 0x7000_0000_1220_0001), // AMD-Vi: next level 0 says it all
        (leaf(0x4000_0000, 18, r), 0x4000_0081, 0x3000_0000_4000_0001),
    ] {
        assert_eq!((VTD.leaf(l), AMD.leaf(l)), (vtd, amd), "{l:x?}");
    }
}

#[test]
fn what_was_encoded_is_decoded() {
    for format in [VTD, AMD] {
        for (order, phys) in [(0, 0x000f_ffff_ffff_f000), (9, 0x000f_ffff_ffe0_0000), (18, 0x000f_ffff_c000_0000)] {
            for perms in [Mem::R, Mem::W, Mem::R | Mem::W] {
                let l = leaf(phys, order, perms);
                let e = format.leaf(l);
                assert!(format.present(e) && format.is_leaf(e, order / 9));
                assert_eq!(format.decode(e, order / 9), l);
            }
        }
    }
}

#[test]
fn tables_permit_all_and_say_their_level() {
    for level in 1..5 {
        let (v, a) = (VTD.table(0x7000, level), AMD.table(0x7000, level));
        assert_eq!((v, a), (0x7003, 0x6000_0000_0000_7001 | u64::from(level) << 9));
        assert!(VTD.present(v) && !VTD.is_leaf(v, level) && AMD.present(a) && !AMD.is_leaf(a, level));
        assert_eq!((VTD.table_phys(v), AMD.table_phys(a)), (0x7000, 0x7000));
    }
    assert!(!VTD.present(0) && !AMD.present(0));
}

#[test]
fn only_what_devices_do_is_requested() {
    let asked = Leaf { phys: 0x5000, order: 0, perms: Mem::all(), mad: Mad::UC };
    assert_eq!(Dma::request(asked), leaf(0x5000, 0, Mem::R | Mem::W));
    let code = Leaf { perms: Mem::XU | Mem::XS, ..asked };
    assert!(Dma::request(code).perms.is_empty(), "nothing is mapped");
}

#[test]
fn without_superpages_all_leaves_are_pages() {
    for walker in [Walker::Vtd, Walker::AmdVi] {
        let (mut m, mut t) = (Memory::new(), PageTable::new(ROOT, Dma { walker, levels: 3, max_order: 0 }));
        assert_eq!(t.update(&mut m, 512, 9, leaf(0x20_0000, 0, Mem::R)), Ok(Change::Fresh));
        assert_eq!(t.lookup(&m, 512 + 7).map(|l| (l.order, l.phys)), Ok((0, 0x20_7000)));
        assert_eq!(m.live(), 3);
    }
}

#[test]
fn the_levels_are_the_reach() {
    for (levels, end) in [(3, 1 << 27), (4, 1 << 36), (5, 1u64 << 45)] {
        let (mut m, mut t) = (Memory::new(), PageTable::new(ROOT, Dma { levels, ..AMD }));
        assert_eq!(t.update(&mut m, end - 1, 0, leaf(0x5000, 0, Mem::R)), Ok(Change::Fresh));
        assert_eq!(lookup(&t, &m, end - 1).map(|l| l.phys), Some(0x5000));
        assert_eq!(t.update(&mut m, end, 0, leaf(0x5000, 0, Mem::R)), Err(Full { done: 0, stale: false }));
        assert_eq!(m.live(), levels as usize);
    }
}
