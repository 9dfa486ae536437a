//! Frames for page tables, as the `ptab` crate wants them.

use crate::arch::paging;
use crate::mem::{layout, pool};
use core::ptr::NonNull;
use ptab::{Change, Full};

/// Table frames out of the pool, for one or more updates of a space; what is retired is freed by [`Tables::flushed`].
pub struct Tables {
    retired: u64,
    /// Updates have left translations in TLBs that are no longer right.
    pub stale: bool,
}

impl Tables {
    /// No frame retired yet.
    pub const fn new() -> Self {
        Tables { retired: 0, stale: false }
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
    pub fn flushed(mut self) {
        while self.retired != 0 {
            let f = self.retired;
            self.retired = pool::next(f);
            free(f);
        }
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
    fn alloc(&mut self) -> Option<u64> {
        pool::alloc().map(pool::phys)
    }

    fn retire(&mut self, frame: u64) {
        // Until the flush CPUs may still walk it, so its contents stay.
        pool::set_next(frame, self.retired);
        self.retired = frame;
    }

    fn read(&self, table: u64, index: usize) -> u64 {
        paging::read(table, index)
    }

    fn write(&mut self, table: u64, index: usize, entry: u64) {
        // SAFETY: the engine writes into tables of this space only, and keeps it consistent.
        unsafe { paging::write(table, index, entry) };
    }
}
