//! The kernel's half of the address spaces.
//!
//! The last PML4 entry of every space leads to a PDPT of the CPU: image and pool (shared), devices (shared), and the
//! per-CPU part. The user half is the business of [`crate::object::hst`].

use super::cpu::cpu;
use crate::mem::{layout, pool, pool::Frame};
use crate::object::account::{Account, KERNEL};
use crate::remote;
use core::sync::atomic::{AtomicU64, Ordering::*};
use x86::{controlregs, tlb};

const P: u64 = 1;
const RW: u64 = 2;
const PWT: u64 = 8;
const PCD: u64 = 16;
const LARGE: u64 = 0x80;
const GLOBAL: u64 = 0x100;
const NX: u64 = 1 << 63;
/// In a value for CR3: keep the translations of its PCID (Intel SDM vol. 3, 5.10.4.1).
pub const NO_FLUSH: u64 = 1 << 63;
/// In it, the physical address of the root.
const ROOT: u64 = 0x000f_ffff_ffff_f000;
/// Kernel half: index of its only PML4 entry.
pub const KERNEL_SLOT: usize = 511;

static IMAGE_PD: AtomicU64 = AtomicU64::new(0);
static WINDOW_PD: AtomicU64 = AtomicU64::new(0);
static DEVICE_PT: AtomicU64 = AtomicU64::new(0);
static DEVICES: AtomicU64 = AtomicU64::new(0);

fn entry(table: u64, index: usize) -> &'static AtomicU64 {
    let e = (layout::virt(table) as *const AtomicU64).wrapping_add(index & 511);
    // SAFETY: tables are frames of the pool, which is always mapped; the index is below 512.
    unsafe { &*e }
}

/// Reads an entry of a table in the pool.
pub fn read(table: u64, index: usize) -> u64 {
    entry(table, index).load(Acquire)
}

/// Writes an entry of a table in the pool. Whoever finds it, hardware or another CPU, finds what was written before.
///
/// # Safety
/// The new entry leaves every translation that somebody relies on intact.
pub unsafe fn write(table: u64, index: usize, value: u64) {
    entry(table, index).store(value, Release);
}

fn frame() -> u64 {
    pool::phys(pool::alloc(&KERNEL).expect("pool too small to boot"))
}

fn index(virt: u64, level: u32) -> usize {
    (virt >> (12 + 9 * level)) as usize & 511
}

/// Builds the shared tables. Called once, on the boot processor.
pub fn init_shared() {
    let pd = frame();
    let mut v = layout::image_start();
    while v < layout::pool_end() {
        let slot = index(v, 1);
        if v.is_multiple_of(2 << 20) && v >= layout::pool_start() && v + (2 << 20) <= layout::pool_end() {
            // SAFETY: a table under construction.
            unsafe { write(pd, slot, layout::phys(v) | LARGE | P | RW | NX | GLOBAL) };
            v += 2 << 20;
            continue;
        }
        if read(pd, slot) == 0 {
            let pt = frame();
            // SAFETY: as above.
            unsafe { write(pd, slot, pt | P | RW) };
        }
        // SAFETY: as above.
        unsafe { write(read(pd, slot) & !0xfff, index(v, 0), layout::phys(v) | image_flags(v)) };
        v += abi::PAGE_SIZE as u64;
    }
    IMAGE_PD.store(pd, Relaxed);
    WINDOW_PD.store(frame(), Relaxed);
    DEVICE_PT.store(frame(), Relaxed);
}

fn image_flags(v: u64) -> u64 {
    if (layout::text_start()..layout::text_end()).contains(&v) {
        P | GLOBAL
    } else if (layout::text_end()..layout::rodata_end()).contains(&v) {
        P | GLOBAL | NX
    } else {
        P | RW | GLOBAL | NX
    }
}

/// Takes a frame of a CPU's part out of the view of the pool, which all CPUs share. `None`: no memory.
///
/// Only this CPU has touched it there; another may still have translations for all of a large page that is divided here.
fn conceal(phys: u64) -> Option<()> {
    let (pd, v) = (IMAGE_PD.load(Relaxed), layout::virt(phys));
    let e = read(pd, index(v, 1));
    // SAFETY: the same translations in smaller pages; then that of a frame that is reached through the CPU's part only.
    unsafe {
        if e & LARGE != 0 {
            let pt = pool::phys(pool::alloc(&KERNEL)?);
            (0..512).for_each(|i| write(pt, i, (e & !LARGE) + i as u64 * 4096));
            write(pd, index(v, 1), pt | P | RW);
        }
        write(read(pd, index(v, 1)) & !0xfff, index(v, 0), 0);
        tlb::flush(v as usize);
    }
    Some(())
}

/// Builds the part of a CPU around the frames of its [`super::cpu::Cpu`] and returns its PDPT. `None`: no memory.
pub fn build_cpu_part(cpu_frames: &[Frame]) -> Option<u64> {
    let frame = || pool::alloc(&KERNEL).map(pool::phys);
    let (pdpt, pd, pt) = (frame()?, frame()?, frame()?);
    let page = |v: u64, f: u64| {
        // SAFETY: a table under construction.
        unsafe { write(pt, index(v, 0), f | P | RW | NX) };
        conceal(f)
    };
    for i in 0..layout::STACK_LEN / 4096 {
        page(layout::STACK + i * 4096, frame()?)?;
    }
    for (i, f) in cpu_frames.iter().enumerate() {
        page(layout::CPU + i as u64 * 4096, pool::phys(*f))?;
    }
    page(layout::TSS, frame()?)?;
    let ones = pool::Page::filled(&KERNEL, 0xff)?;
    page(layout::TSS + 0x3000, ones.into_phys())?;
    for i in 0..4 {
        page(layout::IST_STACKS + (2 * i + 1) * 4096, frame()?)?;
    }
    // SAFETY: as above.
    unsafe {
        write(pdpt, 509, WINDOW_PD.load(Relaxed) | P | RW);
        write(pdpt, 510, IMAGE_PD.load(Relaxed) | P | RW);
        write(pdpt, 511, pd | P | RW);
        write(pd, index(layout::DEVICES, 1), DEVICE_PT.load(Relaxed) | P | RW);
        write(pd, 511, pt | P | RW);
    }
    Some(pdpt)
}

/// A new PML4 with the kernel half of a CPU.
pub fn new_root(a: &'static Account, cpu_pdpt: u64) -> Option<pool::Page> {
    let root = pool::Page::new(a)?;
    // SAFETY: a new table.
    unsafe { write(root.phys(), KERNEL_SLOT, cpu_pdpt | P | RW) };
    Some(root)
}

/// Whether the root of that CR3 has an entry for an address.
#[inline(always)]
pub fn has_top(cr3: u64, addr: u64) -> bool {
    read(cr3 & ROOT, ptab::top_index(addr >> abi::PAGE_BITS)) != 0
}

/// Switches this CPU to the root without user half.
pub fn enter_bare() {
    let bare = cpu().bare_root.get();
    if cpu().cr3.replace(bare) != bare {
        remote::presence().enter(bare);
        // SAFETY: a root of this CPU, whose PCID is 0.
        unsafe { set_cr3(bare) };
        remote::presence().entered();
    }
}

/// CR3 of this CPU, as it reads.
pub fn cr3() -> u64 {
    cpu().cr3.get() & !NO_FLUSH
}

/// Physical address of the page table that holds the per-CPU part.
fn cpu_pt(pdpt: u64) -> u64 {
    read(read(pdpt, 511) & !0xfff & !NX, 511) & !0xfff & !NX
}

/// Where the pool would show what this CPU has at an address of its part.
#[cfg(feature = "inject")]
pub fn pool_view(v: u64) -> u64 {
    layout::virt(read(cpu_pt(cpu().pdpt.get()), index(v, 0)) & !0xfff & !NX)
}

/// Shows two frames as the I/O permission bitmap of this CPU.
pub fn set_io_bitmap(frames: [u64; 2]) {
    for (i, f) in frames.into_iter().enumerate() {
        let v = layout::IO_BITMAP + i as u64 * 4096;
        // SAFETY: only the processor reads these pages.
        unsafe {
            write(cpu_pt(cpu().pdpt.get()), index(v, 0), f | P | NX);
            tlb::flush(v as usize);
        }
    }
}

/// Maps a device page, uncacheable, for good.
pub fn map_device(phys: u64) -> u64 {
    let n = DEVICES.fetch_add(1, Relaxed) as usize;
    assert!(n < 512, "too many device pages");
    // SAFETY: an unused entry.
    unsafe { write(DEVICE_PT.load(Relaxed), n, (phys & !0xfff) | P | RW | PWT | PCD | NX | GLOBAL) };
    layout::DEVICES + n as u64 * 4096 + (phys & 0xfff)
}

/// Shows 2 MiB at `phys` in a slot of the boot window.
pub fn set_window(slot: u64, phys: u64, writable: bool) {
    let w = if writable { RW } else { 0 };
    // SAFETY: the window is used by boot code only, which maps before it reads.
    unsafe {
        write(WINDOW_PD.load(Relaxed), slot as usize, phys | LARGE | P | NX | w);
        tlb::flush((layout::WINDOW + slot * (2 << 20)) as usize);
    }
}

/// Unmaps the first `slots` slots of the boot window.
pub fn clear_window(slots: u64) {
    for s in 0..slots {
        // SAFETY: boot is over; nobody uses the window any more.
        unsafe {
            write(WINDOW_PD.load(Relaxed), s as usize, 0);
            tlb::flush((layout::WINDOW + s * (2 << 20)) as usize);
        }
    }
}

/// Changes to another root.
///
/// # Safety
/// `cr3` names a root made by [`new_root`] for this CPU, a PCID of its own, and `NO_FLUSH` only if nothing that the
/// CPU may have cached for that PCID is wrong.
pub unsafe fn set_cr3(cr3: u64) {
    // SAFETY: the kernel half is the same in all roots of this CPU.
    unsafe { controlregs::cr3_write(cr3) };
}
