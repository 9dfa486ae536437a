//! A memory for tables that remembers every store, and a model of what the tables should say.
#![allow(dead_code, reason = "each test binary uses its part")]

use abi::{Mad, perm::Mem};
use ptab::{Format, Leaf, PageTable, TableMemory};
use std::collections::{BTreeMap, HashMap};

pub const ROOT: u64 = 0x1000;

/// Table frames. Misuse by the engine (a store to a retired frame, a read of a free one) panics.
#[derive(Clone)]
pub struct Memory {
    frames: HashMap<u64, Box<[u64; 512]>>,
    /// Retired frames, and after how many stores.
    retired: BTreeMap<u64, usize>,
    next: u64,
    /// Frames that can still be allocated.
    pub budget: usize,
    /// Frames that were asked to be ready and are not taken yet.
    pub reserved: u32,
    /// Number of stores since [`Memory::forget`].
    pub stores: usize,
    /// By table and index: when a store came, and what it replaced.
    replaced: HashMap<u64, BTreeMap<usize, Vec<(usize, u64)>>>,
    /// Tables and indices of the stores.
    pub log: Vec<(u64, usize)>,
}

/// What an entry was for a while: the value, and the first and last number of stores before which it was that.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    pub entry: u64,
    pub from: usize,
    pub until: usize,
}

impl Memory {
    pub fn new() -> Memory {
        let frames = HashMap::from([(ROOT, Box::new([0; 512]))]);
        let (retired, replaced, log) = (BTreeMap::new(), HashMap::new(), Vec::new());
        let budget = usize::MAX;
        Memory { frames, retired, next: 2 * ROOT, budget, reserved: 0, stores: 0, replaced, log }
    }

    /// Frames in use, the root included.
    pub fn live(&self) -> usize {
        self.frames.len() - self.retired.len()
    }

    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    pub fn forget(&mut self) {
        self.stores = 0;
        self.replaced.clear();
        self.log.clear();
    }

    /// The TLB flush: retired frames are gone.
    pub fn flush(&mut self) {
        for frame in std::mem::take(&mut self.retired).into_keys() {
            self.frames.remove(&frame);
        }
    }

    /// After how many stores a frame was retired.
    pub fn retired_at(&self, frame: u64) -> Option<usize> {
        self.retired.get(&frame).copied()
    }

    /// Retired frames.
    pub fn retired_frames(&self) -> impl Iterator<Item = u64> {
        self.retired.keys().copied()
    }

    /// All that an entry was since [`Memory::forget`], in order.
    pub fn versions(&self, table: u64, index: usize) -> Vec<Version> {
        let now = self.frames[&table][index];
        let replaced = self.replaced.get(&table).and_then(|t| t.get(&index)).map_or(&[][..], |r| r);
        let ends = replaced.iter().copied().chain([(self.stores, now)]);
        let mut from = 0;
        ends.map(|(until, entry)| Version { entry, from: std::mem::replace(&mut from, until + 1), until }).collect()
    }

    /// Entry after the first `time` stores.
    pub fn entry_at(&self, table: u64, index: usize, time: usize) -> u64 {
        let replaced = self.replaced.get(&table).and_then(|t| t.get(&index));
        let later = replaced.and_then(|r| r.iter().find(|(t, _)| *t >= time));
        later.map_or_else(|| self.frames[&table][index], |(_, old)| *old)
    }

    /// All entries of a table that were not 0 after the first `time` stores.
    pub fn entries_at(&self, table: u64, time: usize) -> Vec<(usize, u64)> {
        let mut entries = *self.frames[&table].clone();
        for (index, r) in self.replaced.get(&table).into_iter().flatten() {
            if let Some((_, old)) = r.iter().find(|(t, _)| *t >= time) {
                entries[*index] = *old;
            }
        }
        entries.into_iter().enumerate().filter(|(_, e)| *e != 0).collect()
    }

    /// Translation that a walker finds which reads its top-level entry after `times[0]` stores, that below after
    /// `times[1]` and so on, all others after the last: paging-structure caches make hardware as slow as that.
    pub fn walk_at<F: Format>(&self, format: F, page: u64, times: [usize; 4]) -> Option<Mapping> {
        let mut table = ROOT;
        for (depth, level) in (0..format.levels()).rev().enumerate() {
            let time = times[depth.min(times.len() - 1)];
            let entry = self.entry_at(table, (page >> (9 * level)) as usize % 512, time);
            if !format.present(entry) {
                return None;
            }
            if format.is_leaf(entry, level) {
                return Some(Mapping::of(format.decode(entry, level), page));
            }
            table = format.table_phys(entry);
        }
        unreachable!("level 0 has leaves only")
    }
}

impl TableMemory for Memory {
    fn reserve(&mut self, count: u32) -> Option<()> {
        self.budget = self.budget.checked_sub(count as usize)?;
        self.reserved += count;
        Some(())
    }

    fn alloc(&mut self) -> Option<u64> {
        self.reserved = self.reserved.checked_sub(1).expect("a frame that was reserved");
        let frame = self.next;
        self.next += 0x1000;
        self.frames.insert(frame, Box::new([0; 512]));
        Some(frame)
    }

    fn retire(&mut self, frame: u64) {
        assert!(self.frames.contains_key(&frame), "{frame:#x} was never allocated");
        assert!(frame != ROOT && self.retired.insert(frame, self.stores).is_none(), "{frame:#x} is retired twice");
    }

    fn read(&self, table: u64, index: usize) -> u64 {
        assert!(!self.retired.contains_key(&table), "{table:#x} is read after it was retired");
        self.frames[&table][index]
    }

    fn write(&mut self, table: u64, index: usize, entry: u64) {
        assert!(!self.retired.contains_key(&table), "{table:#x} is written after it was retired");
        let slot = &mut self.frames.get_mut(&table).expect("an allocated table")[index];
        self.replaced.entry(table).or_default().entry(index).or_default().push((self.stores, *slot));
        self.log.push((table, index));
        self.stores += 1;
        *slot = entry;
    }
}

/// What one page translates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub phys: u64,
    pub perms: Mem,
    pub mad: Mad,
}

impl Mapping {
    /// Of a page within a leaf.
    pub fn of(leaf: Leaf, page: u64) -> Mapping {
        let offset = (page & ((1 << leaf.order) - 1)) << 12;
        assert_eq!(leaf.phys & ((0x1000 << leaf.order) - 1), 0, "{leaf:x?} is misaligned");
        Mapping { phys: leaf.phys + offset, perms: leaf.perms, mad: leaf.mad }
    }
}

/// An update to try.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub page: u64,
    pub order: u32,
    pub target: Leaf,
}

impl Op {
    pub fn new(page: u64, order: u32, phys: u64, perms: Mem) -> Op {
        Op { page, order, target: Leaf { phys, order: 0, perms, mad: Mad::WB } }
    }

    pub fn end(&self) -> u64 {
        self.page + (1 << self.order)
    }
}

/// Translations by interval: each key starts one that lasts to the next key. The value is that of page 0, so to speak:
/// phys is relative to the page's own address.
#[derive(Clone)]
pub struct Model(BTreeMap<u64, Option<Mapping>>);

impl Model {
    pub fn new() -> Model {
        Model(BTreeMap::from([(0, None)]))
    }

    pub fn get(&self, page: u64) -> Option<Mapping> {
        let (_, relative) = self.0.range(..=page).next_back().expect("0 is a key");
        relative.map(|m| Mapping { phys: m.phys.wrapping_add(page << 12), ..m })
    }

    pub fn apply(&mut self, op: &Op) {
        let behind = *self.0.range(..=op.end()).next_back().expect("0 is a key").1;
        self.0.retain(|k, _| !(op.page..op.end()).contains(k));
        self.0.insert(op.end(), behind);
        let Leaf { phys, perms, mad, .. } = op.target;
        let relative = Mapping { phys: phys.wrapping_sub(op.page << 12), perms, mad };
        self.0.insert(op.page, (!perms.is_empty()).then_some(relative));
    }

    /// Pages in a range at which translations begin, and its first.
    pub fn starts(&self, range: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
        [range.start].into_iter().chain(self.0.range(range.start + 1..range.end).map(|(k, _)| *k))
    }

    /// Pages on both sides of every boundary, where errors would show.
    pub fn samples(&self) -> impl Iterator<Item = u64> {
        self.0.keys().flat_map(|k| [k.saturating_sub(1), *k, k + 1]).filter(|p| p >> 36 == 0)
    }
}

/// The table's own answer.
pub fn lookup<F: Format>(table: &PageTable<F>, mem: &Memory, page: u64) -> Option<Mapping> {
    table.lookup(mem, page).ok().map(|leaf| Mapping::of(leaf, page))
}

/// Runs an update without alloc failures.
pub fn run<F: Format>(table: &mut PageTable<F>, mem: &mut Memory, op: &Op) -> ptab::Change {
    table.update(mem, op.page, op.order, op.target).expect("enough memory")
}
