//! VMX bits by the manual's names: Intel SDM vol. 3, chapters 25 to 28, appendices A and C.

/// Pin-based controls (25.6.1).
pub mod pin {
    /// External-interrupt exiting.
    pub const EXTERNAL_INTERRUPT_EXITING: u32 = 1 << 0;
    /// NMI exiting.
    pub const NMI_EXITING: u32 = 1 << 3;
    /// Virtual NMIs.
    pub const VIRTUAL_NMIS: u32 = 1 << 5;
    /// Activate VMX-preemption timer.
    pub const PREEMPTION_TIMER: u32 = 1 << 6;
}

/// Primary processor-based controls (25.6.2).
pub mod proc1 {
    /// Interrupt-window exiting.
    pub const INTERRUPT_WINDOW_EXITING: u32 = 1 << 2;
    /// Use TSC offsetting.
    pub const TSC_OFFSETTING: u32 = 1 << 3;
    /// HLT exiting.
    pub const HLT_EXITING: u32 = 1 << 7;
    /// INVLPG exiting.
    pub const INVLPG_EXITING: u32 = 1 << 9;
    /// MWAIT exiting.
    pub const MWAIT_EXITING: u32 = 1 << 10;
    /// RDPMC exiting.
    pub const RDPMC_EXITING: u32 = 1 << 11;
    /// RDTSC exiting.
    pub const RDTSC_EXITING: u32 = 1 << 12;
    /// CR3-load exiting.
    pub const CR3_LOAD_EXITING: u32 = 1 << 15;
    /// CR3-store exiting.
    pub const CR3_STORE_EXITING: u32 = 1 << 16;
    /// CR8-load exiting.
    pub const CR8_LOAD_EXITING: u32 = 1 << 19;
    /// CR8-store exiting.
    pub const CR8_STORE_EXITING: u32 = 1 << 20;
    /// Use TPR shadow.
    pub const TPR_SHADOW: u32 = 1 << 21;
    /// NMI-window exiting.
    pub const NMI_WINDOW_EXITING: u32 = 1 << 22;
    /// MOV-DR exiting.
    pub const MOV_DR_EXITING: u32 = 1 << 23;
    /// Unconditional I/O exiting; ignored where I/O bitmaps are used.
    pub const UNCONDITIONAL_IO_EXITING: u32 = 1 << 24;
    /// Use I/O bitmaps.
    pub const IO_BITMAPS: u32 = 1 << 25;
    /// Monitor trap flag.
    pub const MONITOR_TRAP_FLAG: u32 = 1 << 27;
    /// Use MSR bitmaps.
    pub const MSR_BITMAPS: u32 = 1 << 28;
    /// MONITOR exiting.
    pub const MONITOR_EXITING: u32 = 1 << 29;
    /// PAUSE exiting.
    pub const PAUSE_EXITING: u32 = 1 << 30;
    /// Activate secondary controls.
    pub const SECONDARY_CONTROLS: u32 = 1 << 31;
    /// Both windows.
    pub const WINDOWS: u32 = INTERRUPT_WINDOW_EXITING | NMI_WINDOW_EXITING;
}

/// Secondary processor-based controls (25.6.2).
pub mod proc2 {
    /// Enable EPT.
    pub const EPT: u32 = 1 << 1;
    /// Descriptor-table exiting.
    pub const DESCRIPTOR_TABLE_EXITING: u32 = 1 << 2;
    /// Enable RDTSCP.
    pub const RDTSCP: u32 = 1 << 3;
    /// Enable VPID.
    pub const VPID: u32 = 1 << 5;
    /// WBINVD exiting.
    pub const WBINVD_EXITING: u32 = 1 << 6;
    /// Unrestricted guest.
    pub const UNRESTRICTED_GUEST: u32 = 1 << 7;
    /// RDRAND exiting.
    pub const RDRAND_EXITING: u32 = 1 << 11;
    /// Enable INVPCID.
    pub const INVPCID: u32 = 1 << 12;
    /// RDSEED exiting.
    pub const RDSEED_EXITING: u32 = 1 << 16;
}

/// VM-exit controls (25.7.1).
pub mod exit {
    /// Save debug controls.
    pub const SAVE_DEBUG_CONTROLS: u32 = 1 << 2;
    /// Host address-space size.
    pub const HOST_ADDRESS_SPACE_SIZE: u32 = 1 << 9;
    /// Acknowledge interrupt on exit.
    pub const ACKNOWLEDGE_INTERRUPT: u32 = 1 << 15;
    /// Save IA32_PAT.
    pub const SAVE_PAT: u32 = 1 << 18;
    /// Load IA32_PAT.
    pub const LOAD_PAT: u32 = 1 << 19;
    /// Save IA32_EFER.
    pub const SAVE_EFER: u32 = 1 << 20;
    /// Load IA32_EFER.
    pub const LOAD_EFER: u32 = 1 << 21;
}

/// VM-entry controls (25.8.1).
pub mod entry {
    /// Load debug controls.
    pub const LOAD_DEBUG_CONTROLS: u32 = 1 << 2;
    /// IA-32e mode guest.
    pub const IA32E_MODE_GUEST: u32 = 1 << 9;
    /// Load IA32_PAT.
    pub const LOAD_PAT: u32 = 1 << 14;
    /// Load IA32_EFER.
    pub const LOAD_EFER: u32 = 1 << 15;
}

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
    /// Accessed and dirty flags.
    pub const ACCESSED_DIRTY: u64 = 1 << 21;
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

/// Basic exit reasons that do not simply become an event (appendix C).
pub mod reason {
    /// Exception or NMI.
    pub const EXCEPTION_OR_NMI: u64 = 0;
    /// External interrupt.
    pub const EXTERNAL_INTERRUPT: u64 = 1;
    /// VM-entry failure due to a machine-check event.
    pub const ENTRY_FAILURE_MACHINE_CHECK: u64 = 41;
    /// EPT violation.
    pub const EPT_VIOLATION: u64 = 48;
    /// VMX-preemption timer expired.
    pub const PREEMPTION_TIMER: u64 = 52;
    /// The basic reason in an exit reason.
    pub const BASIC: u64 = 0xffff;
}

/// Interruptibility state (table 25-3).
pub mod interruptibility {
    /// Blocking by STI, MOV SS, SMI, NMI.
    pub const ALL: u32 = 0xf;
    /// Blocking by NMI.
    pub const NMI: u64 = 1 << 3;
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
/// Vector of the machine-check exception.
pub const MACHINE_CHECK: u32 = 18;
/// Exceptions that exit whatever the VMM wants.
pub const FORCED_EXCEPTIONS: u32 = 1 << MACHINE_CHECK | virt::ENDLESS_EXCEPTIONS;
/// Vector of the double fault.
pub const DOUBLE_FAULT: u32 = 8;

/// CR0 (2.5).
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Extension type, always 1.
    pub const ET: u64 = 1 << 4;
    /// Numeric error.
    pub const NE: u64 = 1 << 5;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 (2.5).
pub mod cr4 {
    /// VMX enable.
    pub const VMXE: u64 = 1 << 13;
}

/// IA32_EFER (2.2.1).
pub mod efer {
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// What exists on Intel: SCE, LME, LMA, NXE.
    pub const DEFINED: u64 = 0xd01;
}

/// RFLAGS (vol. 1, 3.4.3).
pub mod rflags {
    /// Bit 1, always 1.
    pub const ONE: u64 = 1 << 1;
    /// What exists: CF to OF (without bits 3 and 5), IOPL, NT, RF to ID.
    pub const DEFINED: u64 = 0x3f_7fd5 | ONE;
}

/// DR7 (18.2.4).
pub mod dr7 {
    /// Bit 10, always 1.
    pub const ONE: u64 = 1 << 10;
    /// General detect: the next access to a debug register raises #DB.
    pub const GD: u64 = 1 << 13;
    /// What may be set.
    pub const DEFINED: u64 = 0xffff_2fff;
}

/// Bits of an EPTP (table 25-9).
pub mod eptp {
    /// Tables are write-back.
    pub const WRITE_BACK: u64 = 6;
    /// Page-walk length less one.
    pub const WALK_LENGTH_4: u64 = 3 << 3;
}

/// State of a CPU after reset (vol. 3, table 10-1), where it is not 0.
pub mod reset {
    /// CR0 as the guest sees it: caches off.
    pub const CR0: u64 = super::cr0::CD | super::cr0::NW | super::cr0::ET;
    /// RIP.
    pub const RIP: u64 = 0xfff0;
    /// CS selector.
    pub const CS_SELECTOR: u64 = 0xf000;
    /// CS base.
    pub const CS_BASE: u64 = 0xffff_0000;
    /// Limit of all segments and tables.
    pub const LIMIT: u64 = 0xffff;
    /// Access rights of CS: present, code, readable, accessed.
    pub const AR_CODE: u64 = 0x9b;
    /// Access rights of data segments: present, writable, accessed.
    pub const AR_DATA: u64 = 0x93;
    /// Access rights of LDTR.
    pub const AR_LDT: u64 = 0x82;
    /// Access rights of TR: busy TSS.
    pub const AR_TSS: u64 = 0x8b;
    /// IA32_PAT.
    pub const PAT: u64 = 0x0007_0406_0007_0406;
}
