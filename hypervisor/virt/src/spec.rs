//! What both manuals define alike: Intel SDM vol. 3, AMD APM vol. 2. And the numbers of the VMX world that guest events are
//! given in on both back ends.

use abi::{ArchState, Segment};

/// Basic VM-exit reasons (SDM vol. 3, appendix C), which are the numbers of guest events.
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod reason {
    pub const EXCEPTION_OR_NMI: u64 = 0;
    pub const EXTERNAL_INTERRUPT: u64 = 1;
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
    /// VM-entry failure due to invalid guest state.
    pub const ENTRY_FAILURE: u64 = 33;
    pub const MWAIT: u64 = 36;
    pub const MONITOR: u64 = 39;
    pub const PAUSE: u64 = 40;
    pub const ENTRY_FAILURE_MACHINE_CHECK: u64 = 41;
    pub const TPR_BELOW_THRESHOLD: u64 = 43;
    pub const GDTR_IDTR: u64 = 46;
    pub const LDTR_TR: u64 = 47;
    pub const EPT_VIOLATION: u64 = 48;
    pub const EPT_MISCONFIGURATION: u64 = 49;
    pub const RDTSCP: u64 = 51;
    pub const PREEMPTION_TIMER: u64 = 52;
    pub const INVVPID: u64 = 53;
    pub const WBINVD: u64 = 54;
    pub const XSETBV: u64 = 55;
    pub const INVPCID: u64 = 58;
    pub const BUS_LOCK: u64 = 74;
}

/// Interruptibility state (SDM vol. 3, table 25-3).
pub mod interruptibility {
    /// Blocking by STI.
    pub const STI: u32 = 1 << 0;
    /// Blocking by STI or by MOV SS, which SVM does not tell apart.
    pub const SHADOW: u32 = 3;
    /// Blocking by NMI.
    pub const NMI: u32 = 1 << 3;
    /// Blocking by STI, MOV SS, SMI, NMI.
    pub const ALL: u32 = 0xf;
}

/// Vectors of exceptions (SDM vol. 3, 6.3; APM vol. 2, 8.2).
pub mod vector {
    /// #DB.
    pub const DEBUG: u8 = 1;
    /// #BP.
    pub const BREAKPOINT: u8 = 3;
    /// #OF.
    pub const OVERFLOW: u8 = 4;
    /// #DF.
    pub const DOUBLE_FAULT: u8 = 8;
    /// #PF.
    pub const PAGE_FAULT: u8 = 14;
    /// #AC.
    pub const ALIGNMENT_CHECK: u8 = 17;
    /// #MC.
    pub const MACHINE_CHECK: u8 = 18;
}

/// CR0 (SDM vol. 3, 2.5; APM vol. 2, 3.1.1).
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Monitor coprocessor.
    pub const MP: u64 = 1 << 1;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Extension type, always 1.
    pub const ET: u64 = 1 << 4;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// EFER (SDM vol. 3, 2.2.1; APM vol. 2, 3.1.7).
pub mod efer {
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
}

/// RFLAGS (SDM vol. 1, 3.4.3; APM vol. 2, 3.1.6).
pub mod rflags {
    /// Bit 1, always 1.
    pub const ONE: u64 = 1 << 1;
    /// Interrupts on.
    pub const IF: u64 = 1 << 9;
    /// What exists: CF to OF (without bits 3 and 5), IOPL, NT, RF to ID.
    pub const DEFINED: u64 = 0x3f_7fd5 | ONE;

    /// What a guest can have.
    pub const fn clean(value: u64) -> u64 {
        value & DEFINED | ONE
    }
}

/// DR6 and DR7 (SDM vol. 3, 18.2; APM vol. 2, 13.1.1).
pub mod dr {
    /// DR6 after reset.
    pub const DR6_RESET: u64 = 0xffff_0ff0;
    /// DR6: breakpoints hit, debug-register access, single step.
    pub const DR6_CAUSES: u64 = 0x600f;
    /// DR7, bit 10, always 1.
    pub const DR7_ONE: u64 = 1 << 10;
    /// DR7, general detect: the next access to a debug register raises #DB.
    pub const DR7_GD: u64 = 1 << 13;
    /// DR7: what may be set.
    pub const DR7_DEFINED: u64 = 0xffff_2fff;

    /// DR7 as a guest can have it.
    pub const fn clean_dr7(value: u64) -> u64 {
        value & DR7_DEFINED | DR7_ONE
    }
}

/// State after reset (SDM vol. 3, table 10-1; APM vol. 2, table 14-1).
pub const RESET: ArchState = {
    const fn segment(sel: u16, ar: u16, base: u64) -> Segment {
        Segment { sel, ar, limit: 0xffff, base }
    }
    // Present, writable, accessed.
    let data = segment(0, 0x93, 0);
    let table = segment(0, 0, 0);
    ArchState {
        rflags: rflags::ONE,
        rip: 0xfff0,
        // Present, code, readable, accessed.
        cs: segment(0xf000, 0x9b, 0xffff_0000),
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        // A busy TSS.
        tr: segment(0, 0x8b, 0),
        ldtr: segment(0, 0x82, 0),
        gdtr: table,
        idtr: table,
        // Caches off.
        cr0: cr0::CD | cr0::NW | cr0::ET,
        dr7: dr::DR7_ONE,
        xcr0: 1,
        pat: 0x0007_0406_0007_0406,
        ..ArchState::ZERO
    }
};
