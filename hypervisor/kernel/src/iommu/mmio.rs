//! How units are reached: their registers, and their tables in memory, which not all of them snoop.

use crate::arch::{paging, time};
use crate::mem::layout;
use core::arch::asm;
use core::hint::spin_loop;

/// Registers of a unit, mapped uncacheable for good.
#[derive(Clone, Copy)]
pub struct Registers(u64);

impl Registers {
    /// Maps pages of registers. Boot only: nobody else maps device pages meanwhile, so they lie in a row.
    pub fn map(base: u64, pages: u64) -> Registers {
        let first = paging::map_device(base);
        (1..pages).for_each(|p| {
            paging::map_device(base + (p << abi::PAGE_BITS));
        });
        Registers(first)
    }

    /// Reads a register of 32 bits.
    pub fn read32(self, at: u64) -> u32 {
        // SAFETY: a register of the unit, which nobody else reads or writes.
        unsafe { ((self.0 + at) as *const u32).read_volatile() }
    }

    /// Reads a register of 64 bits.
    pub fn read64(self, at: u64) -> u64 {
        // SAFETY: as above.
        unsafe { ((self.0 + at) as *const u64).read_volatile() }
    }

    /// Writes a register of 32 bits.
    pub fn write32(self, at: u64, v: u32) {
        // SAFETY: as above. What the unit does with it, the callers know.
        unsafe { ((self.0 + at) as *mut u32).write_volatile(v) };
    }

    /// Writes a register of 64 bits.
    pub fn write64(self, at: u64, v: u64) {
        // SAFETY: as above.
        unsafe { ((self.0 + at) as *mut u64).write_volatile(v) };
    }
}

/// Waits for a unit, a tenth of a second at most. `false`: it did not come true.
pub fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    let end = time::now() + time::frequency() / 10;
    while !done() {
        if time::now() > end {
            return done();
        }
        spin_loop();
    }
    true
}

/// Writes an entry of a table, and out of the cache if the unit does not snoop.
pub fn store(table: u64, index: usize, value: u64, flush: bool) {
    // SAFETY: tables of units and DMA spaces translate for devices, and for nobody here.
    unsafe { paging::write(table, index, value) };
    if flush {
        flush_line(table + 8 * (index as u64 & 511));
    }
}

/// Writes a table out of the cache.
pub fn flush_table(table: u64) {
    (0..abi::PAGE_SIZE as u64).step_by(64).for_each(|at| flush_line(table + at));
}

/// CLFLUSH, ordered with all stores (Intel SDM vol. 2).
fn flush_line(phys: u64) {
    // SAFETY: a frame of the pool, which is always mapped.
    unsafe { asm!("clflush [{}]", in(reg) layout::virt(phys), options(nostack, preserves_flags)) };
}
