//! Thread control blocks: what FS points to. Thread-local data of the program lies directly below (variant II of the
//! ELF TLS ABI), the fields that compiled code knows are at the offsets glibc has them.
//!
//! Key types: [`Tcb`], [`Image`] (the PT_TLS segment).

use crate::lock::{self, StartCell};
use crate::pages::{self, Content};
use crate::portal::Handler;
use crate::stack::Stack;
use crate::{random, rpc as receive, sel};
use abi::{PAGE_SIZE, Sel, Status, Utcb};
use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::ptr::{null_mut, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use parent::layout;
use rpc::Window;

/// pthread keys; std needs one or two.
pub const KEYS: usize = 64;

/// Start routine of a pthread.
pub type Routine = extern "C" fn(*mut u8) -> *mut u8;

/// A thread. While it runs only the thread itself writes to it, but for `state` and `next`.
#[repr(C)]
pub struct Tcb {
    /// fs:0x00: the block itself; how TLS accesses find it.
    me: *mut Tcb,
    _r0: [usize; 4],
    /// fs:0x28: read by C code built with -fstack-protector.
    canary: u64,
    _r1: [usize; 2],
    pub errno: Cell<i32>,
    /// Thread number, from 1.
    pub id: u32,
    /// See `thread`.
    pub state: AtomicU64,
    /// List of detached threads, see `thread`.
    pub next: Cell<*mut Tcb>,
    /// Semaphore for futex, join and sleep: at any time the thread waits for one of them at most.
    pub sem: Sel,
    pub ec: Sel,
    pub sc: Sel,
    /// On which it runs.
    pub cpu: u16,
    pub utcb: *mut Utcb,
    pub stack: Stack,
    /// Pages of this block, TLS included.
    block: *mut u8,
    block_pages: u64,
    pub routine: Option<Routine>,
    pub arg: *mut u8,
    pub result: Cell<*mut u8>,
    /// How far below the component's priority the threads run that this one spawns.
    pub spawn_lower: Cell<u64>,
    /// CPU of the threads that this one spawns.
    pub spawn_cpu: Cell<u16>,
    /// The UTCB is in someone's hands.
    pub utcb_taken: Cell<bool>,
    /// The thread is writing output; what it prints now goes the direct way.
    pub in_output: Cell<bool>,
    /// Where capabilities arrive.
    pub window: Cell<Window>,
    /// Of a portal thread.
    pub handler: UnsafeCell<Option<Handler>>,
    pub keys: UnsafeCell<[*mut u8; KEYS]>,
}

/// The calling thread's block.
pub fn me() -> *mut Tcb {
    let p;
    // SAFETY: every thread sets FS before anything else runs, and fs:0 is constant.
    unsafe { asm!("mov {}, fs:0", out(reg) p, options(nostack, pure, readonly, preserves_flags)) };
    p
}

/// The calling thread's block, for the fields that are cells.
pub fn my() -> &'static Tcb {
    // SAFETY: it lives as long as the thread, and fields without a cell are constant while the thread runs.
    unsafe { &*me() }
}

pub fn set_errno(e: i32) {
    my().errno.set(e);
}

/// Makes `t` the calling thread's block.
///
/// # Safety
/// `t` must be complete, and nobody else's.
pub unsafe fn enter(t: *mut Tcb) {
    // SAFETY: the kernel has CR4.FSGSBASE on and keeps FS for each thread.
    unsafe { asm!("wrfsbase {}", in(reg) t, options(nostack, preserves_flags)) };
}

/// The program's PT_TLS segment.
#[derive(Clone, Copy)]
pub struct Image {
    pub start: *const u8,
    pub file_len: usize,
    pub mem_len: usize,
    pub align: usize,
}

// SAFETY: read-only memory of the program.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

static IMAGE: StartCell<Image> = StartCell::new();

/// # Safety
/// As [`StartCell::set`]; the image must be that of the program.
pub unsafe fn init(image: Image) {
    // SAFETY: passed on.
    unsafe { IMAGE.set(image) };
}

impl Image {
    /// Distance from the start of the thread-local data to the block: what linkers compute for x86-64.
    fn offset(&self) -> usize {
        let end = self.start.addr().wrapping_neg().wrapping_sub(self.mem_len);
        self.mem_len + (end & (self.align - 1))
    }
}

static IDS: AtomicU32 = AtomicU32::new(1);

/// A new block for a thread on `cpu` with its thread-local data and its semaphore. EC, SC, stack and UTCB are the caller's to fill in.
pub fn create(cpu: u16) -> Result<*mut Tcb, Status> {
    let image = IMAGE.get();
    let align = image.align.max(align_of::<Tcb>()).max(64);
    let below = image.offset().next_multiple_of(align);
    let count = pages::whole(below + size_of::<Tcb>());
    let block = pages::alloc(count, (align / PAGE_SIZE).max(1) as u64, Content::Zeroed).ok_or(Status::MemObj)?;
    let sem = lock::new_semaphore(0).inspect_err(|_| {
        // SAFETY: just taken, not used.
        unsafe { pages::free(block, count) };
    })?;
    // SAFETY: the pages hold the data and the block behind it; the block is at a multiple of its alignment, and all
    // zero is valid for its fields but for those that are written here. The image is the program's.
    unsafe {
        let t = block.add(below).cast::<Tcb>();
        block.add(below - image.offset()).copy_from_nonoverlapping(image.start, image.file_len);
        t.write(Tcb {
            me: t,
            _r0: [0, t.addr(), 0, 0],
            // The lowest byte is zero so that no string copy can write it.
            canary: random::number() & !0xff,
            _r1: [0; 2],
            errno: Cell::new(0),
            id: IDS.fetch_add(1, Ordering::Relaxed),
            state: AtomicU64::new(0),
            next: Cell::new(null_mut()),
            sem,
            ec: 0,
            sc: 0,
            cpu,
            utcb: null_mut(),
            stack: Stack::foreign(0, 0),
            block,
            block_pages: count,
            routine: None,
            arg: null_mut(),
            result: Cell::new(null_mut()),
            spawn_lower: Cell::new(0),
            spawn_cpu: Cell::new(cpu),
            utcb_taken: Cell::new(false),
            in_output: Cell::new(false),
            window: Cell::new(Window::default()),
            handler: UnsafeCell::new(None),
            keys: UnsafeCell::new([null_mut(); KEYS]),
        });
        Ok(t)
    }
}

/// Frees all that a thread has.
///
/// # Safety
/// The thread does not run any more, or never did, and nobody has a pointer to the block.
pub unsafe fn destroy(t: *mut Tcb) {
    // SAFETY: contract.
    let (ec, sc, sem, stack, block, pages) =
        unsafe { ((*t).ec, (*t).sc, (*t).sem, (*t).stack, (*t).block, (*t).block_pages) };
    // SAFETY: contract.
    receive::retire(unsafe { (*t).window.get() });
    // 0 is never from the allocator, so what was not created is left alone.
    [sc, ec, sem].into_iter().for_each(sel::free);
    crate::stack::free(stack);
    // SAFETY: contract.
    unsafe { pages::free(block, pages) };
}

static NEXT_UTCB: AtomicU64 = AtomicU64::new(1);

/// A fresh page for a UTCB or an APIC page. Numbers are not used twice: 2^24 of them fit below the stacks, and so no
/// new UTCB can meet one that the kernel has not taken away yet.
pub fn new_utcb_page() -> u64 {
    layout::UTCBS + NEXT_UTCB.fetch_add(1, Ordering::Relaxed) * PAGE_SIZE as u64
}

/// The page of [`new_utcb_page`] as pointer.
pub fn utcb_at(page: u64) -> *mut Utcb {
    with_exposed_provenance_mut(page as usize)
}
