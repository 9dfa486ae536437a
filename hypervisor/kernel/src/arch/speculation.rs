//! Controls over speculation, set where this CPU has them: which and when, the crate `speculation` decides
//! (docs/design/0013).

use super::{cpu::cpu, tables};
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use speculation::{Facts, Plan, spec};
use x86::msr::{IA32_EFER, rdmsr, wrmsr};

/// EBX of CPUID 0: "Auth", "Hygo".
const AMD: [u32; 2] = [0x6874_7541, 0x6f67_7948];

fn is_amd() -> bool {
    AMD.contains(&__cpuid(0).ebx)
}

/// Revision of the microcode; 0: it is not known.
pub fn microcode() -> u32 {
    // SAFETY: registers of the two vendors' CPUs; where they are not there nothing comes of it.
    unsafe { super::microcode(!is_amd()) }
}

fn facts() -> Facts {
    let seven = __cpuid_count(7, 0);
    let last = __cpuid(0x8000_0000).eax;
    let beyond = |leaf: u32| (leaf <= last).then(|| __cpuid(leaf));
    let has_arch = seven.edx & spec::leaf7_edx::ARCH_CAPABILITIES != 0;
    Facts {
        amd: is_amd(),
        leaf7_ebx: seven.ebx,
        leaf7_edx: seven.edx,
        amd_ebx: beyond(0x8000_0008).map_or(0, |l| l.ebx),
        amd_eax21: beyond(0x8000_0021).map_or(0, |l| l.eax),
        // SAFETY: CPUID says that it is there.
        arch: if has_arch { unsafe { rdmsr(spec::MSR_ARCH_CAPABILITIES) } } else { 0 },
    }
}

/// Sets on this CPU what stays set.
pub fn init() -> Plan {
    let p = Plan::of(&facts());
    // SAFETY: the plan names only what the CPU has; nothing of it changes what code does.
    unsafe {
        if p.spec_ctrl != 0 {
            wrmsr(spec::MSR_SPEC_CTRL, p.spec_ctrl);
        }
        if p.auto_ibrs {
            wrmsr(IA32_EFER, rdmsr(IA32_EFER) | spec::EFER_AUTO_IBRS);
        }
    }
    p
}

/// This CPU's plan.
pub fn plan() -> Plan {
    cpu().features.get().speculation
}

/// Before user mode goes on: what the kernel has handled is not left in buffers.
#[inline]
pub fn before_user() {
    if plan().clear_buffers {
        let selector = tables::KERNEL_SS;
        // SAFETY: changes ZF only. With an operand in memory it clears buffers, for a data segment that can be written.
        unsafe { asm!("verw word ptr [{}]", in(reg) &selector, options(nostack, readonly)) };
    }
}

/// Before a guest goes on.
#[inline]
pub fn before_guest() {
    if plan().flush_l1d {
        // SAFETY: the plan says that the command exists. It clears buffers, too.
        return unsafe { wrmsr(spec::MSR_FLUSH_CMD, spec::L1D_FLUSH) };
    }
    before_user();
}

/// What has been trained up to here does not lead what comes.
pub fn barrier() {
    if plan().barrier {
        // SAFETY: the plan says that the command exists.
        unsafe { wrmsr(spec::MSR_PRED_CMD, spec::IBPB) };
    }
}
