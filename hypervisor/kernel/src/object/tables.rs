//! Frames for page tables, as the `ptab` crate wants them.

use super::account::Account;
use crate::arch::paging;
use crate::iommu;
use crate::mem::{layout, pool};
use core::ptr::NonNull;
use ptab::{Change, Full};

/// Table frames out of an account, for one or more updates of a space; what is retired is freed by [`Tables::flushed`].
pub struct Tables {
    /// Whom new tables are charged to.
    account: Option<&'static Account>,
    /// Ready for an update.
    ready: u64,
    retired: u64,
    /// Updates have left translations in TLBs that are no longer right.
    pub stale: bool,
    /// Who walks them does not snoop: what is written goes out of the cache.
    flush: bool,
}

impl Tables {
    /// For updates that an account pays for.
    pub const fn of(account: &'static Account) -> Self {
        Tables { account: Some(account), ..Self::none() }
    }

    /// For updates of what a device walks, which may not snoop.
    pub const fn of_device(account: &'static Account, flush: bool) -> Self {
        Tables { account: Some(account), flush, ..Self::none() }
    }

    /// For what needs no new tables.
    pub const fn none() -> Self {
        Tables { account: None, ready: 0, retired: 0, stale: false, flush: false }
    }

    /// Notes what an update means for TLBs.
    pub fn note(&mut self, update: Result<Change, Full>) -> Result<(), Full> {
        self.stale |= match &update {
            Ok(c) => matches!(c, Change::Stale),
            Err(f) => f.stale,
        };
        update.map(|_| ())
    }

    /// Frees the retired frames. The caller has flushed what hardware knew of them.
    #[inline]
    pub fn flushed(mut self) {
        if self.retired != 0 {
            free_all(&mut self.retired);
        }
    }
}

fn push(list: &mut u64, frame: u64) {
    pool::set_next(frame, *list);
    *list = frame;
}

fn pop(list: &mut u64) -> Option<u64> {
    let f = *list;
    if f == 0 {
        return None;
    }
    *list = pool::next(f);
    Some(f)
}

fn free_all(list: &mut u64) {
    while let Some(f) = pop(list) {
        free(f);
    }
}

/// Frees a table frame that nothing refers to.
pub fn free(phys: u64) {
    if let Some(f) = NonNull::new(layout::virt(phys) as *mut [u8; abi::PAGE_SIZE]) {
        // SAFETY: table frames come from the pool; the caller has unlinked it.
        unsafe { pool::free(f) };
    }
}

impl ptab::TableMemory for Tables {
    fn reserve(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            match self.account.and_then(pool::alloc) {
                Some(f) => push(&mut self.ready, pool::phys(f)),
                None => {
                    free_all(&mut self.ready);
                    return None;
                }
            }
        }
        Some(())
    }

    fn alloc(&mut self) -> Option<u64> {
        let f = pop(&mut self.ready)?;
        if self.flush {
            iommu::flush_table(f);
        }
        Some(f)
    }

    fn retire(&mut self, frame: u64) {
        // Until the flush CPUs may still walk it, so its contents stay.
        push(&mut self.retired, frame);
    }

    fn read(&self, table: u64, index: usize) -> u64 {
        paging::read(table, index)
    }

    fn write(&mut self, table: u64, index: usize, entry: u64) {
        if self.flush {
            return iommu::store(table, index, entry, true);
        }
        // SAFETY: the engine writes into tables of this space only, and keeps it consistent.
        unsafe { paging::write(table, index, entry) };
    }
}
