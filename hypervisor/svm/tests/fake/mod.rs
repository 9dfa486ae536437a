//! CPUs as they describe themselves, and a vCPU between two entries.
#![allow(dead_code, reason = "each test binary uses its part")]

use svm::{CapabilityBits, Controls, GuestSetup, Vmcb};
use virt::VcpuRegs;
use zerocopy::FromZeros;

pub const VALID: u32 = 1 << 31;
pub const ERROR: u32 = 1 << 11;
pub const EXTERNAL: u32 = 0 << 8;
pub const NMI: u32 = 2 << 8;
pub const EXCEPTION: u32 = 3 << 8;
pub const SOFT_INTERRUPT: u32 = 4 << 8;
pub const PRIVILEGED_EXCEPTION: u32 = 5 << 8;
pub const SOFT_EXCEPTION: u32 = 6 << 8;

/// QEMU TCG with `-cpu EPYC,+svm,+npt`: nested paging and nothing else.
pub fn tcg() -> CapabilityBits {
    CapabilityBits { cpuid_svm: true, vm_cr: 0, ebx: 0x10, edx: 1, leaf7: [0; 3] }
}

/// A Zen 3 CPU: protection keys, shadow stacks; LBRV, lock, NRIPS, TSC rate, clean bits, FlushByAsid, decode assists, PauseFilter, and more.
pub fn zen() -> CapabilityBits {
    CapabilityBits { cpuid_svm: true, vm_cr: 0, ebx: 0x8000, edx: 0x0001_bcff, leaf7: [0x88, 0, 0] }
}

/// Controls of a CPU with the least.
pub fn poor() -> Controls {
    svm::negotiate(&tcg()).expect("TCG has what is required")
}

/// Controls of a CPU with all.
pub fn rich() -> Controls {
    svm::negotiate(&zen()).expect("Zen has everything")
}

pub const SETUP: GuestSetup = GuestSetup { n_cr3: 0x1000, asid: 3, iopm: 0x2000, msrpm: 0x5000, tsc_offset: 7 };

/// A new vCPU after an exit with nothing to tell.
pub fn vcpu(controls: &Controls) -> (Vmcb, VcpuRegs) {
    let mut vmcb = Vmcb::new_zeroed();
    svm::init(&mut vmcb, controls, &SETUP);
    vmcb.control.exitcode = 0x60;
    (vmcb, VcpuRegs::RESET)
}

/// An EXITINTINFO or EVENTINJ.
pub fn event(info: u32, error: u32) -> u64 {
    u64::from(error) << 32 | u64::from(info)
}
