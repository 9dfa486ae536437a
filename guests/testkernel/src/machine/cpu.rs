//! Privileged and other special instructions as functions, and what CPUID says. `reset` puts the registers in order.
//!
//! The functions are safe to call although they are not, see [`crate::x86!`].

use crate::spec::{cr0, cr4, dr, efer, msr, rflags};
use crate::x86;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Four registers of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// CPUID.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    Cpuid { eax: r.eax, ebx: r.ebx, ecx: r.ecx, edx: r.edx }
}

/// CPUID, or zeros if there is no such leaf.
pub fn cpuid_if_any(leaf: u32, subleaf: u32) -> Cpuid {
    let none = Cpuid { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    if leaf <= cpuid(leaf & 0x8000_0000, 0).eax { cpuid(leaf, subleaf) } else { none }
}

macro_rules! control_registers {
    ($($read:ident $write:ident $name:literal;)*) => { $(
        #[doc = concat!("MOV from ", $name)]
        pub fn $read() -> u64 {
            let v;
            x86!(concat!("mov {}, ", $name), out(reg) v, options(nostack));
            v
        }
        #[doc = concat!("MOV to ", $name)]
        pub fn $write(v: u64) {
            x86!(concat!("mov ", $name, ", {}"), in(reg) v, options(nostack));
        }
    )* };
}

control_registers! {
    read_cr0 write_cr0 "cr0";
    read_cr2 write_cr2 "cr2";
    read_cr3 write_cr3 "cr3";
    read_cr4 write_cr4 "cr4";
    read_cr8 write_cr8 "cr8";
    read_dr0 write_dr0 "dr0";
    read_dr1 write_dr1 "dr1";
    read_dr2 write_dr2 "dr2";
    read_dr3 write_dr3 "dr3";
    read_dr6 write_dr6 "dr6";
    read_dr7 write_dr7 "dr7";
}

/// RDMSR.
pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    x86!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack));
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR.
pub fn wrmsr(msr: u32, v: u64) {
    x86!("wrmsr", in("ecx") msr, in("eax") v as u32, in("edx") (v >> 32) as u32, options(nostack));
}

/// XSETBV.
pub fn xsetbv(register: u32, v: u64) {
    x86!("xsetbv", in("ecx") register, in("eax") v as u32, in("edx") (v >> 32) as u32, options(nostack));
}

/// XGETBV.
pub fn xgetbv(register: u32) -> u64 {
    let (low, high): (u32, u32);
    x86!("xgetbv", in("ecx") register, out("eax") low, out("edx") high, options(nostack));
    u64::from(high) << 32 | u64::from(low)
}

macro_rules! ports {
    ($($read:ident $write:ident $t:ty, $r:tt;)*) => { $(
        #[doc = concat!("IN to ", $r)]
        pub fn $read(port: u16) -> $t {
            let v;
            x86!(concat!("in ", $r, ", dx"), in("dx") port, out($r) v, options(nostack));
            v
        }
        #[doc = concat!("OUT from ", $r)]
        pub fn $write(port: u16, v: $t) {
            x86!(concat!("out dx, ", $r), in("dx") port, in($r) v, options(nostack));
        }
    )* };
}

ports! {
    in8 out8 u8, "al";
    in16 out16 u16, "ax";
    in32 out32 u32, "eax";
}

/// RDTSC, after everything before it.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    x86!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack));
    u64::from(high) << 32 | u64::from(low)
}

/// INVLPG.
pub fn invlpg(address: u64) {
    x86!("invlpg [{}]", in(reg) address, options(nostack));
}

/// STI.
pub fn enable_interrupts() {
    x86!("sti", options(nostack));
}

/// CLI.
pub fn disable_interrupts() {
    x86!("cli", options(nostack));
}

/// Lets what is pending in, and turns interrupts off again.
pub fn interrupt_window() {
    x86!("sti", "nop", "nop", "cli");
}

/// STI; HLT; CLI: waits for one interrupt.
pub fn halt() {
    x86!("sti", "hlt", "cli");
}

/// PAUSE.
pub fn pause() {
    core::hint::spin_loop();
}

/// RFLAGS.
pub fn flags() -> u64 {
    let v;
    x86!("pushfq", "pop {}", out(reg) v);
    v
}

/// CLI, HLT, for ever.
pub fn halt_forever() -> ! {
    loop {
        x86!("cli", "hlt", options(nostack));
    }
}

/// A load of device memory that is exactly one MOV.
pub fn load32(address: u64) -> u32 {
    let v;
    x86!("mov {:e}, [{}]", out(reg) v, in(reg) address, options(nostack));
    v
}

/// A store to device memory that is exactly one MOV.
pub fn store32(address: u64, v: u32) {
    x86!("mov [{}], {:e}", in(reg) address, in(reg) v, options(nostack));
}

/// A byte load that is exactly one MOV.
pub fn load8(address: u64) -> u8 {
    let v;
    x86!("mov {}, byte ptr [{}]", out(reg_byte) v, in(reg) address, options(nostack));
    v
}

/// A byte store that is exactly one MOV.
pub fn store8(address: u64, v: u8) {
    x86!("mov byte ptr [{}], {}", in(reg) address, in(reg_byte) v, options(nostack));
}

/// CR3 as the boot code set it.
static BOOT_CR3: AtomicU64 = AtomicU64::new(0);
const CR0: u64 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::PG;
const CR4: u64 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
const EFER: u64 = efer::LME | efer::NXE | efer::SCE;

/// Control, debug and a few other registers as every test finds them.
pub fn reset() {
    if BOOT_CR3.load(Relaxed) == 0 {
        BOOT_CR3.store(read_cr3(), Relaxed);
    }
    write_cr0(CR0);
    write_cr4(CR4);
    write_cr3(BOOT_CR3.load(Relaxed));
    wrmsr(msr::EFER, EFER);
    for write in [write_dr0, write_dr1, write_dr2, write_dr3] {
        write(0);
    }
    write_dr6(dr::DR6_RESET);
    write_dr7(dr::DR7_RESET);
    write_cr8(0);
    x86!("push 2", "popfq", "fninit");
    assert_eq!(flags() & (rflags::IF | rflags::TF), 0);
}

/// The root of the page tables that the boot code made.
pub fn boot_cr3() -> u64 {
    BOOT_CR3.load(Relaxed)
}
