//! Descriptor tables: GDT, TSS, IDT.

use super::cpu::cpu;
use crate::mem::layout;

use core::arch::asm;
use spin::Once;
use x86::bits64::segmentation::Descriptor64;
use x86::dtables::{DescriptorTablePointer, lgdt, lidt, load_ldtr};
use x86::segmentation::{BuildDescriptor, DescriptorBuilder, GateDescriptorBuilder, SegmentSelector, load_cs, load_ss};
use x86::{Ring, task};

/// Kernel code.
pub const KERNEL_CS: u16 = 0x08;
/// Kernel stack.
pub const KERNEL_SS: u16 = 0x10;
/// User stack and data, with RPL 3. SYSRET wants it right before user code.
pub const USER_SS: u16 = 0x1b;
/// User code, with RPL 3.
pub const USER_CS: u16 = 0x23;
/// Task-state segment.
pub const TSS: u16 = 0x28;

/// Offset of the I/O permission bitmap in the TSS.
const IO_BITMAP_OFFSET: u16 = 0x1000;
/// The segment ends with a byte of ones behind the bitmap (Intel SDM vol. 1, 20.5.2).
const TSS_LIMIT: u64 = 0x3000;

/// Task-state segment (Intel SDM vol. 3, 9.7).
#[repr(C, packed(4))]
struct Tss {
    _r0: u32,
    rsp: [u64; 3],
    _r1: u64,
    ist: [u64; 7],
    _r2: [u16; 5],
    io_map: u16,
}

/// Where the CPU finds the stack for traps from user mode.
pub const RSP0: u64 = layout::TSS + core::mem::offset_of!(Tss, rsp) as u64;

fn tss() -> *mut Tss {
    layout::TSS as *mut Tss
}

/// Sets where a trap from user mode pushes its frame.
pub fn set_trap_stack(end: u64) {
    // SAFETY: the TSS of this CPU.
    unsafe { (&raw mut (*tss()).rsp[0]).write_unaligned(end) };
}

/// Switches the I/O permission bitmap on or off.
pub fn enable_io_bitmap(on: bool) {
    let offset = if on { IO_BITMAP_OFFSET } else { u16::MAX };
    // SAFETY: the TSS of this CPU; with the bitmap on, its pages are mapped.
    unsafe { (&raw mut (*tss()).io_map).write_unaligned(offset) };
}

static IDT: Once<[Descriptor64; 256]> = Once::new();

fn ist_of(vector: usize) -> u8 {
    match vector {
        2 => 1,  // NMI
        8 => 2,  // #DF
        18 => 3, // #MC
        1 => 4,  // #DB
        _ => 0,
    }
}

/// Vectors of exceptions (Intel SDM vol. 3, 7.2).
const EXCEPTIONS: usize = 32;

fn gate(vector: usize) -> Descriptor64 {
    let entry = match vector.checked_sub(EXCEPTIONS) {
        None => &raw const super::exception_stubs as u64 + vector as u64 * 16,
        Some(n) => &raw const super::interrupt_stubs as u64 + n as u64 * 8,
    };
    let ring = if vector == 3 || vector == 4 { Ring::Ring3 } else { Ring::Ring0 };
    <DescriptorBuilder as GateDescriptorBuilder<u64>>::interrupt_descriptor(SegmentSelector::from_raw(KERNEL_CS), entry)
        .present()
        .dpl(ring)
        .ist(ist_of(vector))
        .finish()
}

/// Loads this CPU's tables.
pub fn load() {
    let t = layout::TSS;
    let gdt = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        TSS_LIMIT & 0xffff | (t & 0xff_ffff) << 16 | 0x89 << 40 | (TSS_LIMIT >> 16) << 48 | (t >> 24 & 0xff) << 56,
        t >> 32,
        0,
    ];
    cpu().gdt.set(gdt);
    let idt = IDT.call_once(|| core::array::from_fn(gate));
    // SAFETY: the tables stay where they are; selectors as above; the TSS page is mapped.
    unsafe {
        let p =
            DescriptorTablePointer { limit: (size_of_val(&gdt) - 1) as u16, base: cpu().gdt.as_ptr() as *const u64 };
        lgdt(&p);
        load_cs(SegmentSelector::from_raw(KERNEL_CS));
        load_ss(SegmentSelector::from_raw(KERNEL_SS));
        // After reset the LDT is one of 64 KiB at address 0, which is user memory.
        load_ldtr(SegmentSelector::from_raw(0));
        lidt(&DescriptorTablePointer::new(idt));
        for i in 0..4 {
            (&raw mut (*tss()).ist[i]).write_unaligned(layout::IST_STACKS + (2 * i as u64 + 2) * 4096);
        }
        enable_io_bitmap(false);
        task::load_tr(SegmentSelector::from_raw(TSS));
    }
}

/// Makes DS, ES, FS and GS null if they are not: a selector that one thread has loaded, the next could read.
pub extern "C" fn clear_data_segments() {
    // SAFETY: the kernel uses none of them, and loads the bases of FS and GS for whoever is next.
    unsafe {
        asm!("mov {a:e}, ds", "mov {b:e}, es", "or {a:e}, {b:e}", "mov {b:e}, fs", "or {a:e}, {b:e}",
             "mov {b:e}, gs", "or {a:e}, {b:e}", "jz 2f",
             "xor {a:e}, {a:e}", "mov ds, {a:e}", "mov es, {a:e}", "mov fs, {a:e}", "mov gs, {a:e}", "2:",
             a = out(reg) _, b = out(reg) _, options(nomem, nostack));
    }
}

/// Makes DS and ES null if they are not.
#[inline(always)]
pub fn clear_user_segments() {
    // SAFETY: the kernel uses neither.
    unsafe {
        asm!("mov {a:e}, ds", "mov {b:e}, es", "or {a:e}, {b:e}", "jz 2f", "xor {a:e}, {a:e}", "mov ds, {a:e}", "mov es, {a:e}",
             "2:", a = out(reg) _, b = out(reg) _, options(nomem, nostack));
    }
}

/// Loads the task register again: a VM exit leaves it with a limit that excludes the I/O bitmap.
pub fn reload_task_register() {
    let mut g = cpu().gdt.get();
    g[5] &= !(2 << 40); // busy
    cpu().gdt.set(g);
    // SAFETY: the descriptor is available again and describes the same segment.
    unsafe { task::load_tr(SegmentSelector::from_raw(TSS)) };
}

/// Address of the interrupt descriptor table.
pub fn idt_base() -> u64 {
    IDT.get().map_or(0, |t| t.as_ptr() as u64)
}
