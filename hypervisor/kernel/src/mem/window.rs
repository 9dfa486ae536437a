//! The boot-time window: reads firmware tables and boot modules anywhere in physical memory, before the root task runs.

use super::layout;
use crate::arch::paging;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const STEP: u64 = 2 << 20;
const SLOTS: u64 = 512;
static NEXT: AtomicU64 = AtomicU64::new(0);
/// What each slot shows: tables are looked at many times.
static SHOWS: [AtomicU64; SLOTS as usize] = [const { AtomicU64::new(0) }; SLOTS as usize];

/// Maps `len` bytes at physical `addr` and returns where they are. `None`: the window is used up.
pub fn map(addr: u64, len: u64) -> Option<*const u8> {
    let first = addr & !(STEP - 1);
    let count = (addr.checked_add(len.max(1))?.checked_sub(first)?).div_ceil(STEP);
    let used = NEXT.load(Relaxed);
    let seen = (0..used).find(|s| count == 1 && SHOWS[*s as usize].load(Relaxed) == first);
    let slot = match seen {
        Some(s) => s,
        None => fill(used, first, count)?,
    };
    Some((layout::WINDOW + slot * STEP + (addr - first)) as *const u8)
}

fn fill(slot: u64, first: u64, count: u64) -> Option<u64> {
    if slot + count > SLOTS {
        return None;
    }
    NEXT.store(slot + count, Relaxed);
    for i in 0..count {
        SHOWS[(slot + i) as usize].store(first + i * STEP, Relaxed);
        paging::set_window(slot + i, first + i * STEP, false);
    }
    Some(slot)
}

/// Maps the page at `addr` writable.
pub fn map_writable(addr: u64) -> Option<*mut u8> {
    let p = map(addr, abi::PAGE_SIZE as u64)?;
    let slot = (p as u64 - layout::WINDOW) / STEP;
    paging::set_window(slot, addr & !(STEP - 1), true);
    Some(p.cast_mut())
}

/// Bytes at a physical address.
///
/// # Safety
/// Nobody writes there while the slice is in use, which ends with boot.
pub unsafe fn bytes(addr: u64, len: u64) -> Option<&'static [u8]> {
    let p = map(addr, len)?;
    // SAFETY: mapped for `len` bytes; the caller vouches for the contents.
    Some(unsafe { core::slice::from_raw_parts(p, len as usize) })
}

/// Unmaps the window.
pub fn close() {
    paging::clear_window(SLOTS);
    NEXT.store(SLOTS, Relaxed);
}
