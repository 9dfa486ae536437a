//! malloc and its family on dlmalloc; anonymous `mmap` and large blocks straight from `pages`.
//!
//! Large blocks bypass dlmalloc so that `calloc` of a guest's memory need not write zeroes to memory that is zero, and
//! so that they go back whole.

use crate::errno::{EINVAL, ENOMEM, ENOSYS, fail};
use crate::lock::{Gate, Lock};
use crate::pages::{self, Content};
use abi::PAGE_SIZE;
use core::ptr::null_mut;
use dlmalloc::{Allocator, Dlmalloc};

/// From this size on, blocks are pages of their own.
const LARGE: usize = 1 << 20;
/// How many such blocks there can be; more of them come from dlmalloc.
const MAX_LARGE: usize = 64;

/// dlmalloc's source of memory.
struct Source;

// SAFETY: what `pages` gives is zeroed, belongs to nobody else, and is given back at most once.
unsafe impl Allocator for Source {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let mut pages = pages::whole(size);
        loop {
            match pages::alloc(pages, 1, Content::Zeroed) {
                Some(p) => return (p, pages as usize * PAGE_SIZE, 0),
                // Little is asked for as much in advance; less may do.
                None if size <= ADVANCE && pages > 1 => pages /= 2,
                None => return (null_mut(), 0, 0),
            }
        }
    }
    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        null_mut()
    }
    fn free_part(&self, p: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: dlmalloc has given up the tail.
        unsafe { pages::free(p.wrapping_add(new), pages::whole(old - new)) }
    }
    fn free(&self, p: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc has given up all of it.
        unsafe { pages::free(p, pages::whole(size)) }
    }
    fn can_release_part(&self, _: u32) -> bool {
        true
    }
    fn allocates_zeros(&self) -> bool {
        true
    }
    fn page_size(&self) -> usize {
        PAGE_SIZE
    }
}

/// Bytes that dlmalloc asks for at least.
const ADVANCE: usize = 64 << 10;

/// A block of its own.
#[derive(Clone, Copy)]
struct Block {
    addr: usize,
    pages: u64,
}

struct Heap {
    small: Dlmalloc<Source>,
    large: [Option<Block>; MAX_LARGE],
    /// Blocks that somebody has.
    blocks: u64,
}

static HEAP: Lock<Heap> =
    Lock::new(Heap { small: Dlmalloc::new_with_allocator(Source), large: [None; MAX_LARGE], blocks: 0 });

/// How many blocks of the heap are in use: who gives back all that it has taken finds as many as before.
pub fn blocks() -> u64 {
    HEAP.with(|h| h.blocks)
}

pub fn gate() -> &'static Gate {
    HEAP.gate()
}

impl Heap {
    /// A block of its own; `None` if the table or the memory is full.
    fn alloc_large(&mut self, size: usize, align: usize, content: Content) -> Option<*mut u8> {
        let slot = self.large.iter_mut().find(|s| s.is_none())?;
        let count = pages::whole(size);
        let p = pages::alloc(count, (align / PAGE_SIZE).max(1) as u64, content)?;
        *slot = Some(Block { addr: p.addr(), pages: count });
        Some(p)
    }

    /// The table entry of a block of its own.
    fn find_large(&mut self, p: *mut u8) -> Option<&mut Option<Block>> {
        // Nearly all pointers stop here.
        if !p.addr().is_multiple_of(PAGE_SIZE) {
            return None;
        }
        self.large.iter_mut().find(|s| s.is_some_and(|b| b.addr == p.addr()))
    }

    fn alloc(&mut self, size: usize, align: usize, content: Content) -> *mut u8 {
        let block = self.find(size, align, content);
        self.blocks += u64::from(!block.is_null());
        block
    }

    fn find(&mut self, size: usize, align: usize, content: Content) -> *mut u8 {
        if size >= LARGE
            && let Some(p) = self.alloc_large(size, align, content)
        {
            return p;
        }
        // SAFETY: align is a power of two (checked by callers).
        unsafe {
            match content {
                Content::Zeroed => self.small.calloc(size, align),
                Content::Any => self.small.malloc(size, align),
            }
        }
    }

    /// # Safety
    /// `p` must be from this heap, or null.
    unsafe fn free(&mut self, p: *mut u8) {
        self.blocks -= u64::from(!p.is_null());
        if let Some(b) = self.find_large(p).and_then(Option::take) {
            // SAFETY: the owner gives it back; the table had it once.
            unsafe { pages::free(p, b.pages) };
        } else if !p.is_null() {
            // SAFETY: not one of the large ones, so it is dlmalloc's.
            unsafe { self.small.c_free(p) };
        }
    }

    /// # Safety
    /// `p` must be from this heap.
    unsafe fn realloc(&mut self, p: *mut u8, size: usize) -> *mut u8 {
        let held = match self.find_large(p) {
            Some(slot) => slot.map_or(0, |b| b.pages as usize * PAGE_SIZE),
            // SAFETY: not one of the large ones, so it is dlmalloc's, and it may stay there whatever its size.
            None => return unsafe { self.small.c_realloc(p, size) },
        };
        if size <= held && size >= held / 2 {
            return p;
        }
        let new = self.alloc(size, MIN_ALIGN, Content::Any);
        if !new.is_null() {
            // SAFETY: both blocks have at least that many bytes, and they are different blocks.
            unsafe {
                new.copy_from_nonoverlapping(p, held.min(size));
                self.free(p);
            }
        }
        new
    }
}

/// What malloc guarantees.
const MIN_ALIGN: usize = 16;

/// Sets errno if there is no memory.
fn or_enomem(p: *mut u8) -> *mut u8 {
    if p.is_null() {
        fail(ENOMEM);
    }
    p
}

#[unsafe(no_mangle)]
extern "C" fn malloc(n: usize) -> *mut u8 {
    or_enomem(HEAP.with(|h| h.alloc(n, MIN_ALIGN, Content::Any)))
}

#[unsafe(no_mangle)]
extern "C" fn calloc(a: usize, b: usize) -> *mut u8 {
    or_enomem(a.checked_mul(b).map_or(null_mut(), |n| HEAP.with(|h| h.alloc(n, MIN_ALIGN, Content::Zeroed))))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(p: *mut u8, n: usize) -> *mut u8 {
    if p.is_null() {
        return malloc(n);
    }
    // SAFETY: C's contract of realloc.
    or_enomem(HEAP.with(|h| unsafe { h.realloc(p, n) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(p: *mut u8) {
    // SAFETY: C's contract of free.
    HEAP.with(|h| unsafe { h.free(p) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut u8, align: usize, n: usize) -> i32 {
    if !align.is_power_of_two() || align < size_of::<usize>() {
        return EINVAL;
    }
    let p = HEAP.with(|h| h.alloc(n, align, Content::Any));
    if p.is_null() {
        return ENOMEM;
    }
    // SAFETY: C's contract.
    unsafe { out.write(p) };
    0
}

const PROT_READ_WRITE: i32 = 1 | 2;
const MAP_SHARED: i32 = 0x01;
const MAP_PRIVATE: i32 = 0x02;
const MAP_ANONYMOUS: i32 = 0x20;
const MAP_NORESERVE: i32 = 0x4000;
const MAP_POPULATE: i32 = 0x8000;
const MAP_STACK: i32 = 0x2_0000;
const KNOWN_FLAGS: i32 = MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE | MAP_STACK;

/// Anonymous memory, readable and writable, where we like. Anything else is refused: there are no file mappings, no
/// fixed addresses, and no page permissions to choose. Shared or private is the same with one address space.
fn map(len: usize, prot: i32, flags: i32, fd: i32) -> Result<*mut u8, i32> {
    match () {
        _ if flags & MAP_ANONYMOUS == 0 || fd != -1 => Err(ENOSYS),
        _ if flags & !KNOWN_FLAGS != 0 || prot & !PROT_READ_WRITE != 0 || prot == 0 => Err(ENOSYS),
        _ if len == 0 => Err(EINVAL),
        _ => pages::alloc(pages::whole(len), 1, Content::Zeroed).ok_or(ENOMEM),
    }
}

#[unsafe(no_mangle)]
extern "C" fn mmap64(_hint: *mut u8, len: usize, prot: i32, flags: i32, fd: i32, _off: i64) -> *mut u8 {
    map(len, prot, flags, fd).unwrap_or_else(|e| fail(e) as *mut u8)
}

#[unsafe(no_mangle)]
extern "C" fn mmap(hint: *mut u8, len: usize, prot: i32, flags: i32, fd: i32, off: i64) -> *mut u8 {
    mmap64(hint, len, prot, flags, fd, off)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(p: *mut u8, len: usize) -> i32 {
    // SAFETY: C's contract of munmap. Pages that are not taken are not touched.
    if len > 0 && unsafe { pages::free(p, pages::whole(len)) } { 0 } else { fail(EINVAL) as i32 }
}

/// Page permissions are the parent's; the guards of stacks are there without a call.
#[unsafe(no_mangle)]
extern "C" fn mprotect(_: *mut u8, _: usize, _: i32) -> i32 {
    fail(ENOSYS) as i32
}
