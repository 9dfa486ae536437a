//! Updates are atomic, step by step: after each single store every page translates as before or as after, no table that is
//! linked is retired, and a walker that reads each level at another time finds nothing else either.
//!
//! [`Steps`] goes through the stores of an update one by one and looks at all pages that the store can have changed.
//! [`outcomes`] is every walk: for each level any value that the entry had then or later.

mod fake;

use abi::{Mad, perm::Mem};
use fake::{Mapping, Memory, Model, Op, ROOT};
use proptest::prelude::*;
use ptab::{Dma, Ept, Format, Hpt, Leaf, PageTable, Walker};
use std::collections::HashMap;

const RW: Mem = Mem::R.union(Mem::W);

/// Where a linked table is: the first page that it translates, and its level.
#[derive(Clone, Copy)]
struct Place {
    base: u64,
    level: u32,
}

/// The tree while the stores of one update are replayed.
struct Steps<'a, F> {
    mem: &'a Memory,
    format: F,
    before: &'a Model,
    after: &'a Model,
    linked: HashMap<u64, Place>,
    unlinked_at: HashMap<u64, usize>,
}

impl<F: Format> Steps<'_, F> {
    /// Replays. The state after 0 stores is `before`; each store may change what is below its entry, and nothing else.
    fn check(mem: &Memory, format: F, before: &Model, after: &Model) {
        let mut s = Steps { mem, format, before, after, linked: HashMap::new(), unlinked_at: HashMap::new() };
        s.link(ROOT, Place { base: 0, level: format.levels() - 1 }, 0);
        for (i, (table, index)) in mem.log.iter().enumerate() {
            // Stores to tables that are not linked yet change nothing.
            if let Some(place) = s.linked.get(table).copied() {
                s.store(*table, *index, place, i + 1);
            }
        }
        for frame in mem.retired_frames() {
            let unlinked = s.unlinked_at.get(&frame).unwrap_or_else(|| panic!("{frame:#x} is retired and linked"));
            assert!(Some(*unlinked) <= mem.retired_at(frame), "{frame:#x} was retired before it was unlinked");
        }
    }

    fn child(&self, entry: u64, level: u32) -> Option<u64> {
        (self.format.present(entry) && !self.format.is_leaf(entry, level)).then(|| self.format.table_phys(entry))
    }

    fn link(&mut self, table: u64, place: Place, time: usize) {
        assert!(self.mem.retired_at(table).is_none_or(|t| time <= t), "{table:#x} is linked after it was retired");
        assert!(self.linked.insert(table, place).is_none(), "{table:#x} is linked twice");
        self.unlinked_at.remove(&table);
        self.below(table, place, time, Self::link);
    }

    fn unlink(&mut self, table: u64, place: Place, time: usize) {
        self.linked.remove(&table);
        self.unlinked_at.insert(table, time);
        self.below(table, place, time, Self::unlink);
    }

    /// Does something with each table below one.
    fn below(&mut self, table: u64, place: Place, time: usize, f: fn(&mut Self, u64, Place, usize)) {
        if place.level == 0 {
            return;
        }
        for (index, entry) in self.mem.entries_at(table, time) {
            if let Some(child) = self.child(entry, place.level) {
                let base = place.base + ((index as u64) << (9 * place.level));
                f(self, child, Place { base, level: place.level - 1 }, time);
            }
        }
    }

    fn store(&mut self, table: u64, index: usize, place: Place, time: usize) {
        let (old, new) = (self.mem.entry_at(table, index, time - 1), self.mem.entry_at(table, index, time));
        let base = place.base + ((index as u64) << (9 * place.level));
        let below = Place { base, level: place.level.saturating_sub(1) };
        if let Some(child) = self.child(old, place.level) {
            self.unlink(child, below, time);
        }
        if let Some(child) = self.child(new, place.level) {
            self.link(child, below, time);
        }
        self.translations(table, index, place, time);
    }

    /// All translations below an entry are old or new, and none has become old again.
    fn translations(&self, table: u64, index: usize, place: Place, time: usize) {
        let entry = self.mem.entry_at(table, index, time);
        let base = place.base + ((index as u64) << (9 * place.level));
        if let Some(child) = self.child(entry, place.level) {
            let below = Place { base, level: place.level - 1 };
            return (0..512).for_each(|i| self.translations(child, i, below, time));
        }
        let leaf = self.format.present(entry).then(|| self.format.decode(entry, place.level));
        let range = base..base + (1 << (9 * place.level));
        // Between these pages nothing begins: neither in the models nor in the leaf.
        for page in self.before.starts(range.clone()).chain(self.after.starts(range)) {
            let found = leaf.map(|l| Mapping::of(l, page));
            let (old, new) = (self.before.get(page), self.after.get(page));
            assert!(found == old || found == new, "page {page:#x}, store {time}: {old:x?} -> {found:x?} -> {new:x?}");
            let was = self.mem.walk_at(self.format, page, [time - 1; 4]);
            assert!(found == new || was == old, "page {page:#x}, store {time}: new, and then old again");
        }
    }
}

/// Everything that a walk can find which reads the levels in order, each at any time since the history began.
fn outcomes<F: Format>(mem: &Memory, format: F, page: u64) -> Vec<Option<Mapping>> {
    fn walk<F: Format>(
        mem: &Memory,
        f: F,
        page: u64,
        (table, level): (u64, u32),
        t: usize,
        out: &mut Vec<Option<Mapping>>,
    ) {
        for v in mem.versions(table, (page >> (9 * level)) as usize % 512).into_iter().filter(|v| v.until >= t) {
            let found = match f.present(v.entry) {
                false => None,
                true if f.is_leaf(v.entry, level) => Some(Mapping::of(f.decode(v.entry, level), page)),
                // As early as it can be: what can be read later can be read then.
                true => {
                    walk(mem, f, page, (f.table_phys(v.entry), level - 1), v.from.max(t), out);
                    continue;
                }
            };
            if !out.contains(&found) {
                out.push(found);
            }
        }
    }
    let mut out = Vec::new();
    walk(mem, format, page, (ROOT, format.levels() - 1), 0, &mut out);
    out
}

/// Runs updates and checks each; the TLB is flushed after those for which `flush` says so. Until then a walker may find
/// what a page was at any time since the last flush.
fn check<F: Format>(format: F, ops: &[Op], mut flush: impl FnMut(usize) -> bool) {
    let (mut table, mut mem) = (PageTable::new(ROOT, format), Memory::new());
    let mut models = vec![Model::new()];
    // By a memory that forgets after each update, since its replay begins there.
    let (mut stepped, mut single) = (table, Memory::new());
    for (i, op) in ops.iter().enumerate() {
        let before = models.last().expect("one at least").clone();
        let mut after = before.clone();
        after.apply(op);
        single.forget();
        fake::run(&mut stepped, &mut single, op);
        Steps::check(&single, format, &before, &after);
        single.flush();

        fake::run(&mut table, &mut mem, op);
        let pages: Vec<u64> =
            before.samples().chain(after.samples()).filter(|p| p >> (9 * format.levels()) == 0).collect();
        models.push(after);
        for page in pages {
            for found in outcomes(&mem, format, page) {
                assert!(
                    models.iter().any(|m| m.get(page) == found),
                    "page {page:#x}: {found:x?}, after {:x?}",
                    &ops[..=i]
                );
            }
        }
        if flush(i) {
            mem.flush();
            mem.forget();
            models.drain(..models.len() - 1);
        }
    }
}

/// Updates around the first boundary between tables: single pages, pairs, 2 MiB and 1 GiB; nothing, two kinds of
/// permissions for the same memory, and other memory.
fn alphabet(orders: &[(u64, u32)]) -> Vec<Op> {
    let targets = [(1 << 30, Mem::empty()), (1 << 30, RW), (1 << 30, Mem::R), (2 << 30, RW)];
    let op = |page: u64, order, (base, perms)| Op::new(page, order, base + (page << 12), perms);
    orders.iter().flat_map(|(page, order)| targets.map(|t| op(*page, *order, t))).collect()
}

const MANY: &[(u64, u32)] = &[(0, 0), (1, 0), (511, 0), (512, 0), (0, 1), (0, 9), (512, 9), (0, 10), (0, 18)];
const FEW: &[(u64, u32)] = &[(0, 0), (512, 0), (0, 9), (0, 18)];

/// All pairs out of many, all triples out of few, without a flush between them.
fn exhaust<F: Format>(format: F) {
    let many = alphabet(MANY);
    for (a, b) in many.iter().flat_map(|a| many.iter().map(move |b| (a, b))) {
        check(format, &[*a, *b], |_| false);
    }
    let few = alphabet(FEW);
    for (a, b) in few.iter().flat_map(|a| few.iter().map(move |b| (a, b))) {
        few.iter().for_each(|c| check(format, &[*a, *b, *c], |_| false));
    }
}

#[test]
fn small_host_cases() {
    exhaust(Hpt::host(true));
}

#[test]
fn small_extended_cases() {
    exhaust(Ept { giant: true });
}

#[test]
fn small_nested_cases() {
    exhaust(Hpt::nested(true));
}

#[test]
fn small_cases_of_vtd() {
    exhaust(Dma { walker: Walker::Vtd, levels: 4, max_order: 18 });
}

#[test]
fn small_cases_of_amdvi() {
    exhaust(Dma { walker: Walker::AmdVi, levels: 3, max_order: 18 });
}

/// Orders, places and targets that split, merge and replace tables of every level.
fn op() -> impl Strategy<Value = Op> {
    let order = prop_oneof![3 => 0..=2u32, 3 => 8..=10u32, 1 => 17..=18u32];
    let place = prop_oneof![3 => 0..1024u64, 1 => 0..(1u64 << 19)];
    let shift = prop_oneof![3 => Just(0u64), 1 => 0..(1u64 << 20)];
    let perms = prop_oneof![1 => Just(0u8), 3 => Just(3), 1 => Just(1)];
    (order, place, shift, perms).prop_map(|(order, place, shift, perms)| {
        let (page, shift) = (place >> order << order, shift >> order << order);
        let target = Leaf { phys: (page + shift) << 12, order: 0, perms: Mem::from_bits_truncate(perms), mad: Mad::WB };
        Op { page, order, target }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any updates, any flushes between them.
    #[test]
    fn every_step_is_atomic(
        ops in proptest::collection::vec(op(), 1..10),
        flushes: [bool; 10],
        giant: bool,
        kind in 0..5,
    ) {
        let flush = |i: usize| flushes[i];
        let max_order = if giant { 18 } else { 9 };
        match kind {
            0 => check(Hpt::host(giant), &ops, flush),
            1 => check(Ept { giant }, &ops, flush),
            2 => check(Hpt::nested(giant), &ops, flush),
            3 => check(Dma { walker: Walker::Vtd, levels: 3, max_order }, &ops, flush),
            _ => check(Dma { walker: Walker::AmdVi, levels: 4, max_order }, &ops, flush),
        }
    }
}

/// The check can fail: an update in two steps, first nothing and then the new leaf, is found out.
#[test]
#[should_panic(expected = "page 0x0, store 1")]
fn break_before_make_is_not_atomic() {
    let format = Hpt::host(true);
    let (mut table, mut mem, mut before) = (PageTable::new(ROOT, format), Memory::new(), Model::new());
    let first = Op::new(0, 0, 0x5000, RW);
    fake::run(&mut table, &mut mem, &first);
    before.apply(&first);
    mem.forget();
    let mut after = before.clone();
    for op in [Op::new(0, 0, 0, Mem::empty()), Op::new(0, 0, 0x6000, RW)] {
        fake::run(&mut table, &mut mem, &op);
        after.apply(&op);
    }
    Steps::check(&mem, format, &before, &after);
}

/// And so is a frame that is freed before the flush: a slow walker is still in it.
#[test]
#[should_panic(expected = "no entry found for key")]
fn a_retired_table_has_to_stay() {
    let format = Hpt::host(true);
    let (mut table, mut mem) = (PageTable::new(ROOT, format), Memory::new());
    fake::run(&mut table, &mut mem, &Op::new(0, 0, 0x5000, RW));
    mem.forget();
    fake::run(&mut table, &mut mem, &Op::new(0, 9, 0x20_0000, RW));
    mem.flush();
    outcomes(&mem, format, 0);
}
