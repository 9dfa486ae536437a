//! Random updates against the model: results, atomicity, and every point of memory exhaustion.

mod fake;

use abi::{Mad, perm::Mem};
use fake::{Memory, Model, Op, ROOT, lookup};
use proptest::prelude::*;
use ptab::{Change, Dma, Ept, Foreign, Format, Full, Hpt, Leaf, PageTable, Walker};

/// Aligned ranges that often overlap: a few gigabytes around two boundaries of top-level entries.
fn op() -> impl Strategy<Value = Op> {
    let order = prop_oneof![4 => 0..=3u32, 2 => 8..=10u32, 2 => 17..=18u32, 1 => 0..=18u32];
    let place = prop_oneof![Just(0u64), Just((1 << 27) - (1 << 18)), Just(1 << 27)];
    let near = prop_oneof![0..2048u64, 0..(1u64 << 19)];
    // Often the frame that a larger mapping of the same kind would give the page, so that updates agree.
    let phys = prop_oneof![3 => Just(None), 1 => (0..(1u64 << 20)).prop_map(Some)];
    let perms = prop_oneof![2 => Just(0u8), 2 => Just(3), 1 => 0..16u8];
    let mad = prop_oneof![4 => Just(0u32), 1 => 0..5u32];
    (order, place, near, phys, perms, mad).prop_map(|(order, place, near, phys, perms, mad)| {
        let page = (place + near) >> order << order;
        let frame = phys.map_or(page, |f| f >> order << order);
        let perms = Mem::from_bits_truncate(perms);
        Op { page, order, target: Leaf { phys: frame << 12, order: 0, perms, mad: Mad(mad) } }
    })
}

fn agree<F: Format>(table: &PageTable<F>, mem: &Memory, model: &Model) -> Result<(), TestCaseError> {
    for page in model.samples() {
        prop_assert_eq!(lookup(table, mem, page), model.get(page), "page {:#x}", page);
    }
    Ok(())
}

/// Pages whose translation may change under an update, and neighbours.
fn watched(op: &Op) -> Vec<u64> {
    let size = 1 << op.order;
    let inside = [0, 1, size / 3, size / 2, size - 1].map(|o| op.page + o);
    let around = [op.page.wrapping_sub(1), op.end(), op.page ^ 511, op.page ^ 512, op.page ^ (1 << 18)];
    inside.into_iter().chain(around).filter(|p| p >> 36 == 0).collect()
}

/// The time at which hardware reads each level, anything from all at once to spread over the update.
fn walk_times(stores: usize, seed: [u16; 4]) -> [usize; 4] {
    let mut times = seed.map(|s| usize::from(s) % (stores + 1));
    times.sort_unstable();
    times
}

/// A walker, however slow, finds each page as before or as after; what it finds at once never goes back.
fn atomic<F: Format>(
    mem: &Memory,
    format: F,
    op: &Op,
    before: &Model,
    after: &Model,
    seeds: &[[u16; 4]],
) -> Result<(), TestCaseError> {
    let stores = mem.stores;
    for page in watched(op) {
        let (old, new) = (before.get(page), after.get(page));
        for seed in seeds {
            let found = mem.walk_at(format, page, walk_times(stores, *seed));
            prop_assert!(found == old || found == new, "page {:#x}: {:x?} -> {:x?} -> {:x?}", page, old, found, new);
        }
        let mut changed = false;
        for time in (0..=stores).step_by(1 + stores / 64) {
            let found = mem.walk_at(format, page, [time; 4]);
            prop_assert!(found == new || !changed && found == old, "page {:#x} at {}", page, time);
            changed |= found == new && old != new;
        }
    }
    Ok(())
}

/// The short way for a page comes to the same, or to nothing.
fn one_page_at_once<F: Format>(
    mut table: PageTable<F>,
    mem: &Memory,
    op: &Op,
    after: &Model,
) -> Result<(), TestCaseError> {
    let (mut mem, mut same) = (mem.clone(), mem.clone());
    let Some(change) = table.update_page(&mut mem, op.page, op.target) else {
        prop_assert_eq!(mem.stores, 0);
        return Ok(());
    };
    agree(&table, &mem, after)?;
    prop_assert_eq!(Ok(change), table.update(&mut same, op.page, 0, op.target));
    prop_assert_eq!((mem.stores, mem.live()), (same.stores, same.live()));
    Ok(())
}

fn updates_match_the_model<F: Format>(format: F, ops: &[Op], seeds: &[[u16; 4]]) -> Result<(), TestCaseError> {
    let (mut table, mut mem, mut model) = (PageTable::new(ROOT, format), Memory::new(), Model::new());
    for op in ops {
        let before = model.clone();
        model.apply(op);
        mem.forget();
        if op.order == 0 {
            one_page_at_once(table, &mem, op, &model)?;
        }
        let change = table.update(&mut mem, op.page, op.order, op.target);
        prop_assert_eq!(mem.reserved, 0, "all that was reserved is in the table");
        agree(&table, &mem, &model)?;
        atomic(&mem, format, op, &before, &model, seeds)?;
        if change == Ok(Change::Fresh) {
            prop_assert_eq!(mem.retired(), 0);
            for page in watched(op) {
                prop_assert!(before.get(page).is_none() || before.get(page) == model.get(page));
            }
        }
        mem.flush();
    }
    let (portion, mut before) = (1 + ops.len() as u32 % 4, mem.live() as u32);
    while !table.prune(&mut mem, usize::MAX, portion) {
        // No more than a portion at a time, and no less.
        prop_assert_eq!(mem.live() as u32 + portion, before);
        before -= portion;
        mem.flush();
    }
    prop_assert!(before - mem.live() as u32 <= portion);
    prop_assert_eq!(mem.live(), 1, "only the root is left");
    Ok(())
}

/// Runs the last of `ops` with room for 0, 1, 2 ... frames until it succeeds.
fn failures_leave_a_consistent_table<F: Format>(format: F, ops: &[Op]) -> Result<(), TestCaseError> {
    let (mut table, mut mem, mut model) = (PageTable::new(ROOT, format), Memory::new(), Model::new());
    let Some((last, first)) = ops.split_last() else { return Ok(()) };
    for op in first {
        fake::run(&mut table, &mut mem, op);
        mem.flush();
        model.apply(op);
    }
    for budget in 0.. {
        let (mut table, mut mem) = (table, mem.clone());
        mem.budget = budget;
        let live = mem.live();
        let mut expected = model.clone();
        let result = table.update(&mut mem, last.page, last.order, last.target);
        let Err(Full { done, stale }) = result else {
            expected.apply(last);
            return agree(&table, &mem, &expected);
        };
        for page in 0..done {
            let target = Leaf { phys: last.target.phys + (page << 12), ..last.target };
            expected.apply(&Op { page: last.page + page, order: 0, target });
        }
        agree(&table, &mem, &expected)?;
        prop_assert!(done > 0 || mem.live() == live, "a failure adds no tables");
        prop_assert_eq!(mem.reserved, 0);
        prop_assert!(stale || mem.retired() == 0);
        mem.budget = usize::MAX;
        expected.apply(last);
        fake::run(&mut table, &mut mem, last);
        agree(&table, &mem, &expected)?;
    }
    Ok(())
}

/// Formats for devices. Superpages or not is as in the other formats.
fn dma() -> impl Strategy<Value = Dma> {
    let walker = prop_oneof![Just(Walker::Vtd), Just(Walker::AmdVi)];
    (walker, 3..=5u32, 1..=2u32).prop_map(|(walker, levels, superpages)| Dma {
        walker,
        levels,
        max_order: 9 * superpages,
    })
}

/// What a DMA space makes of an update: well in reach of three levels, and only what devices can do.
fn for_devices(op: Op) -> Op {
    Op { page: op.page & ((1 << 26) - 1), order: op.order, target: Dma::request(op.target) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn host_updates_match_the_model(
        ops in proptest::collection::vec(op(), 1..24),
        seeds in proptest::array::uniform8(any::<[u16; 4]>()),
        giant: bool,
    ) {
        updates_match_the_model(Hpt::host(giant), &ops, &seeds)?;
    }

    #[test]
    fn extended_updates_match_the_model(
        ops in proptest::collection::vec(op(), 1..24),
        seeds in proptest::array::uniform8(any::<[u16; 4]>()),
        giant: bool,
    ) {
        updates_match_the_model(Foreign::Ept(Ept { giant }), &ops, &seeds)?;
    }

    #[test]
    fn nested_updates_match_the_model(
        ops in proptest::collection::vec(op(), 1..24),
        seeds in proptest::array::uniform8(any::<[u16; 4]>()),
        giant: bool,
    ) {
        updates_match_the_model(Foreign::Npt(Hpt::nested(giant)), &ops, &seeds)?;
    }

    #[test]
    fn dma_updates_match_the_model(
        ops in proptest::collection::vec(op().prop_map(for_devices), 1..16),
        seeds in proptest::array::uniform8(any::<[u16; 4]>()),
        format in dma(),
    ) {
        updates_match_the_model(Foreign::Dma(format), &ops, &seeds)?;
    }

    #[test]
    fn dma_failures_leave_a_consistent_table(
        ops in proptest::collection::vec(op().prop_map(for_devices), 1..6),
        format in dma(),
    ) {
        failures_leave_a_consistent_table(format, &ops)?;
    }

    #[test]
    fn host_failures_leave_a_consistent_table(ops in proptest::collection::vec(op(), 1..8), giant: bool) {
        failures_leave_a_consistent_table(Hpt::host(giant), &ops)?;
    }

    #[test]
    fn nested_failures_leave_a_consistent_table(ops in proptest::collection::vec(op(), 1..8), giant: bool) {
        failures_leave_a_consistent_table(Hpt::nested(giant), &ops)?;
    }

    #[test]
    fn extended_failures_leave_a_consistent_table(ops in proptest::collection::vec(op(), 1..8), giant: bool) {
        failures_leave_a_consistent_table(Ept { giant }, &ops)?;
    }
}

#[test]
fn failure_in_the_middle_of_a_range_reports_the_pages_done() {
    let mut mem = Memory::new();
    let mut table = PageTable::new(ROOT, Hpt::host(false));
    let rw = Mem::R | Mem::W;
    // 2 MiB of misaligned frames across two tables: the second table is one too many.
    mem.budget = 3;
    let target = Leaf { phys: 0x7000, order: 0, perms: rw, mad: Mad::WB };
    assert_eq!(table.update(&mut mem, 256, 9, target), Err(Full { done: 256, stale: false }));
    assert_eq!(lookup(&table, &mem, 511).map(|m| m.phys), Some(0x7000 + 255 * 0x1000));
    assert_eq!(lookup(&table, &mem, 512), None);
    let moved = Leaf { phys: 0x8000, ..target };
    assert_eq!(table.update(&mut mem, 256, 9, moved), Err(Full { done: 256, stale: true }));
    mem.budget = 1;
    assert_eq!(table.update(&mut mem, 256, 9, moved), Ok(Change::Fresh));
}
