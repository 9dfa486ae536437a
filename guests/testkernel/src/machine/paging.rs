//! Page tables: a window of 1 GiB in which tests map what they like, with pages of their own.

use super::cpu;
use crate::spec::pte;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The window: PML4 entry 1.
pub const WINDOW: u64 = 1 << 39;
const TABLES: usize = 24;
const PAGES: usize = 24;

/// A page of entries.
#[repr(C, align(4096))]
pub struct Table(pub [AtomicU64; 512]);

impl Table {
    /// Empty.
    pub const fn new() -> Table {
        Table([const { AtomicU64::new(0) }; 512])
    }

    /// Its address, virtual and physical.
    pub fn at(&self) -> u64 {
        self as *const _ as u64
    }
}

/// Two megabytes on their natural boundary.
#[repr(C, align(0x200000))]
struct Large([AtomicU64; (2 << 20) / 8]);

static POOL: [Table; TABLES] = [const { Table::new() }; TABLES];
static PAGE_POOL: [Table; PAGES] = [const { Table::new() }; PAGES];
static LARGE: Large = Large([const { AtomicU64::new(0) }; (2 << 20) / 8]);
static USED: AtomicU64 = AtomicU64::new(0);

/// Physical address of one of the pages for tests.
pub fn page(n: usize) -> u64 {
    PAGE_POOL[n].at()
}

/// Physical address of 2 MiB for tests.
pub fn large_page() -> u64 {
    &raw const LARGE as u64
}

/// A word of memory by its address.
pub fn word(address: u64) -> &'static AtomicU64 {
    // SAFETY: tests give addresses that are mapped; if not, the fault is theirs.
    unsafe { AtomicU64::from_ptr(address as *mut u64) }
}

/// Forgets all of the window.
pub fn reset() {
    USED.store(0, SeqCst);
    word(cpu::boot_cr3() + 8).store(0, SeqCst);
    cpu::write_cr3(cpu::boot_cr3());
}

fn new_table() -> u64 {
    let table = &POOL[USED.fetch_add(1, SeqCst) as usize];
    table.0.iter().for_each(|e| e.store(0, SeqCst));
    table.at()
}

/// The entry for a virtual address of the window at a level: 1 is a page table, 4 the PML4. Makes the tables above it.
pub fn entry(address: u64, level: u32) -> &'static AtomicU64 {
    let mut table = cpu::boot_cr3();
    let mut at = 4;
    loop {
        let e = word(table + (address >> (12 + 9 * (at - 1)) & 0x1ff) * 8);
        if at == level {
            return e;
        }
        if e.load(SeqCst) & pte::P == 0 {
            e.store(new_table() | pte::P | pte::W | pte::U, SeqCst);
        }
        table = e.load(SeqCst) & pte::ADDRESS;
        at -= 1;
    }
}

/// Maps a page of 4 KiB in the window.
pub fn map(address: u64, physical: u64, flags: u64) {
    entry(address, 1).store(physical | flags, SeqCst);
    cpu::invlpg(address);
}

/// Maps a page of 2 MiB (level 2) or 1 GiB (level 3) in the window.
pub fn map_large(address: u64, physical: u64, level: u32, flags: u64) {
    entry(address, level).store(physical | flags | pte::PS, SeqCst);
    cpu::invlpg(address);
}
