//! VMX instructions, one function each. A failure is reported as such and never ignored by callers that can act on it.

use core::arch::asm;

/// VMfail (Intel SDM vol. 3, 31.2).
#[derive(Debug)]
pub struct Failed;

macro_rules! checked {
    ($text:literal, $($operands:tt)*) => {{
        let failed: u8;
        // SAFETY: by the caller.
        unsafe { asm!($text, "setbe {failed}", $($operands)*, failed = out(reg_byte) failed, options(nostack)) };
        if failed == 0 { Ok(()) } else { Err(Failed) }
    }};
}

/// Enters VMX operation.
///
/// # Safety
/// `region` is the physical address of a frame with the VMCS revision that is used for nothing else; control registers
/// have the fixed bits.
pub unsafe fn vmxon(region: u64) -> Result<(), Failed> {
    checked!("vmxon [{r}]", r = in(reg) &region)
}

/// Initialises a VMCS, or writes it back.
///
/// # Safety
/// As for [`vmptrld`].
pub unsafe fn vmclear(vmcs: u64) -> Result<(), Failed> {
    checked!("vmclear [{r}]", r = in(reg) &vmcs)
}

/// Makes a VMCS current.
///
/// # Safety
/// `vmcs` is the physical address of a frame with the VMCS revision that is used for nothing else.
pub unsafe fn vmptrld(vmcs: u64) -> Result<(), Failed> {
    checked!("vmptrld [{r}]", r = in(reg) &vmcs)
}

/// Reads a field of the current VMCS; 0 if there is no such field.
///
/// # Safety
/// The CPU is in VMX operation.
#[inline(always)]
pub unsafe fn vmread(field: u32) -> u64 {
    let mut value = 0;
    // SAFETY: by the caller; without current VMCS or field the register keeps its value.
    unsafe { asm!("vmread {v}, {f}", v = inout(reg) value, f = in(reg) field as u64, options(nostack, nomem)) };
    value
}

/// Writes a field of the current VMCS; nothing if there is no such field.
///
/// # Safety
/// The CPU is in VMX operation; a wrong value fails the next VM entry, or lets host state be loaded: host fields are
/// written by `super::init` only.
#[inline(always)]
pub unsafe fn vmwrite(field: u32, value: u64) {
    // SAFETY: by the caller.
    unsafe { asm!("vmwrite {f}, {v}", v = in(reg) value, f = in(reg) field as u64, options(nostack)) };
}

/// Flushes translations of one EPT pointer (type 1) or all (type 2).
///
/// # Safety
/// The CPU is in VMX operation and supports the type.
pub unsafe fn invept(kind: u64, eptp: u64) {
    let d = [eptp, 0u64];
    // SAFETY: by the caller.
    unsafe { asm!("invept {k}, [{d}]", k = in(reg) kind, d = in(reg) &d, options(nostack)) };
}

/// Flushes translations of one VPID (type 1).
///
/// # Safety
/// The CPU is in VMX operation and supports the type.
pub unsafe fn invvpid(kind: u64, vpid: u16) {
    let d = [vpid as u64, 0u64];
    // SAFETY: by the caller.
    unsafe { asm!("invvpid {k}, [{d}]", k = in(reg) kind, d = in(reg) &d, options(nostack)) };
}
