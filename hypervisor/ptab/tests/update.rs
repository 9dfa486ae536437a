//! Updates, one behaviour a test.

mod fake;

use abi::{Mad, perm::Mem};
use fake::{Mapping, Memory, Op, ROOT, lookup, run};
use ptab::{Change, Ept, Full, Hole, Hpt, Leaf, PageTable, TableMemory, top_index};

const HPT: Hpt = Hpt::host(true);
const RW: Mem = Mem::R.union(Mem::W);

fn empty() -> (PageTable<Hpt>, Memory) {
    (PageTable::new(ROOT, HPT), Memory::new())
}

#[test]
fn an_empty_table_is_one_hole() {
    let (t, m) = empty();
    assert_eq!(t.lookup(&m, 5), Err(Hole { order: 27 }));
    assert_eq!(t.lookup(&m, 1 << 36), Err(Hole { order: 36 }));
    assert_eq!((t.root(), t.format()), (ROOT, HPT));
}

#[test]
fn holes_have_the_order_of_the_missing_entry() {
    let (mut t, mut m) = empty();
    run(&mut t, &mut m, &Op::new(0, 0, 0x5000, RW));
    assert_eq!(t.lookup(&m, 1), Err(Hole { order: 0 }));
    assert_eq!(t.lookup(&m, 512), Err(Hole { order: 9 }));
    assert_eq!(t.lookup(&m, 1 << 18), Err(Hole { order: 18 }));
    assert_eq!(t.lookup(&m, 1 << 27), Err(Hole { order: 27 }));
}

#[test]
fn leaves_are_as_large_as_order_and_format_allow() {
    for (giant, order, leaf_order, frames) in
        [(true, 0, 0, 4), (true, 8, 0, 4), (true, 9, 9, 3), (true, 17, 9, 3), (true, 18, 18, 2), (false, 18, 9, 3)]
    {
        let mut m = Memory::new();
        let mut t = PageTable::new(ROOT, Ept { giant });
        assert_eq!(t.update(&mut m, 1 << 18, order, Op::new(0, 0, 1 << 30, RW).target), Ok(Change::Fresh));
        let leaf = t.lookup(&m, 1 << 18).expect("mapped");
        assert_eq!((leaf.order, leaf.phys, m.live()), (leaf_order, 1 << 30, frames), "order {order}");
        let last = (1 << 18) + (1 << order) - 1;
        assert_eq!(lookup(&t, &m, last).map(|l| l.phys), Some(last << 12));
        assert_eq!(lookup(&t, &m, last + 1), None);
    }
}

#[test]
fn a_misaligned_frame_forces_small_leaves_and_stays_right() {
    let (mut t, mut m) = empty();
    run(&mut t, &mut m, &Op::new(512, 9, 0x7000, RW));
    assert_eq!(t.lookup(&m, 512 + 100).map(|l| (l.order, l.phys)), Ok((0, 0x7000 + 100 * 0x1000)));
    assert_eq!(m.live(), 4);
}

#[test]
fn a_range_that_crosses_tables_is_mapped_in_all_of_them() {
    let (mut t, mut m) = empty();
    run(&mut t, &mut m, &Op::new(256, 9, 0, RW)); // misaligned page: two halves of two tables
    for page in [256, 511, 512, 767] {
        assert_eq!(lookup(&t, &m, page).map(|l| l.phys), Some((page - 256) << 12));
    }
    assert_eq!((lookup(&t, &m, 255), lookup(&t, &m, 768)), (None, None));
}

#[test]
fn mapping_the_same_again_changes_nothing() {
    let (mut t, mut m) = empty();
    let op = Op::new(0, 10, 0x20_0000, RW);
    run(&mut t, &mut m, &op);
    m.forget();
    assert_eq!(run(&mut t, &mut m, &op), Change::Fresh);
    assert_eq!(run(&mut t, &mut m, &Op::new(3, 0, 0x20_3000, RW)), Change::Fresh, "part of a larger leaf");
    assert_eq!(m.stores, 0);
}

#[test]
fn changed_permissions_are_stale() {
    let (mut t, mut m) = empty();
    assert_eq!(run(&mut t, &mut m, &Op::new(9, 0, 0x5000, Mem::R)), Change::Fresh);
    assert_eq!(run(&mut t, &mut m, &Op::new(9, 0, 0x5000, RW)), Change::Stale);
    assert_eq!(run(&mut t, &mut m, &Op::new(8, 1, 0x4000, RW)), Change::Fresh, "page 9 is the same, page 8 is new");
    assert_eq!(run(&mut t, &mut m, &Op::new(8, 1, 0x6000, RW)), Change::Stale);
}

#[test]
fn a_large_leaf_is_split_around_a_page() {
    let (mut t, mut m) = empty();
    run(
        &mut t,
        &mut m,
        &Op { target: Leaf { mad: Mad::WC, ..Op::new(0, 0, 1 << 30, RW).target }, ..Op::new(0, 18, 0, RW) },
    );
    assert_eq!(m.live(), 2);
    assert_eq!(run(&mut t, &mut m, &Op::new(1000, 0, 0x5000, Mem::R)), Change::Stale);
    assert_eq!(m.live(), 4);
    assert_eq!(lookup(&t, &m, 1000), Some(Mapping { phys: 0x5000, perms: Mem::R, mad: Mad::WB }));
    for page in [0, 511, 512, 999, 1001, 1023, 1024, (1 << 18) - 1] {
        let want = Mapping { phys: (1 << 30) + (page << 12), perms: RW, mad: Mad::WC };
        assert_eq!(lookup(&t, &m, page), Some(want), "page {page}");
    }
    assert_eq!(t.lookup(&m, 0).map(|l| l.order), Ok(9));
    assert_eq!(t.lookup(&m, 1001).map(|l| l.order), Ok(0));
}

#[test]
fn a_leaf_replaces_whole_subtables_and_retires_their_frames() {
    let (mut t, mut m) = empty();
    run(&mut t, &mut m, &Op::new(0, 0, 0x5000, RW));
    run(&mut t, &mut m, &Op::new(512, 0, 0x6000, RW));
    assert_eq!(m.live(), 5);
    m.forget();
    assert_eq!(run(&mut t, &mut m, &Op::new(0, 18, 1 << 30, RW)), Change::Stale);
    assert_eq!((m.live(), m.retired(), m.stores), (2, 3, 1), "one store, three tables fewer");
    assert_eq!(lookup(&t, &m, 1).map(|l| l.phys), Some((1 << 30) + 0x1000));
}

#[test]
fn an_empty_subtable_counts_as_stale_when_it_goes() {
    let (mut t, mut m) = empty();
    run(&mut t, &mut m, &Op::new(0, 0, 0x5000, RW));
    run(&mut t, &mut m, &Op::new(0, 0, 0, Mem::empty()));
    assert_eq!((m.live(), lookup(&t, &m, 0)), (4, None), "a revocation of less than a table leaves the table");
    // Hardware may have cached the reference to the table.
    assert_eq!(run(&mut t, &mut m, &Op::new(0, 9, 0, RW)), Change::Stale);
    assert_eq!(m.retired(), 1);
}

#[test]
fn revoking_what_is_not_mapped_allocates_nothing() {
    let (mut t, mut m) = empty();
    m.budget = 0;
    for order in [0, 9, 12, 18, 20, 27, 36] {
        assert_eq!(run(&mut t, &mut m, &Op::new(0, order, 0x123, Mem::empty())), Change::Fresh);
    }
    assert_eq!(m.stores, 0);
}

#[test]
fn revoking_a_whole_region_needs_no_memory() {
    let (mut t, mut m) = empty();
    for page in [0, 700, 90_000] {
        run(&mut t, &mut m, &Op::new(page, 0, 0x5000, RW));
    }
    m.budget = 0;
    m.forget();
    assert_eq!(run(&mut t, &mut m, &Op::new(0, 18, 0, Mem::empty())), Change::Stale);
    assert_eq!((m.live(), m.stores), (2, 1), "PDPT and root stay");
}

#[test]
fn a_range_beyond_reach_is_refused() {
    let (mut t, mut m) = empty();
    let target = Op::new(0, 0, 0, RW).target;
    for (page, order) in [(1 << 36, 0), (u64::MAX, 0), ((1 << 36) - 1, 1), (0, 37), (0, 64), (0, u32::MAX)] {
        assert_eq!(t.update(&mut m, page, order, target), Err(Full { done: 0, stale: false }));
    }
    assert_eq!(m.stores, 0);
    assert_eq!(t.update(&mut m, (1 << 36) - 1, 0, target), Ok(Change::Fresh));
}

#[test]
fn top_index_selects_the_root_entry() {
    let (mut t, mut m) = empty();
    for page in [0, (1 << 27) - 1, 1 << 27, 300 << 27, (1 << 36) - 1] {
        run(&mut t, &mut m, &Op::new(page, 0, 0x5000, RW));
        assert_ne!(m.read(ROOT, top_index(page)), 0);
    }
    assert_eq!((0..512).filter(|i| m.read(ROOT, *i) != 0).collect::<Vec<_>>(), [0, 1, 300, 511]);
}

#[test]
fn pruning_spares_the_root_and_the_upper_entries() {
    let (mut t, mut m) = empty();
    run(&mut t, &mut m, &Op::new(5, 0, 0x5000, RW));
    run(&mut t, &mut m, &Op::new(600, 0, 0x5000, RW));
    run(&mut t, &mut m, &Op::new(1 << 18, 18, 1 << 30, RW));
    run(&mut t, &mut m, &Op::new(255 << 27, 9, 0, RW));
    run(&mut t, &mut m, &Op::new(256 << 27, 0, 0x6000, RW));
    assert_eq!(m.live(), 1 + 4 + 2 + 3);
    // From the bottom, and no more than asked for.
    assert!(!t.prune(&mut m, 256, 1));
    assert_eq!((m.live(), m.retired()), (1 + 4 + 2 + 2, 1));
    assert_eq!((lookup(&t, &m, 5), lookup(&t, &m, 600).is_some()), (None, true));
    assert!(!t.prune(&mut m, 256, 0) && m.live() == 1 + 4 + 2 + 2);
    assert!(t.prune(&mut m, 256, 100));
    assert_eq!((m.live(), m.retired()), (1 + 3, 6));
    assert_eq!(lookup(&t, &m, 5), None);
    assert_eq!(lookup(&t, &m, 256 << 27).map(|l| l.phys), Some(0x6000));
    assert!(t.prune(&mut m, usize::MAX, 3));
    assert_eq!(m.live(), 1);
    assert!(t.prune(&mut m, usize::MAX, 0));
}
