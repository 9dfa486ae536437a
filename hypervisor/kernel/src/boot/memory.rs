//! The NOVA host space (spec 6.1.3.2): all of physical memory but for what the kernel protects (8.2.1).

use crate::arch::cpu::cpuid;
use crate::mem::layout;
use abi::{Mad, PAGE_BITS, perm};
use ptab::Leaf;
use spin::Mutex;

const MAX_RANGES: usize = 32;

struct Protected {
    /// Page ranges that cannot be delegated.
    ranges: [(u64, u64); MAX_RANGES],
    used: usize,
    /// Page ranges inside them that can, with those permissions.
    open: [(u64, u64, perm::Mem); 2],
}

const SHUT: (u64, u64, perm::Mem) = (0, 0, perm::Mem::empty());

static PROTECTED: Mutex<Protected> = Mutex::new(Protected { ranges: [(0, 0); MAX_RANGES], used: 0, open: [SHUT; 2] });

/// Protects a physical range.
pub fn protect(start: u64, end: u64) {
    let mut p = PROTECTED.lock();
    let i = p.used;
    assert!(i < MAX_RANGES, "too many protected ranges");
    p.ranges[i] = (start >> PAGE_BITS, end.div_ceil(1 << PAGE_BITS));
    p.used += 1;
}

/// Lets part of a protected range be delegated after all, whole pages: the memory-buffer console, the trace.
pub fn open((start, end): (u64, u64), perms: perm::Mem) {
    let mut p = PROTECTED.lock();
    let slot = p.open.iter_mut().find(|o| **o == SHUT).expect("a range to open");
    *slot = (start >> PAGE_BITS, end >> PAGE_BITS, perms);
}

/// Protects what every machine has: the MSI window, and addresses beyond the CPU's width.
pub fn protect_fixed() {
    protect(0xfee0_0000, 0xfef0_0000);
    protect(1 << width(), u64::MAX);
}

/// Bits of a physical address.
fn width() -> u8 {
    cpuid().get_processor_capacity_feature_info().map_or(36, |c| c.physical_address_bits())
}

/// Whether registers of a device may be there.
pub fn can_be_device(phys: u64) -> bool {
    phys != 0 && phys.is_multiple_of(1 << PAGE_BITS) && phys >> width() == 0 && !is_kernel(phys)
}

/// Whether an address is in the kernel's image or pool, and not open.
pub fn is_kernel(phys: u64) -> bool {
    let range = layout::phys(layout::image_start())..layout::phys(layout::pool_end());
    let page = phys >> PAGE_BITS;
    range.contains(&phys) && !PROTECTED.lock().open.iter().any(|(s, e, _)| (*s..*e).contains(&page))
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
        let open = p.open.iter().find(|(s, e, _)| *s < b && a < *e);
        if order == 0 || open.map_or(hit.is_none() || inside, |(s, e, _)| *s <= a && b <= *e) {
            let shut = if hit.is_some() { perm::Mem::empty() } else { perm::Mem::all() };
            let perms = open.map_or(shut, |o| o.2);
            return (Leaf { phys: page << PAGE_BITS, order, perms, mad }, order);
        }
        order -= 1;
    }
}
