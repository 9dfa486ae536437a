//! What programs that make hypercalls by hand are made of, tests and measurements: slots of the own object space, memory that
//! is never given back, and addresses where nothing is.
//!
//! Key type: [`Slot`]. Neighbours: `rt`, which knows what is ours; the component `probe` and the perf suite, which use this.
//!
//! UNSAFETY: memory is handled by addresses, as hypercalls do. What that may break is the program only.
#![no_std]
#![allow(unsafe_code)]

extern crate alloc;

use abi::{CreatePdOp, Mad, Sel, Status, perm};
use alloc::format;
use alloc::string::String;
use core::alloc::Layout;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use parent::layout;
use rt::hypercall as hc;
use rt::own;

/// Bytes of a page.
pub const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Addresses from here on are nobody's, also in a root task.
const WINDOW: u64 = layout::UNUSED;
/// Pages below are rt's.
static NEXT_UTCB: AtomicU64 = AtomicU64::new(1 << 23);
/// In pages of 2 MiB.
static NEXT_WINDOW: AtomicU64 = AtomicU64::new(0);

/// A selector of our own; null again when it goes.
#[derive(Debug)]
pub struct Slot(pub Sel);

impl Slot {
    /// A null one.
    pub fn new() -> Slot {
        Slot(rt::sel::alloc().expect("selectors"))
    }

    /// A copy of the capability at `of` with no more than those permissions.
    pub fn masked(of: Sel, perms: u8) -> Result<Slot, String> {
        let s = Slot::new();
        done("delegation in the own object space", copy(of, s.0, perms))?;
        Ok(s)
    }

    /// A semaphore.
    pub fn sm(count: u64) -> Result<Slot, String> {
        let s = Slot::new();
        done("create_sm", hc::create_sm(s.0, own().pd, count))?;
        Ok(s)
    }

    /// A PD or a space of `pd`.
    pub fn pd(op: CreatePdOp, pd: Sel) -> Result<Slot, String> {
        let s = Slot::new();
        done("create_pd", hc::create_pd(op, s.0, pd))?;
        Ok(s)
    }
}

impl Default for Slot {
    fn default() -> Slot {
        Slot::new()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        rt::sel::free(self.0);
    }
}

/// Copies one capability inside the own object space.
pub fn copy(from: Sel, to: Sel, perms: u8) -> Result<(), Status> {
    // SAFETY: the object space holds no memory.
    unsafe { hc::ctrl_pd(own().obj, own().obj, from, to, 0, perms, Mad::WB) }
}

/// Delegates 2^`ord` pages inside the own host space; addresses in bytes.
///
/// # Safety
/// As [`hc::ctrl_pd`].
pub unsafe fn map(from: u64, to: u64, ord: u32, perms: perm::Mem) -> Result<(), Status> {
    // SAFETY: passed on.
    unsafe { hc::ctrl_pd(own().hst, own().hst, from / PAGE, to / PAGE, ord, perms.bits(), Mad::WB) }
}

/// A failure with what was tried.
pub fn done<T>(what: &str, got: Result<T, Status>) -> Result<T, String> {
    got.map_err(|s| format!("{what}: expected success, got {s:?}"))
}

/// An address, multiple of 2 MiB, where nothing is mapped and nobody else will map anything in the next 2 MiB.
pub fn window() -> u64 {
    WINDOW + NEXT_WINDOW.fetch_add(1, Relaxed) * (2 << 20)
}

/// A page address where no UTCB is yet.
pub fn utcb_page() -> u64 {
    layout::UTCBS + NEXT_UTCB.fetch_add(1, Relaxed) * PAGE
}

/// Zeroed memory that is never given back.
pub fn memory(len: usize, align: usize) -> u64 {
    let l = Layout::from_size_align(len, align).expect("a power of two");
    // SAFETY: not of size zero.
    let p = unsafe { alloc::alloc::alloc_zeroed(l) };
    assert!(!p.is_null(), "no memory");
    p.expose_provenance() as u64
}

/// A page of zeroed memory.
pub fn page() -> u64 {
    memory(abi::PAGE_SIZE, abi::PAGE_SIZE)
}

/// The word at an address of our own.
pub fn peek(addr: u64) -> u64 {
    // SAFETY: callers name mapped memory of this component.
    unsafe { core::ptr::with_exposed_provenance::<u64>(addr as usize).read_volatile() }
}

/// Sets the word at an address of our own.
pub fn poke(addr: u64, v: u64) {
    // SAFETY: callers name mapped memory that nothing in Rust refers to.
    unsafe { core::ptr::with_exposed_provenance_mut::<u64>(addr as usize).write_volatile(v) };
}
