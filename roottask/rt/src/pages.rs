//! Who has which page of our RAM.
//!
//! RAM is mapped from the start and stays mapped; giving pages back only marks them. Requests of 2 MiB and more are
//! aligned to 2 MiB and come from the top, all others from the bottom, so that a guest's memory finds a large hole.
//! Pages that were in use before are zeroed again when they are handed out as zeroed ones.
//!
//! Users: `heap`, `stack`, `tcb`. The search itself is `rtlogic::Ranges`.

use crate::lock::{Gate, Lock};
use abi::PAGE_SIZE;
use rtlogic::{End, Ranges, bits};

/// Pages of a large page; also the size from which requests are large.
const LARGE: u64 = 512;
/// The root task has two: its boot heap, and what it gives itself later. One more to grow.
const MAX_REGIONS: usize = 3;

/// What is in the pages asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Zeroes.
    Zeroed,
    /// Anything.
    Any,
}

/// A contiguous piece of RAM. Page numbers are virtual addresses / 4096.
struct Region {
    taken: Ranges<&'static mut [u64]>,
    /// Pages that may hold something else than zeroes.
    dirty: &'static mut [u64],
    base: u64,
}

impl Region {
    /// Pages that are taken.
    fn in_use(&self) -> u64 {
        self.taken.end() - self.base - self.taken.free_count()
    }

    fn alloc(&mut self, count: u64, align: u64, content: Content) -> Option<u64> {
        let (align, end) = if count >= LARGE { (align.max(LARGE), End::High) } else { (align, End::Low) };
        let first = self.taken.alloc(count, align, end)?;
        if content == Content::Zeroed {
            self.scrub(first, count);
        }
        let at = (first - self.base) as usize;
        bits::set(self.dirty, at, at + count as usize);
        Some(first)
    }

    /// Zeroes those of the pages that are dirty. They belong to nobody but the caller of `alloc` now.
    fn scrub(&mut self, first: u64, count: u64) {
        let (mut at, end) = ((first - self.base) as usize, (first - self.base + count) as usize);
        while let Some(from) = bits::next(self.dirty, at, end, true) {
            let to = bits::next(self.dirty, from, end, false).unwrap_or(end);
            let p = ((self.base + from as u64) * PAGE_SIZE as u64) as *mut u8;
            // SAFETY: these pages are inside the region, mapped writable, and have just been taken from the free ones.
            unsafe { p.write_bytes(0, (to - from) * PAGE_SIZE) };
            at = to;
        }
    }
}

static REGIONS: Lock<[Option<Region>; MAX_REGIONS]> = Lock::new([const { None }; MAX_REGIONS]);

pub fn gate() -> &'static Gate {
    REGIONS.gate()
}

/// Adds RAM: `len` bytes from `base` (both whole pages). Its books lie in its own first pages. `false`: no room for
/// the books, or too many regions.
///
/// # Safety
/// The memory must be mapped writable for good and used by nobody else. `content` must be true.
pub unsafe fn add(base: u64, len: u64, content: Content) -> bool {
    let pages = len / PAGE_SIZE as u64;
    let words = pages.div_ceil(64) as usize;
    let books = (2 * words * size_of::<u64>()).div_ceil(PAGE_SIZE) as u64;
    if books >= pages {
        return false;
    }
    // SAFETY: the first `books` pages are ours (contract), large enough for both slices, aligned, and reserved below.
    let (taken, dirty) = unsafe {
        let p = base as *mut u64;
        p.write_bytes(0, 2 * words);
        (core::slice::from_raw_parts_mut(p, words), core::slice::from_raw_parts_mut(p.add(words), words))
    };
    if content == Content::Any {
        bits::set(dirty, 0, pages as usize);
    }
    let first = base / PAGE_SIZE as u64;
    let mut region = Region { taken: Ranges::new(taken, first, pages), dirty, base: first };
    region.taken.reserve(first, books)
        && REGIONS.with(|r| r.iter_mut().find(|s| s.is_none()).map(|slot| *slot = Some(region))).is_some()
}

/// Takes `count` adjacent pages whose first page number is a multiple of `align` (a power of two).
pub fn alloc(count: u64, align: u64, content: Content) -> Option<*mut u8> {
    let page = REGIONS.with(|r| r.iter_mut().flatten().find_map(|r| r.alloc(count, align, content)))?;
    Some((page * PAGE_SIZE as u64) as *mut u8)
}

/// Gives pages back, all or any part of what [`alloc`] gave. `false`: they were not taken.
///
/// # Safety
/// Nobody uses them any more.
pub unsafe fn free(p: *mut u8, count: u64) -> bool {
    if !p.addr().is_multiple_of(PAGE_SIZE) {
        return false;
    }
    let page = (p.addr() / PAGE_SIZE) as u64;
    REGIONS.with(|r| r.iter_mut().flatten().any(|r| r.taken.free(page, count).is_ok()))
}

/// Bytes of RAM that are in use.
pub fn in_use() -> u64 {
    REGIONS.with(|r| r.iter().flatten().map(Region::in_use).sum::<u64>()) * PAGE_SIZE as u64
}

/// Bytes to whole pages.
pub const fn whole(len: usize) -> u64 {
    len.div_ceil(PAGE_SIZE) as u64
}
