//! The engine: walks, maps, revokes and tears down trees of any [`Format`].

use crate::spec::{ENTRIES, INDEX_BITS};
use crate::{Format, Leaf, TableMemory};
use abi::PAGE_BITS;

/// Nothing is mapped in the aligned block of that order around the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// log2 pages.
    pub order: u32,
}

/// What an update did to translations that hardware may have cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing, or entries turned from not present to present: no flush, because absence is never cached.
    Fresh,
    /// A present entry was changed or removed: flush. Retired frames may be reused after that.
    Stale,
}

/// Memory for tables ran out, or the range is beyond the reach of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Pages of the range, from its start, that are as asked for. The others are as they were, and no table was added
    /// for them.
    pub done: u64,
    /// As [`Change::Stale`], for the pages that are done.
    pub stale: bool,
}

/// A page table: its root frame and its format. The frames belong to the [`TableMemory`] that is passed along.
#[derive(Clone, Copy, Debug)]
pub struct PageTable<F: Format> {
    root: u64,
    format: F,
}

/// Index of a page's entry in the top-level table of four.
#[inline]
pub const fn top_index(page: u64) -> usize {
    index(page, 3)
}

#[inline]
const fn index(page: u64, level: u32) -> usize {
    (page >> (INDEX_BITS * level)) as usize % ENTRIES
}

/// Equal leaves in a row, or the absence of any, that an update works off.
struct Run {
    /// First page that is left.
    page: u64,
    /// Level of the entries.
    level: u32,
    /// Entries that are left.
    left: u64,
    /// What to write at `page`; `None` revokes.
    leaf: Option<Leaf>,
}

/// Where [`PageTable::descend`] ended.
enum Descent {
    /// In the table that holds the run's entries.
    Table(u64),
    /// Above it, where the pages already are as asked for.
    Done,
}

impl<F: Format> PageTable<F> {
    /// The table with that root frame. An empty one is a zeroed frame.
    pub const fn new(root: u64, format: F) -> Self {
        PageTable { root, format }
    }

    /// Physical address of the root frame.
    #[inline]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// log2 of the pages in reach.
    #[inline]
    fn reach(&self) -> u32 {
        INDEX_BITS * self.format.levels()
    }

    /// The format.
    #[inline]
    pub fn format(&self) -> F {
        self.format
    }

    /// The leaf, as stored, that translates a page number.
    #[inline]
    pub fn lookup(&self, mem: &impl TableMemory, page: u64) -> Result<Leaf, Hole> {
        if page >> self.reach() != 0 {
            return Err(Hole { order: self.reach() });
        }
        let mut table = self.root;
        for level in (0..self.format.levels()).rev() {
            let entry = mem.read(table, index(page, level));
            if !self.format.present(entry) {
                return Err(Hole { order: INDEX_BITS * level });
            }
            if self.format.is_leaf(entry, level) {
                return Ok(self.format.decode(entry, level));
            }
            table = self.format.table_phys(entry);
        }
        Err(Hole { order: 0 }) // not reached: each entry of level 0 is a leaf
    }

    /// Maps 2^order pages from `page` on to `target.phys` and what follows, or revokes them if `target.perms` is empty.
    ///
    /// `page` and `target.phys` are aligned to the order; `target.order` is ignored. Leaves are as large as order,
    /// alignment and format allow; larger ones in the way are split; subtables in the way are replaced by the leaf
    /// and retired, those that a revocation merely empties stay. Orders up to 18 take at most 512 stores besides splits.
    ///
    /// A concurrent walker finds each page translated as before or as after, never half of each. A page that is
    /// mapped before and after is mapped all the time. Only pages that share a leaf change at the same moment.
    pub fn update(&mut self, mem: &mut impl TableMemory, page: u64, order: u32, target: Leaf) -> Result<Change, Full> {
        if order > self.reach() || page >> self.reach() != 0 || (page + (1 << order) - 1) >> self.reach() != 0 {
            return Err(Full { done: 0, stale: false });
        }
        let mut run = self.run(page, order, target);
        let mut stale = false;
        while run.left > 0 {
            let count = run.left.min((ENTRIES - index(run.page, run.level)) as u64);
            match self.descend(mem, &run) {
                Some(Descent::Table(table)) => stale |= self.fill(mem, table, &run, count as usize),
                Some(Descent::Done) => {}
                None => return Err(Full { done: run.page - page, stale }),
            }
            run.advance(count);
        }
        Ok(if stale { Change::Stale } else { Change::Fresh })
    }

    /// [`update`](Self::update) of one page, if the table of its entry is there. `None`: nothing has happened.
    pub fn update_page(&mut self, mem: &mut impl TableMemory, page: u64, target: Leaf) -> Option<Change> {
        if page >> self.reach() != 0 {
            return None;
        }
        let mut table = self.root;
        for level in (1..self.format.levels()).rev() {
            let entry = mem.read(table, index(page, level));
            if !self.format.present(entry) || self.format.is_leaf(entry, level) {
                return None;
            }
            table = self.format.table_phys(entry);
        }
        let entry = if target.perms.is_empty() { 0 } else { self.format.leaf(Leaf { order: 0, ..target }) };
        let (i, old) = (index(page, 0), mem.read(table, index(page, 0)));
        if old == entry {
            return Some(Change::Fresh);
        }
        mem.write(table, i, entry);
        Some(if self.format.present(old) { Change::Stale } else { Change::Fresh })
    }

    /// Unlinks and retires up to `portion` tables of the first `top_entries` entries of the root, which itself stays;
    /// `true`: there are no more. Together with the last one all entries are gone.
    pub fn prune(&mut self, mem: &mut impl TableMemory, top_entries: usize, mut portion: u32) -> bool {
        self.prune_table(mem, self.root, self.format.levels() - 1, top_entries.min(ENTRIES), &mut portion)
    }

    /// Prunes below a table at `level`, from the bottom. `true`: it has no subtables, and no entries.
    fn prune_table(&self, mem: &mut impl TableMemory, table: u64, level: u32, entries: usize, left: &mut u32) -> bool {
        for i in 0..if level > 0 { entries } else { 0 } {
            let entry = mem.read(table, i);
            if !self.format.present(entry) {
                continue;
            }
            if self.format.is_leaf(entry, level) {
                mem.write(table, i, 0);
                continue;
            }
            let sub = self.format.table_phys(entry);
            if !self.prune_table(mem, sub, level - 1, ENTRIES, left) || *left == 0 {
                return false;
            }
            *left -= 1;
            mem.write(table, i, 0);
            mem.retire(sub);
        }
        true
    }

    /// Chooses the largest entries for a range.
    #[inline]
    fn run(&self, page: u64, order: u32, target: Leaf) -> Run {
        if target.perms.is_empty() {
            let level = (order.min(page.trailing_zeros()) / INDEX_BITS).min(self.format.levels() - 1);
            return Run { page, level, left: 1 << (order - INDEX_BITS * level), leaf: None };
        }
        let aligned = (page | target.phys >> PAGE_BITS).trailing_zeros();
        let level = order.min(aligned).min(self.format.max_order()) / INDEX_BITS;
        let leaf = Leaf { order: INDEX_BITS * level, ..target };
        Run { page, level, left: 1 << (order - leaf.order), leaf: Some(leaf) }
    }

    /// Walks to the table that holds the run's first entry; adds what is missing, splits what is in the way.
    /// `None`: no memory for that.
    #[inline]
    fn descend(&self, mem: &mut impl TableMemory, run: &Run) -> Option<Descent> {
        let mut table = self.root;
        let mut whole = true;
        for level in (run.level + 1..self.format.levels()).rev() {
            let i = index(run.page, level);
            let entry = mem.read(table, i);
            table = if !self.format.present(entry) {
                if run.leaf.is_none() {
                    return Some(Descent::Done);
                }
                Self::provide(mem, &mut whole, level - run.level)?;
                let new = mem.alloc()?;
                mem.write(table, i, self.format.table(new, level));
                new
            } else if self.format.is_leaf(entry, level) {
                let have = self.format.decode(entry, level);
                if run.agrees_with(&have) {
                    return Some(Descent::Done);
                }
                Self::provide(mem, &mut whole, level - run.level)?;
                let new = self.split(mem, have, level)?;
                mem.write(table, i, self.format.table(new, level));
                new
            } else {
                self.format.table_phys(entry)
            };
        }
        Some(Descent::Table(table))
    }

    /// Below the first table that has to be added, all have to be.
    fn provide(mem: &mut impl TableMemory, whole: &mut bool, count: u32) -> Option<()> {
        if core::mem::replace(whole, false) { mem.reserve(count) } else { Some(()) }
    }

    /// A table that translates as the leaf at `level` does, not linked yet.
    #[cold]
    fn split(&self, mem: &mut impl TableMemory, have: Leaf, level: u32) -> Option<u64> {
        let table = mem.alloc()?;
        let order = INDEX_BITS * (level - 1);
        let first = self.format.leaf(Leaf { order, ..have });
        for i in 0..ENTRIES {
            mem.write(table, i, first + ((i as u64) << (order + PAGE_BITS)));
        }
        Some(table)
    }

    /// Writes `count` entries of a run to one table. Returns whether one was present and differed.
    #[inline]
    fn fill(&self, mem: &mut impl TableMemory, table: u64, run: &Run, count: usize) -> bool {
        let first = index(run.page, run.level);
        let (mut entry, step) = match run.leaf {
            Some(leaf) => (self.format.leaf(leaf), 1 << (leaf.order + PAGE_BITS)),
            None => (0, 0),
        };
        let mut stale = false;
        for i in first..first + count {
            let old = mem.read(table, i);
            if old != entry {
                mem.write(table, i, entry);
                if self.format.present(old) {
                    stale = true;
                    if !self.format.is_leaf(old, run.level) {
                        self.retire_tree(mem, self.format.table_phys(old), run.level - 1);
                    }
                }
            }
            entry = entry.wrapping_add(step);
        }
        stale
    }

    /// Retires a table at `level`, unlinked already, and all below it.
    #[cold]
    fn retire_tree(&self, mem: &mut impl TableMemory, table: u64, level: u32) {
        if level > 0 {
            for i in 0..ENTRIES {
                let entry = mem.read(table, i);
                if self.format.present(entry) && !self.format.is_leaf(entry, level) {
                    self.retire_tree(mem, self.format.table_phys(entry), level - 1);
                }
            }
        }
        mem.retire(table);
    }
}

impl Run {
    /// Whether a larger leaf already translates the run's pages as asked for.
    fn agrees_with(&self, have: &Leaf) -> bool {
        let offset = (self.page & ((1 << have.order) - 1)) << PAGE_BITS;
        self.leaf.is_some_and(|l| l.perms == have.perms && l.mad == have.mad && l.phys == have.phys + offset)
    }

    fn advance(&mut self, entries: u64) {
        let pages = entries << (INDEX_BITS * self.level);
        self.left -= entries;
        self.page += pages;
        if let Some(leaf) = &mut self.leaf {
            leaf.phys = leaf.phys.wrapping_add(pages << PAGE_BITS);
        }
    }
}
