//! VMX bits by the manual's names, as far as the crate `x86` has them not: Intel SDM vol. 3, chapters 25 to 28, appendix
//! A. What SVM has too is in [`virt::spec`].

/// IA32_VMX_EPT_VPID_CAP (A.10).
pub mod ept_vpid {
    /// Page-walk length 4.
    pub const WALK_LENGTH_4: u64 = 1 << 6;
    /// Tables in write-back memory.
    pub const WRITE_BACK: u64 = 1 << 14;
    /// 2 MiB leaves.
    pub const PAGES_2M: u64 = 1 << 16;
    /// 1 GiB leaves.
    pub const PAGES_1G: u64 = 1 << 17;
    /// INVEPT.
    pub const INVEPT: u64 = 1 << 20;
    /// INVEPT, all contexts.
    pub const INVEPT_ALL: u64 = 1 << 26;
    /// INVVPID.
    pub const INVVPID: u64 = 1 << 32;
    /// INVVPID, single context.
    pub const INVVPID_SINGLE: u64 = 1 << 41;
}

/// IA32_VMX_MISC (A.6).
pub mod misc {
    /// log2 TSC ticks per tick of the preemption timer.
    pub const TIMER_SHIFT: u64 = 0x1f;
    /// Activity state HLT.
    pub const ACTIVITY_HLT: u64 = 1 << 6;
}

/// IA32_FEATURE_CONTROL (24.7).
pub mod feature_control {
    /// Locked until reset.
    pub const LOCK: u64 = 1 << 0;
    /// VMXON outside SMX operation.
    pub const VMX_OUTSIDE_SMX: u64 = 1 << 2;
}

/// Activity states (25.4.2).
pub mod activity {
    /// Active.
    pub const ACTIVE: u32 = 0;
    /// HLT.
    pub const HLT: u32 = 1;
}

/// NMI unblocking due to IRET: in interruption information (table 25-18) and in the qualification of an EPT
/// violation (table 28-7).
pub const NMI_UNBLOCKING_DUE_TO_IRET: u64 = 1 << 12;
/// Unusable, in the VMCS layout of access rights (table 25-2).
pub const UNUSABLE: u64 = 1 << 16;
/// Exceptions that exit whatever the VMM wants.
pub const FORCED_EXCEPTIONS: u32 = 1 << virt::spec::vector::MACHINE_CHECK | virt::ENDLESS_EXCEPTIONS;
/// The basic reason in an exit reason (25.9.1).
pub const BASIC_REASON: u64 = 0xffff;

/// IA32_EFER (2.2.1).
pub mod efer {
    /// What exists on Intel: SCE, LME, LMA, NXE.
    pub const DEFINED: u64 = 0xd01;
}

/// Bits of an EPTP (table 25-9).
pub mod eptp {
    /// Tables are write-back.
    pub const WRITE_BACK: u64 = 6;
    /// Page-walk length less one.
    pub const WALK_LENGTH_4: u64 = 3 << 3;
}
