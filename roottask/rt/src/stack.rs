//! Stacks with a guard page: pages of RAM with a second view in the window at `layout::STACKS`, above a page that
//! is not mapped. An overflow faults there; the first view of the pages in RAM stays and is not used.

use crate::lock::{Gate, Lock};
use crate::pages::{self, Content};
use crate::{domain, space};
use abi::{Mad, PAGE_SIZE, perm::Mem};
use parent::layout;
use rtlogic::{End, Ranges};

/// Granularity of the window: equally aligned views take few calls.
const UNIT: u64 = 64 << 10;
const UNIT_PAGES: u64 = UNIT / PAGE_SIZE as u64;
/// 16384 units: 1 GiB of stacks and guards.
const WORDS: usize = 256;
/// Stacks that are kept for the next thread of the same size.
const CACHED: usize = 4;

/// A stack.
#[derive(Clone, Copy)]
pub struct Stack {
    /// Lowest address of the view; the page below is not mapped.
    pub low: u64,
    /// Length in bytes.
    pub len: u64,
    /// The same pages in RAM.
    ram: *mut u8,
}

// SAFETY: a description of memory, not an access to it.
unsafe impl Send for Stack {}

impl Stack {
    /// The stack of the first thread, which is not from here.
    pub const fn foreign(low: u64, len: u64) -> Stack {
        Stack { low, len, ram: core::ptr::null_mut() }
    }

    /// First address above it.
    pub const fn top(&self) -> u64 {
        self.low + self.len
    }

    /// Units of the window: the stack's and one for the guard.
    const fn units(&self) -> u64 {
        units(self.len)
    }
}

const fn units(len: u64) -> u64 {
    len.div_ceil(UNIT) + 1
}

struct Window {
    units: Ranges<[u64; WORDS]>,
    cache: [Option<Stack>; CACHED],
}

static WINDOW: Lock<Window> = Lock::new(Window { units: Ranges::empty(), cache: [None; CACHED] });

pub fn gate() -> &'static Gate {
    WINDOW.gate()
}

/// Declares the window empty.
pub fn init() {
    WINDOW.with(|w| w.units = Ranges::new([0; WORDS], layout::STACKS / UNIT, (WORDS * 64) as u64));
}

/// A stack of at least `len` bytes. Its content is undefined.
pub fn alloc(len: usize) -> Option<Stack> {
    let len = len.max(1) as u64;
    let len = len.checked_next_multiple_of(if len < UNIT { PAGE_SIZE as u64 } else { UNIT })?;
    let cached = |w: &mut Window| w.cache.iter_mut().find(|s| s.is_some_and(|s| s.len == len)).and_then(Option::take);
    if let Some(s) = WINDOW.with(cached) {
        return Some(s);
    }
    build(len).or_else(|| {
        // What the cache holds may be what is missing.
        drain();
        build(len)
    })
}

fn build(len: u64) -> Option<Stack> {
    let count = len / PAGE_SIZE as u64;
    let ram = pages::alloc(count, UNIT_PAGES.min(count.next_power_of_two()), Content::Any)?;
    let Some(unit) = WINDOW.with(|w| w.units.alloc(units(len), 1, End::Low)) else {
        // SAFETY: just taken, not used.
        unsafe { pages::free(ram, count) };
        return None;
    };
    // The guard is the whole lowest unit; only its last page matters.
    let stack = Stack { low: (unit + 1) * UNIT, len, ram };
    if view(&stack, Mem::R | Mem::W).is_err() {
        destroy(stack);
        return None;
    }
    Some(stack)
}

/// Maps the view, or with empty permissions unmaps it.
fn view(s: &Stack, perms: Mem) -> Result<(), abi::Status> {
    let hst = domain::own().hst;
    let page = PAGE_SIZE as u64;
    // SAFETY: the destination is a part of the window that only this stack has; its pages are used through one view at
    // a time.
    unsafe { space::delegate(hst, hst, s.ram as u64 / page, s.low / page, s.len / page, perms.bits(), Mad::WB) }
}

/// Gives a stack back that nobody runs on any more.
pub fn free(s: Stack) {
    if s.ram.is_null() {
        return;
    }
    let kept = WINDOW.with(|w| w.cache.iter_mut().find(|c| c.is_none()).map(|c| *c = Some(s)));
    if kept.is_none() {
        destroy(s);
    }
}

fn destroy(s: Stack) {
    if view(&s, Mem::empty()).is_err() {
        // A view that stays must not lose its pages to someone else.
        return;
    }
    let _ = WINDOW.with(|w| w.units.free(s.low / UNIT - 1, s.units()));
    // SAFETY: nobody runs on it (contract of `free`), and the view is gone.
    unsafe { pages::free(s.ram, s.len / PAGE_SIZE as u64) };
}

fn drain() {
    while let Some(s) = WINDOW.with(|w| w.cache.iter_mut().find_map(Option::take)) {
        destroy(s);
    }
}
