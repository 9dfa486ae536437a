//! The window: physical memory in our own host space, at a fixed distance from its physical address.
//!
//! Three kinds of memory are visible in it, and they do not overlap: *frames* that belong to nobody yet or to a
//! component (written through [`Window::zero`] and [`Window::write`], never referenced), our own heap, and *fixed*
//! memory (modules, boot information, firmware tables), which nobody writes and so can be referenced for ever. Beside them, as
//! shared words that are only stored to: the cells of the screen.
//!
//! Key type: [`Window`].

// UNSAFETY: this module turns physical addresses into references and copies; see the three kinds above.
#![allow(unsafe_code)]

use crate::space::{MAX_ORDER, Nova};
use abi::perm::Mem;
use abi::{Hip, Mad, Status};
use core_task_logic::acpi::PhysicalMemory;
use multiboot2::{BootInformation, BootInformationHeader};
use policy::{Book, PhysRange, chunks};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where physical address 0 is.
const BASE: u64 = 0x2000_0000_0000;
/// No physical address is behind this one; keeps the window inside the user half.
const PHYS_END: u64 = 1 << 45;

/// What is visible.
#[derive(Default)]
struct Seen {
    /// Pages that are mapped.
    mapped: Vec<PhysRange>,
    /// Frames, a part of `mapped`.
    frames: Vec<PhysRange>,
}

/// Physical memory in our host space.
pub struct Window {
    nova: Nova,
    /// The kernel's own memory: never visible.
    kernel: PhysRange,
    /// Its console, whole pages.
    console: PhysRange,
    /// Its trace, whole pages.
    trace: PhysRange,
    seen: Mutex<Seen>,
}

impl Window {
    /// A window that shows nothing.
    pub fn new(nova: Nova, hip: &Hip) -> Window {
        let kernel = PhysRange { start: hip.nova_start, end: hip.nova_end };
        let console = PhysRange { start: hip.mbuf_start, end: hip.mbuf_end }.outward();
        let trace = PhysRange { start: hip.trace_start, end: hip.trace_end };
        Window { nova, kernel, console, trace, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes pages visible that are not yet.
    fn show(&self, seen: &mut Seen, range: PhysRange, perms: Mem) -> Result<(), Status> {
        let range = range.outward();
        if range.end > PHYS_END || overlap(range, self.kernel) {
            return Err(Status::BadPar);
        }
        self.show_unchecked(seen, range, perms)
    }

    fn show_unchecked(&self, seen: &mut Seen, range: PhysRange, perms: Mem) -> Result<(), Status> {
        for r in Book::new([range], seen.mapped.iter().copied()).free_ranges() {
            let (from, to) = (r.start >> abi::PAGE_BITS, (BASE + r.start) >> abi::PAGE_BITS);
            for c in chunks(from, to, r.len() >> abi::PAGE_BITS, MAX_ORDER) {
                let (nova, own) = (self.nova.hst, self.nova.own_hst);
                // SAFETY: the window's addresses are used for nothing else, and these are not mapped yet.
                unsafe { rt::hypercall::ctrl_pd(nova, own, c.src, c.dst, c.order, perms.bits(), Mad::WB)? };
            }
            seen.mapped.push(*r);
        }
        Ok(())
    }

    /// Declares free memory: it is visible from now on, and can be zeroed and written. Must be disjoint from all that
    /// [`Window::fixed`] and [`Window::heap`] got: the book of physical memory takes care of that.
    pub fn add_frames(&self, frames: &[PhysRange]) -> Result<(), Status> {
        let mut seen = self.seen();
        for &f in frames {
            self.show(&mut seen, f, Mem::R | Mem::W)?;
            seen.frames.push(f);
        }
        Ok(())
    }

    /// Memory that nobody writes. `None` if it cannot be shown, or overlaps frames.
    pub fn fixed(&self, range: PhysRange) -> Option<&'static [u8]> {
        let mut seen = self.seen();
        if seen.frames.iter().any(|f| overlap(*f, range)) {
            return None;
        }
        self.show(&mut seen, range, Mem::R).ok()?;
        // SAFETY: 1. visible just now, and never taken away; 2. not a frame, so nobody writes it.
        Some(unsafe { std::slice::from_raw_parts(pointer(range.start), range.len() as usize) })
    }

    /// Zeroes what is behind a module on its last page, which others are going to see. Nothing else may be there, and the
    /// page may not be visible yet; it is not afterwards.
    pub fn zero_behind(&self, module: PhysRange) -> Result<(), Status> {
        let behind = PhysRange { start: module.end, end: module.outward().end };
        if behind.is_empty() {
            return Ok(());
        }
        let mut seen = self.seen();
        let page = behind.outward();
        if seen.mapped.iter().any(|m| overlap(*m, page)) {
            return Err(Status::BadPar);
        }
        self.show(&mut seen, page, Mem::R | Mem::W)?;
        // SAFETY: visible and writable just now, and nothing that can be referenced.
        unsafe { pointer(behind.start).write_bytes(0, behind.len() as usize) };
        seen.mapped.pop();
        let at = (BASE + page.start) >> abi::PAGE_BITS;
        let (nova, own) = (self.nova.hst, self.nova.own_hst);
        // SAFETY: the page that was shown above; nothing refers to it.
        unsafe { rt::hypercall::ctrl_pd(nova, own, page.start >> abi::PAGE_BITS, at, 0, 0, Mad::WB) }
    }

    /// Gives memory to our own allocator. It must come from the book and never go back.
    pub fn heap(&self, range: PhysRange) -> Result<(), Status> {
        self.show(&mut self.seen(), range, Mem::R | Mem::W)?;
        // SAFETY: visible for good, and taken from the book, so nobody else uses it.
        let taken = unsafe { rt::root::set_ram(BASE + range.start, range.len()) };
        if taken { Ok(()) } else { Err(Status::MemObj) }
    }

    /// The boot loader's information.
    pub fn boot_information(&self, phys: u64) -> Option<(BootInformation<'static>, PhysRange)> {
        let total = self.fixed(PhysRange::new(phys, 8))?;
        let total = u32::from_le_bytes(total[..4].try_into().ok()?);
        let range = PhysRange::new(phys, total.into());
        let bytes = self.fixed(range)?;
        // SAFETY: the whole of it is visible and not written any more.
        let info = unsafe { BootInformation::load(bytes.as_ptr().cast::<BootInformationHeader>()) }.ok()?;
        Some((info, range))
    }

    /// Where frames are in our memory; `None` if they are not all frames.
    fn frames(&self, range: PhysRange) -> Option<*mut u8> {
        let inside = |f: &PhysRange| f.start <= range.start && range.end <= f.end;
        self.seen().frames.iter().any(inside).then(|| pointer(range.start))
    }

    /// Fills frames (whole pages) with zeros. `false` if they are none.
    pub fn zero(&self, range: PhysRange) -> bool {
        let Some(p) = self.frames(range.outward()) else { return false };
        let words = (range.outward().len() / 8) as usize;
        // SAFETY: frames are visible, writable and never referenced; a page is aligned for words.
        unsafe { std::slice::from_raw_parts_mut(p.cast::<u64>(), words) }.fill(0);
        true
    }

    /// Copies into frames. `false` if they are none.
    pub fn write(&self, phys: u64, bytes: &[u8]) -> bool {
        let Some(p) = self.frames(PhysRange::new(phys, bytes.len() as u64)) else { return false };
        // SAFETY: frames are visible and writable; nothing that can be referenced overlaps them.
        unsafe { p.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        true
    }

    /// Memory that others write while we look: the memory-buffer console, headers of rings.
    pub fn shared_words(&self, range: PhysRange) -> Option<&'static [AtomicU32]> {
        if !range.start.is_multiple_of(4) {
            return None;
        }
        self.shared(range)?;
        // SAFETY: visible for good, writable, aligned, and accessed through atomics only.
        Some(unsafe { std::slice::from_raw_parts(pointer(range.start).cast(), (range.len() / 4) as usize) })
    }

    /// The same for bytes. One place must not be looked at in both ways.
    pub fn shared_bytes(&self, range: PhysRange) -> Option<&'static [AtomicU8]> {
        self.shared(range)?;
        // SAFETY: visible for good, writable, and accessed through atomics only.
        Some(unsafe { std::slice::from_raw_parts(pointer(range.start).cast(), range.len() as usize) })
    }

    /// Cells of a text screen: a device's memory. `None`: it cannot be shown, or is no device's.
    pub fn screen(&self, range: PhysRange) -> Option<&'static [AtomicU16]> {
        let mut seen = self.seen();
        if seen.mapped.iter().any(|m| overlap(*m, range.outward())) || !range.start.is_multiple_of(2) {
            return None;
        }
        self.show(&mut seen, range, Mem::R | Mem::W).ok()?;
        // SAFETY: visible for good, nothing else, aligned, and accessed through atomics only.
        Some(unsafe { std::slice::from_raw_parts(pointer(range.start).cast(), (range.len() / 2) as usize) })
    }

    /// The kernel's trace, which can only be loaded from. `None`: it cannot be shown.
    pub fn trace(&self) -> Option<&'static [AtomicU64]> {
        if self.trace.is_empty() {
            return None;
        }
        self.show_unchecked(&mut self.seen(), self.trace, Mem::R).ok()?;
        // SAFETY: visible for good, aligned, and accessed through atomics only.
        Some(unsafe { std::slice::from_raw_parts(pointer(self.trace.start).cast(), (self.trace.len() / 8) as usize) })
    }

    /// Makes frames, or the kernel's console, visible for good.
    fn shared(&self, range: PhysRange) -> Option<()> {
        if range.is_empty() {
            return None;
        }
        if self.frames(range).is_none() {
            // The kernel's console is in the kernel's memory, but it may be delegated.
            if range.outward() != self.console {
                return None;
            }
            self.show_unchecked(&mut self.seen(), range.outward(), Mem::R | Mem::W).ok()?;
        }
        Some(())
    }
}

impl PhysicalMemory for Window {
    fn bytes(&self, phys: u64, len: usize) -> Option<&[u8]> {
        self.fixed(PhysRange::new(phys, len as u64))
    }
}

fn pointer(phys: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut((BASE + phys) as usize)
}

fn overlap(a: PhysRange, b: PhysRange) -> bool {
    a.start < b.end && b.start < a.end
}
