//! The numbers of the VMX world that guest events are given in: Intel SDM vol. 3, chapter 25 and appendix C.

/// Basic VM-exit reasons (SDM vol. 3, appendix C), which are the numbers of guest events on both back ends.
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod reason {
    pub const EXCEPTION_OR_NMI: u64 = 0;
    pub const TRIPLE_FAULT: u64 = 2;
    pub const INIT: u64 = 3;
    pub const OTHER_SMI: u64 = 6;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const NMI_WINDOW: u64 = 8;
    pub const TASK_SWITCH: u64 = 9;
    pub const CPUID: u64 = 10;
    pub const GETSEC: u64 = 11;
    pub const HLT: u64 = 12;
    pub const INVD: u64 = 13;
    pub const INVLPG: u64 = 14;
    pub const RDPMC: u64 = 15;
    pub const RDTSC: u64 = 16;
    pub const RSM: u64 = 17;
    pub const VMCALL: u64 = 18;
    pub const VMLAUNCH: u64 = 20;
    pub const VMPTRLD: u64 = 21;
    pub const VMPTRST: u64 = 22;
    pub const VMXOFF: u64 = 26;
    pub const VMXON: u64 = 27;
    pub const CR_ACCESS: u64 = 28;
    pub const DR_ACCESS: u64 = 29;
    pub const IO: u64 = 30;
    pub const RDMSR: u64 = 31;
    pub const WRMSR: u64 = 32;
    pub const ENTRY_FAILURE: u64 = 33;
    pub const MWAIT: u64 = 36;
    pub const MONITOR: u64 = 39;
    pub const PAUSE: u64 = 40;
    pub const TPR_BELOW_THRESHOLD: u64 = 43;
    pub const GDTR_IDTR: u64 = 46;
    pub const LDTR_TR: u64 = 47;
    pub const EPT_VIOLATION: u64 = 48;
    pub const EPT_MISCONFIGURATION: u64 = 49;
    pub const RDTSCP: u64 = 51;
    pub const INVVPID: u64 = 53;
    pub const WBINVD: u64 = 54;
    pub const XSETBV: u64 = 55;
    pub const INVPCID: u64 = 58;
    pub const BUS_LOCK: u64 = 74;
}

/// Exit qualifications in the layout of VMX (SDM vol. 3, 28.2.1), which VMMs are given on both back ends.
pub mod qual {
    /// I/O: IN.
    pub const IO_IN: u64 = 1 << 3;
    /// I/O: INS or OUTS.
    pub const IO_STRING: u64 = 1 << 4;
    /// I/O: REP prefix.
    pub const IO_REP: u64 = 1 << 5;
    /// CR: lowest bit of the access type.
    pub const CR_TYPE_SHIFT: u32 = 4;
    /// CR access type: MOV from CR.
    pub const MOV_FROM_CR: u64 = 1;
    /// DR: MOV from DR.
    pub const MOV_FROM_DR: u64 = 1 << 4;
    /// CR and DR: lowest bit of the general-purpose register.
    pub const GPR_SHIFT: u32 = 8;
    /// EPT: data read.
    pub const READ: u64 = 1 << 0;
    /// EPT: data write.
    pub const WRITE: u64 = 1 << 1;
    /// EPT: instruction fetch.
    pub const FETCH: u64 = 1 << 2;
    /// EPT: the page is readable.
    pub const READABLE: u64 = 1 << 3;
    /// EPT: the access was to the translated address, not to the guest's page tables.
    pub const FINAL: u64 = 1 << 8;
    /// Task switch: lowest bit of the source.
    pub const TASK_SHIFT: u32 = 30;
    /// Task switch: by IRET.
    pub const TASK_IRET: u64 = 1;
    /// Task switch: by JMP.
    pub const TASK_JUMP: u64 = 2;
}

/// VM-exit instruction information of INS and OUTS (SDM vol. 3, table 28-9).
pub mod inst_info {
    /// Lowest bit of the address size: 0 16, 1 32, 2 64 bits.
    pub const ADDRESS_SHIFT: u32 = 7;
    /// Lowest bit of the segment register.
    pub const SEGMENT_SHIFT: u32 = 15;
}

/// Interruptibility state (SDM vol. 3, table 25-3).
pub mod interruptibility {
    /// Blocking by STI or by MOV SS, which SVM does not tell apart.
    pub const SHADOW: u32 = 3;
    /// Blocking by STI.
    pub const STI: u32 = 1 << 0;
    /// Blocking by NMI.
    pub const NMI: u32 = 1 << 3;
}

/// VMX execution controls that have a counterpart (SDM vol. 3, 25.6.2).
pub mod proc1 {
    /// INVLPG exiting.
    pub const INVLPG_EXITING: u32 = 1 << 9;
    /// RDTSC exiting, for RDTSCP too.
    pub const RDTSC_EXITING: u32 = 1 << 12;
    /// CR3-load exiting.
    pub const CR3_LOAD_EXITING: u32 = 1 << 15;
    /// CR3-store exiting.
    pub const CR3_STORE_EXITING: u32 = 1 << 16;
    /// CR8-load exiting.
    pub const CR8_LOAD_EXITING: u32 = 1 << 19;
    /// CR8-store exiting.
    pub const CR8_STORE_EXITING: u32 = 1 << 20;
    /// MOV-DR exiting.
    pub const MOV_DR_EXITING: u32 = 1 << 23;
    /// PAUSE exiting.
    pub const PAUSE_EXITING: u32 = 1 << 30;
}

/// Secondary ones.
pub mod proc2 {
    /// Descriptor-table exiting.
    pub const DESCRIPTOR_TABLE_EXITING: u32 = 1 << 2;
}
