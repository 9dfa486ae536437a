//! Bits of CPUID and MSRs (Intel SDM vol. 2, CPUID, and vol. 4, table 2-2; AMD APM vol. 3, E.4, and vol. 2, 3.2.9).

/// IA32_SPEC_CTRL, on AMD SPEC_CTRL.
pub const MSR_SPEC_CTRL: u32 = 0x48;
/// IA32_PRED_CMD, on AMD PRED_CMD.
pub const MSR_PRED_CMD: u32 = 0x49;
/// IA32_ARCH_CAPABILITIES.
pub const MSR_ARCH_CAPABILITIES: u32 = 0x10a;
/// IA32_FLUSH_CMD.
pub const MSR_FLUSH_CMD: u32 = 0x10b;

/// Bits of [`MSR_SPEC_CTRL`].
pub mod spec_ctrl {
    /// Indirect branches of the kernel do not go where user mode has trained them to.
    pub const IBRS: u64 = 1 << 0;
    /// Nor where the other thread of the core has.
    pub const STIBP: u64 = 1 << 1;
    /// Loads wait until the addresses of older stores are known.
    pub const SSBD: u64 = 1 << 2;
}

/// In [`MSR_PRED_CMD`]: a barrier for indirect branches.
pub const IBPB: u64 = 1 << 0;
/// In [`MSR_FLUSH_CMD`]: empties the first-level data cache.
pub const L1D_FLUSH: u64 = 1 << 0;
/// EFER: automatic IBRS (AMD).
pub const EFER_AUTO_IBRS: u64 = 1 << 21;

/// CPUID 7.0, EBX.
pub mod leaf7_ebx {
    /// Transactions.
    pub const RTM: u32 = 1 << 11;
}

/// CPUID 7.0, EDX.
pub mod leaf7_edx {
    /// VERW clears buffers.
    pub const MD_CLEAR: u32 = 1 << 10;
    /// IBRS and IBPB.
    pub const IBRS: u32 = 1 << 26;
    /// STIBP.
    pub const STIBP: u32 = 1 << 27;
    /// IA32_FLUSH_CMD.
    pub const L1D_FLUSH: u32 = 1 << 28;
    /// IA32_ARCH_CAPABILITIES.
    pub const ARCH_CAPABILITIES: u32 = 1 << 29;
    /// SSBD.
    pub const SSBD: u32 = 1 << 31;
}

/// CPUID 8000_0008, EBX (AMD).
pub mod amd_ebx {
    /// IBPB.
    pub const IBPB: u32 = 1 << 12;
    /// IBRS.
    pub const IBRS: u32 = 1 << 14;
    /// STIBP.
    pub const STIBP: u32 = 1 << 15;
    /// IBRS may stay set for good.
    pub const IBRS_ALWAYS: u32 = 1 << 16;
    /// SSBD in SPEC_CTRL.
    pub const SSBD: u32 = 1 << 24;
    /// Needs no SSBD.
    pub const SSB_NO: u32 = 1 << 26;
}

/// CPUID 8000_0021, EAX (AMD).
pub mod amd_eax21 {
    /// EFER has [`super::EFER_AUTO_IBRS`].
    pub const AUTO_IBRS: u32 = 1 << 8;
}

/// IA32_ARCH_CAPABILITIES.
pub mod arch {
    /// Not open to Meltdown, nor to L1TF.
    pub const RDCL_NO: u64 = 1 << 0;
    /// IBRS may stay set for good.
    pub const IBRS_ALL: u64 = 1 << 1;
    /// A hypervisor below flushes the L1 cache at VM entry.
    pub const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
    /// Needs no SSBD.
    pub const SSB_NO: u64 = 1 << 4;
    /// Buffers do not leak (MDS).
    pub const MDS_NO: u64 = 1 << 5;
    /// Nor by aborted transactions (TAA).
    pub const TAA_NO: u64 = 1 << 8;
    /// Nor by device memory (MMIO stale data): three ways.
    pub const MMIO_NO: u64 = 1 << 13 | 1 << 14 | 1 << 15;
    /// VERW clears fill buffers.
    pub const FB_CLEAR: u64 = 1 << 17;
    /// Register files do not leak (RFDS).
    pub const RFDS_NO: u64 = 1 << 27;
    /// VERW clears them.
    pub const RFDS_CLEAR: u64 = 1 << 28;
}
