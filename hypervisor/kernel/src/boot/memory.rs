//! The NOVA host space (spec 6.1.3.2): all of physical memory but for what the kernel protects (8.2.1).

use crate::arch::cpu::cpuid;
use crate::mem::layout;
use abi::{Mad, PAGE_BITS, perm};
use ptab::Leaf;
use spin::Mutex;

const MAX_RANGES: usize = 24;

struct Protected {
    /// Page ranges that cannot be delegated.
    ranges: [(u64, u64); MAX_RANGES],
    used: usize,
    /// Single pages inside them that can.
    open: u64,
}

static PROTECTED: Mutex<Protected> = Mutex::new(Protected { ranges: [(0, 0); MAX_RANGES], used: 0, open: u64::MAX });

/// Protects a physical range.
pub fn protect(start: u64, end: u64) {
    let mut p = PROTECTED.lock();
    let i = p.used;
    assert!(i < MAX_RANGES, "too many protected ranges");
    p.ranges[i] = (start >> PAGE_BITS, end.div_ceil(1 << PAGE_BITS));
    p.used += 1;
}

/// Lets one page of a protected range be delegated after all: the memory-buffer console.
pub fn open(page_address: u64) {
    PROTECTED.lock().open = page_address >> PAGE_BITS;
}

/// Protects what every machine has: the MSI window, and addresses beyond the CPU's width.
pub fn protect_fixed() {
    protect(0xfee0_0000, 0xfef0_0000);
    let width = cpuid().get_processor_capacity_feature_info().map_or(36, |c| c.physical_address_bits());
    protect(1 << width, u64::MAX);
}

/// Whether an address is in the kernel's image or pool, and not open.
pub fn is_kernel(phys: u64) -> bool {
    let range = layout::phys(layout::image_start())..layout::phys(layout::pool_end());
    range.contains(&phys) && PROTECTED.lock().open != phys >> PAGE_BITS
}

/// What the NOVA host space holds at a page: itself, or nothing, and for which aligned block of at most `max_order`
/// that is the answer.
pub fn lookup(page: u64, max_order: u32, mad: Mad) -> (Leaf, u32) {
    let p = PROTECTED.lock();
    let ranges = &p.ranges[..p.used];
    let mut order = max_order;
    loop {
        let (a, b) = (page >> order << order, (page >> order << order) + (1 << order));
        let hit = ranges.iter().find(|(s, e)| *s < b && a < *e);
        let inside = hit.is_some_and(|(s, e)| *s <= a && b <= *e);
        let opened = (a..b).contains(&p.open);
        if order == 0 || (!opened && (hit.is_none() || inside)) {
            let null = hit.is_some() && !(opened && order == 0);
            let perms = if null { perm::Mem::empty() } else { perm::Mem::all() };
            return (Leaf { phys: page << PAGE_BITS, order, perms, mad }, order);
        }
        order -= 1;
    }
}
