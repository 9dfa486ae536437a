//! SVM bits by the manual's names: AMD APM vol. 2, chapters 3, 4 and 15, appendices B and C. Exit codes are in [`crate::code`],
//! what VT-x has too in [`virt::spec`].

/// CPUID 8000_000A, EDX (APM vol. 3, E.4.9).
pub mod feature {
    /// Nested paging.
    pub const NP: u32 = 1 << 0;
    /// The VMCB gets the address of the next instruction.
    pub const NRIPS: u32 = 1 << 3;
    /// VMCB clean bits.
    pub const VMCB_CLEAN: u32 = 1 << 5;
    /// TLB_CONTROL can flush one ASID.
    pub const FLUSH_BY_ASID: u32 = 1 << 6;
    /// Decode assists.
    pub const DECODE_ASSISTS: u32 = 1 << 7;
}

/// VM_CR, MSR C001_0114 (15.30.1).
pub mod vm_cr {
    /// LOCK and SVMDIS cannot be written.
    pub const LOCK: u64 = 1 << 3;
    /// EFER.SVME must be zero.
    pub const SVMDIS: u64 = 1 << 4;
}

/// Vector 3 of the intercepts, at 0x0c (table B-1).
pub mod misc1 {
    /// Physical interrupt.
    pub const INTR: u32 = 1 << 0;
    /// Non-maskable interrupt.
    pub const NMI: u32 = 1 << 1;
    /// INIT.
    pub const INIT: u32 = 1 << 3;
    /// Virtual interrupt: the guest could take one now.
    pub const VINTR: u32 = 1 << 4;
    /// Writes to CR0 that change other bits than TS and MP.
    pub const CR0_SEL_WRITE: u32 = 1 << 5;
    /// Reads and writes of IDTR, GDTR, LDTR, TR.
    pub const DESCRIPTOR_TABLES: u32 = 0xff << 6;
    /// RDTSC.
    pub const RDTSC: u32 = 1 << 14;
    /// RDPMC.
    pub const RDPMC: u32 = 1 << 15;
    /// CPUID.
    pub const CPUID: u32 = 1 << 18;
    /// IRET.
    pub const IRET: u32 = 1 << 20;
    /// INVD.
    pub const INVD: u32 = 1 << 22;
    /// PAUSE.
    pub const PAUSE: u32 = 1 << 23;
    /// HLT.
    pub const HLT: u32 = 1 << 24;
    /// INVLPG.
    pub const INVLPG: u32 = 1 << 25;
    /// INVLPGA.
    pub const INVLPGA: u32 = 1 << 26;
    /// I/O instructions for which the I/O permission map says so.
    pub const IOIO_PROT: u32 = 1 << 27;
    /// RDMSR and WRMSR for which the MSR permission map says so.
    pub const MSR_PROT: u32 = 1 << 28;
    /// Shutdown.
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Vector 4 of the intercepts, at 0x10 (table B-1).
pub mod misc2 {
    /// VMRUN; it must be intercepted.
    pub const VMRUN: u32 = 1 << 0;
    /// VMMCALL.
    pub const VMMCALL: u32 = 1 << 1;
    /// VMLOAD.
    pub const VMLOAD: u32 = 1 << 2;
    /// VMSAVE.
    pub const VMSAVE: u32 = 1 << 3;
    /// STGI.
    pub const STGI: u32 = 1 << 4;
    /// CLGI.
    pub const CLGI: u32 = 1 << 5;
    /// SKINIT.
    pub const SKINIT: u32 = 1 << 6;
    /// RDTSCP.
    pub const RDTSCP: u32 = 1 << 7;
    /// WBINVD and WBNOINVD.
    pub const WBINVD: u32 = 1 << 9;
    /// MONITOR.
    pub const MONITOR: u32 = 1 << 10;
    /// MWAIT, whether the monitor is armed or not.
    pub const MWAIT: u32 = 1 << 11;
    /// XSETBV.
    pub const XSETBV: u32 = 1 << 13;
}

/// TLB_CONTROL, at 0x5c (15.16.2).
pub mod tlb {
    /// Nothing.
    pub const KEEP: u8 = 0;
    /// All entries of all ASIDs.
    pub const FLUSH_ALL: u8 = 1;
    /// All entries of this guest's ASID; needs FlushByAsid.
    pub const FLUSH_GUEST: u8 = 3;
}

/// Virtual-interrupt control, at 0x60 (15.21).
pub mod vintr {
    /// The guest's CR8.
    pub const TPR: u64 = 0xf;
    /// A virtual interrupt is pending.
    pub const IRQ: u64 = 1 << 8;
    /// Lowest bit of its priority.
    pub const PRIO_SHIFT: u32 = 16;
    /// Its priority.
    pub const PRIO: u64 = 0xf << PRIO_SHIFT;
    /// It ignores the TPR.
    pub const IGN_TPR: u64 = 1 << 20;
    /// RFLAGS.IF masks virtual interrupts only, and CR8 is virtual.
    pub const INTR_MASKING: u64 = 1 << 24;
}

/// Guest interrupt status, at 0x68: the guest is in an interrupt shadow.
pub const INTERRUPT_SHADOW: u64 = 1 << 0;
/// At 0x90: nested paging is on.
pub const NP_ENABLE: u64 = 1 << 0;
/// Lowest bit of the error code in EXITINTINFO and EVENTINJ (15.7.2, 15.20).
pub const ERROR_CODE_SHIFT: u32 = 32;

/// VMCB clean bits, at 0xc0 (15.15.3).
pub mod clean {
    /// Nothing that the processor caches.
    pub const UNCACHED: u32 = 0;
    /// Intercepts, TSC offset, pause filter.
    pub const I: u32 = 1 << 0;
    /// Addresses of the permission maps.
    pub const IOPM: u32 = 1 << 1;
    /// ASID.
    pub const ASID: u32 = 1 << 2;
    /// Virtual-interrupt control.
    pub const TPR: u32 = 1 << 3;
    /// Nested paging: nCR3, G_PAT.
    pub const NP: u32 = 1 << 4;
    /// CR0, CR3, CR4, EFER.
    pub const CRX: u32 = 1 << 5;
    /// DR6, DR7.
    pub const DRX: u32 = 1 << 6;
    /// GDTR, IDTR.
    pub const DT: u32 = 1 << 7;
    /// CS, DS, SS, ES, CPL.
    pub const SEG: u32 = 1 << 8;
    /// CR2.
    pub const CR2: u32 = 1 << 9;
    /// All of the above.
    pub const ALL: u32 = 0x3ff;
}

/// EXITINFO1 of IOIO exits (figure 15-2).
pub mod ioio {
    /// IN.
    pub const IN: u64 = 1 << 0;
    /// INS or OUTS.
    pub const STR: u64 = 1 << 2;
    /// REP prefix.
    pub const REP: u64 = 1 << 3;
    /// Operands of 8, 16, 32 bits: lowest of three bits.
    pub const SIZE_SHIFT: u32 = 4;
    /// Addresses of 16, 32, 64 bits: lowest of three bits; all 0 where the CPU does not say.
    pub const ADDRESS_SHIFT: u32 = 7;
    /// Segment register, as instructions number them.
    pub const SEGMENT_SHIFT: u32 = 10;
    /// Port.
    pub const PORT_SHIFT: u32 = 16;
}

/// EXITINFO1 of CR and DR accesses, with decode assists (15.33.1).
pub mod mov {
    /// Number of the general-purpose register.
    pub const GPR: u64 = 0xf;
    /// The instruction is MOV to or from a CR: neither LMSW, SMSW nor CLTS.
    pub const IS_MOV_CR: u64 = 1 << 63;
}

/// EXITINFO1 of nested page faults: a page-fault error code and two bits more (15.25.6).
pub mod npf {
    /// The page is present.
    pub const P: u64 = 1 << 0;
    /// Write.
    pub const W: u64 = 1 << 1;
    /// Reserved bits are set in an entry.
    pub const RSV: u64 = 1 << 3;
    /// Instruction fetch.
    pub const ID: u64 = 1 << 4;
    /// At the translation of the final guest-physical address, not of the guest's own page tables.
    pub const FINAL: u64 = 1 << 32;
}

/// EXITINFO2 of task switches (15.14.1).
pub mod task {
    /// By IRET.
    pub const IRET: u64 = 1 << 36;
    /// By a far jump.
    pub const JUMP: u64 = 1 << 38;
}

/// EFER (3.1.7).
pub mod efer {
    /// SVM enable. VMRUN demands it of guests too.
    pub const SVME: u64 = 1 << 12;
    /// What guests may have: SCE, LME, LMA, NXE, FFXSR, TCE.
    pub const DEFINED: u64 = 0xcd01;
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
