//! The machine under the tests: instructions, tables, traps, devices, processors.

pub mod apic;
pub mod cpu;
mod memory;
pub mod paging;
pub mod serial;
pub mod smp;
pub mod tables;
pub mod trap;
pub mod user;

use core::arch::global_asm;

global_asm!(include_str!("../boot.S"), options(att_syntax));
global_asm!(include_str!("../entry.S"), options(att_syntax));
global_asm!(include_str!("../low.S"), options(att_syntax));

/// Executes instructions: `asm!` without the word `unsafe` at each place.
///
/// A test kernel provokes the CPU on purpose. What an instruction breaks is the guest, and the next test starts from a
/// machine that the runner has put in order; so the invocations have no conditions to uphold but those of `asm!`
/// itself, that registers and memory are declared.
#[macro_export]
macro_rules! x86 {
    ($($t:tt)*) => {{
        #[allow(unused_unsafe, reason = "also used inside of unsafe functions")]
        #[allow(clippy::macro_metavars_in_unsafe, reason = "that is what it is for")]
        // SAFETY: see the macro's documentation.
        unsafe { core::arch::asm!($($t)*) }
    }};
}

/// Code that is copied below 64 KiB.
mod low {
    unsafe extern "C" {
        pub static LOW_START: u8;
        pub static LOW_END: u8;
        pub static LOW_LOAD: u8;
    }
}

/// Gets everything ready: descriptor tables, low memory, interrupt controllers.
pub fn init() {
    let (start, end, from) = (&raw const low::LOW_START, &raw const low::LOW_END, &raw const low::LOW_LOAD);
    let length = end as usize - start as usize;
    // SAFETY: the link script reserves both; nobody else uses this memory.
    unsafe { core::ptr::copy_nonoverlapping(from, start as *mut u8, length) };
    tables::init();
    apic::init();
    smp::start_all();
}

/// Puts the machine in order before a test, whatever the last one did.
pub fn reset() {
    cpu::disable_interrupts();
    trap::reset();
    serial::reset();
    cpu::reset();
    paging::reset();
    tables::load(0);
    apic::reset();
    trap::clear_counts();
}

/// Switches the machine off, on any of the platforms that the kernel knows.
pub fn power_off() -> ! {
    serial::flush();
    for port in crate::spec::port::PM1A_CNT {
        // SLP_TYP 5 and SLP_EN: S5 in Ferronova's virtual machines. SLP_TYP 0: in QEMU's and Bochs'.
        cpu::out16(port, 5 << 10 | 1 << 13);
        cpu::out16(port, 1 << 13);
    }
    cpu::halt_forever()
}
