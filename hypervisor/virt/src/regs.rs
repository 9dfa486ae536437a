//! Registers of a vCPU that neither VMCS nor VMCB holds in full.

use abi::ArchState;
use x86::msr;

/// One entry of a VMX MSR-load or MSR-store area (SDM vol. 3, table 25-15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MsrEntry {
    /// Number of the MSR.
    pub index: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Its value.
    pub value: u64,
}

/// The MSRs that VM entries and exits switch because the VMCS has no fields for them.
///
/// A guest's area is its VM-exit MSR-store and VM-entry MSR-load area at once; a CPU has another one with the host's
/// values as VM-exit MSR-load area. Hardware reads and writes it by physical address: it must not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
#[allow(missing_docs, reason = "the names are those of the MSRs")]
pub struct MsrArea {
    pub star: MsrEntry,
    pub lstar: MsrEntry,
    pub fmask: MsrEntry,
    pub kernel_gs_base: MsrEntry,
    /// Exists only with RDTSCP or RDPID.
    pub tsc_aux: MsrEntry,
}

impl MsrArea {
    /// Number of entries; [`MsrArea::LEN_NO_TSC_AUX`] where the CPU has no RDTSCP.
    pub const LEN: u32 = 5;
    /// Number of entries without TSC_AUX, which is the last one.
    pub const LEN_NO_TSC_AUX: u32 = 4;

    /// An area of zeros.
    pub const ZERO: MsrArea = MsrArea {
        star: entry(msr::IA32_STAR),
        lstar: entry(msr::IA32_LSTAR),
        fmask: entry(msr::IA32_FMASK),
        kernel_gs_base: entry(msr::IA32_KERNEL_GSBASE),
        tsc_aux: entry(msr::IA32_TSC_AUX),
    };
}

const fn entry(index: u32) -> MsrEntry {
    MsrEntry { index, reserved: 0, value: 0 }
}

/// State of a vCPU that the VMCS does not hold.
///
/// `repr(C)`: the kernel's entry and exit path addresses fields by offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VcpuRegs {
    /// General-purpose registers in the order of `abi::ArchState::gpr`. RSP is in the VMCS: index 4 means nothing.
    pub gpr: [u64; 16],
    /// CR2.
    pub cr2: u64,
    /// CR8: bits 7:4 of the virtual TPR. With a TPR shadow, guests change it in the virtual-APIC page.
    pub cr8: u64,
    /// XCR0. Always valid: see [`next_xcr0`].
    pub xcr0: u64,
    /// MSRs that hardware switches.
    pub msrs: MsrArea,
}

impl VcpuRegs {
    /// State after reset.
    pub const RESET: VcpuRegs = VcpuRegs { gpr: [0; 16], cr2: 0, cr8: 0, xcr0: 1, msrs: MsrArea::ZERO };
}

/// R8 to R15 into the UTCB, in the signature of a back end's `save`.
#[inline]
pub fn save_gpr_8_15<V, W>(u: &mut ArchState, _: &V, r: &VcpuRegs, _: &W) {
    u.gpr[8..].copy_from_slice(&r.gpr[8..]);
}

/// R8 to R15 from the UTCB.
#[inline]
pub fn load_gpr_8_15<V, W>(u: &ArchState, _: &mut V, r: &mut VcpuRegs, _: &W) {
    r.gpr[8..].copy_from_slice(&u.gpr[8..]);
}

/// Bits of CR4 that turn on state which is not switched between guests: PKE, CET, PKS, UINTR, LASS, LAM_SUP, FRED. They
/// are never in force (SDM vol. 3, 2.5; APM vol. 2, 3.1.3).
pub const CR4_NOT_SWITCHED: u64 = 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 28 | 1 << 32;

/// `wanted` if XSETBV accepts it on a CPU that supports the components of `supported`, else `current`
/// (SDM vol. 1, 13.3). A VMM must not be able to make the kernel's XSETBV fault.
pub const fn next_xcr0(current: u64, wanted: u64, supported: u64) -> u64 {
    const X87: u64 = 1 << 0;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    const MPX: u64 = 3 << 3;
    const AVX512: u64 = 7 << 5;
    const AMX: u64 = 3 << 17;
    /// All bits of a set or none of them.
    const fn whole(value: u64, set: u64) -> bool {
        value & set == 0 || value & set == set
    }
    /// `a` only with `b`.
    const fn implies(value: u64, a: u64, b: u64) -> bool {
        value & a == 0 || value & b == b
    }
    let valid = wanted & !supported == 0
        && wanted & X87 != 0
        && implies(wanted, AVX, SSE)
        && implies(wanted, AVX512, AVX)
        && whole(wanted, MPX)
        && whole(wanted, AVX512)
        && whole(wanted, AMX);
    if valid { wanted } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{align_of, offset_of, size_of};

    #[test]
    fn layouts_are_those_that_hardware_and_entry_path_use() {
        assert_eq!((size_of::<MsrEntry>(), offset_of!(MsrEntry, value)), (16, 8));
        assert_eq!((size_of::<MsrArea>(), align_of::<MsrArea>()), (80, 16));
        assert_eq!(offset_of!(VcpuRegs, gpr), 0);
        assert_eq!(offset_of!(VcpuRegs, cr2), 0x80);
        assert_eq!(offset_of!(VcpuRegs, cr8), 0x88);
        assert_eq!(offset_of!(VcpuRegs, xcr0), 0x90);
        assert_eq!(offset_of!(VcpuRegs, msrs), 0xa0);
    }

    #[test]
    fn the_msrs_are_in_the_order_of_their_numbers() {
        let area = MsrArea::ZERO;
        let have = [area.star, area.lstar, area.fmask, area.kernel_gs_base, area.tsc_aux].map(|e| (e.index, e.value));
        let want = [(0xc000_0081, 0), (0xc000_0082, 0), (0xc000_0084, 0), (0xc000_0102, 0), (0xc000_0103, 0)];
        assert_eq!(have, want);
        assert_eq!(offset_of!(MsrArea, tsc_aux), 16 * MsrArea::LEN_NO_TSC_AUX as usize);
    }

    #[test]
    fn a_vcpu_begins_with_what_a_reset_leaves() {
        let regs = VcpuRegs::RESET;
        assert_eq!((regs.gpr, regs.cr2, regs.cr8), ([0; 16], 0, 0));
        // SDM vol. 1, 13.3: after a reset only x87 is on; XSETBV takes it on every CPU.
        assert_eq!((regs.xcr0, next_xcr0(0, regs.xcr0, 1)), (1, 1));
        assert_eq!(regs.msrs, MsrArea::ZERO);
    }

    #[test]
    fn xcr0_takes_only_what_xsetbv_takes() {
        const ALL: u64 = 0x6_00ff;
        for valid in [0x1, 0x3, 0x7, 0xe7, 0x1f, 0xff, 0x6_0007] {
            assert_eq!(next_xcr0(1, valid, ALL), valid);
        }
        for bad in [0x0, 0x2, 0x5, 0xf, 0x17, 0x27, 0xc7, 0xe3, 0x2_0007, 0x107, 1 << 63 | 7] {
            assert_eq!(next_xcr0(1, bad, ALL), 1, "{bad:#x}");
        }
        assert_eq!(next_xcr0(3, 7, 3), 3);
    }
}
