//! SVM instructions outside the entry path.

use core::arch::asm;

/// Stores the host state that VMLOAD brings back: FS, GS, TR, LDTR, KernelGSBase, SYSCALL and SYSENTER MSRs.
///
/// # Safety
/// SVM is on; `vmcb` is the physical address of a frame that is used for nothing else.
pub unsafe fn vmsave(vmcb: u64) {
    // SAFETY: by the caller.
    unsafe { asm!("vmsave rax", in("rax") vmcb, options(nostack)) };
}
