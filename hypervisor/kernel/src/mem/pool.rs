//! The frame pool: all memory that kernel objects, page tables and capability tables are made of.

use super::layout;
use abi::PAGE_SIZE;
use core::ptr::{NonNull, write_bytes};
use spin::Mutex;

struct Pool {
    /// Freed frames, linked through their first word.
    free: Option<NonNull<FreeFrame>>,
    /// Frames from here to the end were never used.
    fresh: u64,
    end: u64,
    used: usize,
    total: usize,
}

struct FreeFrame {
    next: Option<NonNull<FreeFrame>>,
}

// SAFETY: the pool owns the frames that it links; they are reached through its lock only.
unsafe impl Send for Pool {}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: None, fresh: 0, end: 0, used: 0, total: 0 });

/// A page-aligned frame of 4 KiB that belongs to the caller.
pub type Frame = NonNull<[u8; PAGE_SIZE]>;

/// Takes the pool into use. Called once, on the boot processor.
pub fn init() {
    let mut p = POOL.lock();
    (p.fresh, p.end) = (layout::pool_start(), layout::pool_end());
    p.total = ((p.end - p.fresh) as usize) / PAGE_SIZE;
}

/// A zeroed frame.
pub fn alloc() -> Option<Frame> {
    let f = take()?;
    // SAFETY: the frame belongs to nobody else.
    unsafe { write_bytes(f.as_ptr(), 0, 1) };
    Some(f)
}

fn take() -> Option<Frame> {
    let mut p = POOL.lock();
    let f = match p.free {
        Some(f) => {
            // SAFETY: a linked frame holds a valid FreeFrame.
            p.free = unsafe { f.as_ref() }.next;
            f.cast()
        }
        None if p.fresh < p.end => {
            p.fresh += PAGE_SIZE as u64;
            NonNull::new((p.fresh - PAGE_SIZE as u64) as *mut [u8; PAGE_SIZE])?
        }
        None => return None,
    };
    p.used += 1;
    Some(f)
}

/// Gives a frame back.
///
/// # Safety
/// 1. `frame` came from [`alloc`] and was not freed since.
/// 2. Nothing refers to it any more: no pointer, no hardware table, no TLB entry.
pub unsafe fn free(frame: Frame) {
    let mut p = POOL.lock();
    let f = frame.cast::<FreeFrame>();
    // SAFETY: by (1) and (2) the frame is ours to write.
    unsafe { f.write(FreeFrame { next: p.free }) };
    p.free = Some(f);
    p.used -= 1;
}

/// A zeroed frame that goes back to the pool when its owner drops it.
pub struct Page(Frame);

impl Page {
    /// Takes a frame from the pool.
    pub fn new() -> Option<Page> {
        alloc().map(Page)
    }

    /// Takes a frame and fills it with a byte.
    pub fn filled(byte: u8) -> Option<Page> {
        let p = Page::new()?;
        // SAFETY: the frame is ours.
        unsafe { write_bytes(p.0.as_ptr(), byte, 1) };
        Some(p)
    }

    /// Where it is.
    pub fn at<T>(&self) -> NonNull<T> {
        const { assert!(size_of::<T>() <= PAGE_SIZE && align_of::<T>() <= PAGE_SIZE) };
        self.0.cast()
    }

    /// Its physical address.
    pub fn phys(&self) -> u64 {
        phys(self.0)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: nobody else owns it; what hardware knew of it, the owner has taken back before.
        unsafe { free(self.0) };
    }
}

/// Physical address of a frame.
pub fn phys(frame: Frame) -> u64 {
    layout::phys(frame.as_ptr() as u64)
}

/// Bytes in use and in all.
pub fn usage() -> (u64, u64) {
    let p = POOL.lock();
    ((p.used * PAGE_SIZE) as u64, (p.total * PAGE_SIZE) as u64)
}
