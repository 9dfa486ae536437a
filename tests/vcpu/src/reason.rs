//! Numbers of events: basic exit reasons (Intel SDM vol. 3, appendix C), on SVM too. And bits of what comes with them.

pub const EXCEPTION: u64 = 0;
pub const TRIPLE_FAULT: u64 = 2;
pub const INTERRUPT_WINDOW: u64 = 7;
pub const NMI_WINDOW: u64 = 8;
pub const TASK_SWITCH: u64 = 9;
pub const CPUID: u64 = 10;
pub const HLT: u64 = 12;
pub const INVD: u64 = 13;
pub const INVLPG: u64 = 14;
pub const RDPMC: u64 = 15;
pub const RDTSC: u64 = 16;
pub const VMCALL: u64 = 18;
pub const VMLAUNCH: u64 = 20;
pub const VMPTRLD: u64 = 21;
pub const VMPTRST: u64 = 22;
pub const VMRESUME: u64 = 24;
pub const VMXOFF: u64 = 26;
pub const VMXON: u64 = 27;
pub const CR: u64 = 28;
pub const DR: u64 = 29;
pub const IO: u64 = 30;
pub const RDMSR: u64 = 31;
pub const WRMSR: u64 = 32;
pub const ENTRY_FAILURE: u64 = 33;
pub const ENTRY_FAILURE_MSR: u64 = 34;
pub const MWAIT: u64 = 36;
pub const MONITOR: u64 = 39;
pub const PAUSE: u64 = 40;
pub const TPR_BELOW: u64 = 43;
pub const GDTR_IDTR: u64 = 46;
pub const LDTR_TR: u64 = 47;
pub const EPT_VIOLATION: u64 = 48;
pub const RDTSCP: u64 = 51;
pub const INVVPID: u64 = 53;
pub const WBINVD: u64 = 54;
pub const XSETBV: u64 = 55;

/// Primary controls that a VMM may ask for (SDM vol. 3, 25.6.2).
pub mod ctrl {
    pub const INVLPG: u32 = 1 << 9;
    pub const RDTSC: u32 = 1 << 12;
    pub const CR3_LOAD: u32 = 1 << 15;
    pub const CR3_STORE: u32 = 1 << 16;
    pub const CR8_LOAD: u32 = 1 << 19;
    pub const CR8_STORE: u32 = 1 << 20;
    pub const MOV_DR: u32 = 1 << 23;
    pub const PAUSE: u32 = 1 << 30;
    /// Secondary.
    pub const DESCRIPTOR_TABLES: u32 = 1 << 2;
}

/// Interruptibility.
pub mod intr {
    pub const STI: u32 = 1 << 0;
    pub const MOV_SS: u32 = 1 << 1;
    pub const NMI: u32 = 1 << 3;
}

/// Injection and vectoring information.
pub mod info {
    pub const EXTERNAL: u32 = 0 << 8;
    pub const NMI: u32 = 2 << 8 | 2;
    pub const EXCEPTION: u32 = 3 << 8;
    pub const SOFT_INTERRUPT: u32 = 4 << 8;
    pub const PRIVILEGED: u32 = 5 << 8;
    pub const SOFT_EXCEPTION: u32 = 6 << 8;
    pub const ERROR: u32 = 1 << 11;
    pub const IRQ_WINDOW: u32 = 1 << 12;
    pub const NMI_WINDOW: u32 = 1 << 13;
    pub const VALID: u32 = 1 << 31;
}
