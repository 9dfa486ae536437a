//! The frame pool: all memory that kernel objects, page tables and capability tables are made of. Each frame in use is
//! charged to an account.

use super::{inject, layout};
use crate::object::account::Account;
use abi::PAGE_SIZE;
use core::ptr::{NonNull, write_bytes};
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};
use spin::Mutex;

/// Most frames that the pool can have: 64 MiB.
const MAX_FRAMES: usize = 1 << 14;
const WORD: usize = u64::BITS as usize;

struct Pool {
    base: u64,
    /// A set bit is a frame in use, or one beyond the end.
    used: [u64; MAX_FRAMES / WORD],
    total: usize,
    in_use: usize,
    /// No frame is free in the words below.
    hint: usize,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { base: 0, used: [u64::MAX; MAX_FRAMES / WORD], total: 0, in_use: 0, hint: 0 });

/// For each frame another one, by number and 1, or 0: lists of frames whose contents have to stay.
static NEXT: [AtomicU16; MAX_FRAMES] = [const { AtomicU16::new(0) }; MAX_FRAMES];

/// For each frame in use the account that it is charged to: where in the image or pool, in units of [`ACCOUNT_ALIGN`].
static OWNERS: [AtomicU32; MAX_FRAMES] = [const { AtomicU32::new(0) }; MAX_FRAMES];
const ACCOUNT_ALIGN: u64 = align_of::<Account>() as u64;

fn number_at(virt: u64) -> usize {
    (virt - layout::pool_start()) as usize / PAGE_SIZE % MAX_FRAMES
}

fn number(phys: u64) -> usize {
    number_at(layout::virt(phys))
}

/// The account that the frame at an address is charged to.
///
/// # Safety
/// The frame is in use, and stays so while the reference is.
pub unsafe fn owner<T>(at: NonNull<T>) -> &'static Account {
    let n = OWNERS[number_at(at.as_ptr() as u64)].load(Relaxed);
    // SAFETY: written when the frame was taken; the account stays as long as something is charged to it.
    unsafe { &*((layout::KERNEL_BASE + n as u64 * ACCOUNT_ALIGN) as *const Account) }
}

fn set_owner(first: usize, count: usize, a: &'static Account) {
    let n = ((a as *const Account as u64 - layout::KERNEL_BASE) / ACCOUNT_ALIGN) as u32;
    OWNERS[first..first + count].iter().for_each(|o| o.store(n, Relaxed));
}

/// Links a frame that the caller owns to another one, or to none (0).
pub fn set_next(phys: u64, next: u64) {
    let n = if next == 0 { 0 } else { number(next) + 1 };
    NEXT[number(phys)].store(n as u16, Relaxed);
}

/// The frame that it is linked to; 0: none.
pub fn next(phys: u64) -> u64 {
    match NEXT[number(phys)].load(Relaxed) {
        0 => 0,
        n => layout::phys(layout::pool_start() + (n as u64 - 1) * PAGE_SIZE as u64),
    }
}

/// A page-aligned frame of 4 KiB that belongs to the caller.
pub type Frame = NonNull<[u8; PAGE_SIZE]>;

impl Pool {
    fn is_used(&self, i: usize) -> bool {
        self.used[i / WORD] & 1 << (i % WORD) != 0
    }

    /// The lowest free frame.
    fn take(&mut self) -> Option<usize> {
        let word = (self.hint..self.used.len()).find(|w| self.used[*w] != u64::MAX)?;
        self.hint = word;
        let i = word * WORD + self.used[word].trailing_ones() as usize;
        self.mark(i, true);
        Some(i)
    }

    /// The highest `count` free frames in a row: single frames come from the other end.
    fn take_row(&mut self, count: usize) -> Option<usize> {
        let mut run = 0;
        for i in (0..self.total).rev() {
            run = if self.is_used(i) { 0 } else { run + 1 };
            if run == count {
                (i..i + count).for_each(|i| self.mark(i, true));
                return Some(i);
            }
        }
        None
    }

    fn mark(&mut self, i: usize, used: bool) {
        if used {
            self.used[i / WORD] |= 1 << (i % WORD);
            self.in_use += 1;
        } else {
            self.used[i / WORD] &= !(1 << (i % WORD));
            self.in_use -= 1;
            self.hint = self.hint.min(i / WORD);
        }
    }

    fn at(&self, i: usize) -> Option<Frame> {
        NonNull::new((self.base + (i * PAGE_SIZE) as u64) as *mut [u8; PAGE_SIZE])
    }
}

/// Takes the pool into use and returns how many frames it has. Called once, on the boot processor.
pub fn init() -> u32 {
    let mut p = POOL.lock();
    p.base = layout::pool_start();
    p.total = (((layout::pool_end() - p.base) as usize) / PAGE_SIZE).min(MAX_FRAMES);
    for i in 0..p.total {
        p.used[i / WORD] &= !(1 << (i % WORD));
    }
    p.total as u32
}

/// A zeroed frame.
pub fn alloc(a: &'static Account) -> Option<Frame> {
    let f = take(a, 1)?;
    // SAFETY: the frame belongs to nobody else.
    unsafe { write_bytes(f.as_ptr(), 0, 1) };
    Some(f)
}

/// Frames in a row, charged to an account, with whatever is in them.
fn take(a: &'static Account, count: usize) -> Option<Frame> {
    if inject::fails() || !a.charge(count as u32) {
        return None;
    }
    let mut p = POOL.lock();
    let first = if count == 1 { p.take() } else { p.take_row(count) };
    let Some(i) = first else {
        drop(p);
        a.refund(count as u32);
        return None;
    };
    set_owner(i, count, a);
    p.at(i)
}

/// Zeroed frames in a row, for good.
pub fn row(a: &'static Account, count: usize) -> Option<Frame> {
    let f = take(a, count)?;
    // SAFETY: the frames belong to nobody else.
    unsafe { write_bytes(f.as_ptr(), 0, count) };
    Some(f)
}

/// N frames in a row that go back to the pool when their owner drops them.
pub struct Pages<const N: usize>(Frame);

impl<const N: usize> Pages<N> {
    /// Takes frames and fills them with a byte.
    pub fn filled(a: &'static Account, byte: u8) -> Option<Self> {
        let f = take(a, N)?;
        // SAFETY: N frames that are ours.
        unsafe { write_bytes(f.as_ptr(), byte, N) };
        Some(Pages(f))
    }

    /// Where they are.
    pub fn at<T>(&self) -> NonNull<T> {
        const { assert!(size_of::<T>() <= PAGE_SIZE * N) };
        self.0.cast()
    }

    /// Physical address of the first.
    pub fn phys(&self) -> u64 {
        phys(self.0)
    }
}

impl<const N: usize> Drop for Pages<N> {
    fn drop(&mut self) {
        for i in 0..N {
            // SAFETY: each is a frame of ours, as for `Page`.
            unsafe { free(self.0.add(i)) };
        }
    }
}

/// Gives a frame back.
///
/// # Safety
/// 1. `frame` came from [`alloc`] and was not freed since.
/// 2. Nothing refers to it any more: no pointer, no hardware table, no TLB entry.
pub unsafe fn free(frame: Frame) {
    // SAFETY: (1); the account stays until the refund, which nothing here follows.
    let a = unsafe { owner(frame) };
    POOL.lock().mark(number_at(frame.as_ptr() as u64), false);
    a.refund(1);
}

/// A zeroed frame that goes back to the pool when its owner drops it.
pub struct Page(Frame);

impl Page {
    /// Takes a frame from the pool.
    pub fn new(a: &'static Account) -> Option<Page> {
        alloc(a).map(Page)
    }

    /// Takes a frame and fills it with a byte.
    pub fn filled(a: &'static Account, byte: u8) -> Option<Page> {
        let p = Page::new(a)?;
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

    /// Its physical address, for somebody who frees it otherwise, or never.
    pub fn into_phys(self) -> u64 {
        let at = self.phys();
        core::mem::forget(self);
        at
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
    ((p.in_use * PAGE_SIZE) as u64, (p.total * PAGE_SIZE) as u64)
}
