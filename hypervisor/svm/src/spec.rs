//! SVM bits by the manual's names: AMD APM vol. 2, chapters 3, 4 and 15, appendices B and C. And [`terms`], in which guest
//! events are given.

mod terms;

pub use terms::*;

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

/// Exit codes, low 32 bits (appendix C). Ranges end where the next constant begins.
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod code {
    pub const CR0_READ: u32 = 0x00;
    pub const CR0_WRITE: u32 = 0x10;
    pub const DR0_READ: u32 = 0x20;
    pub const DR0_WRITE: u32 = 0x30;
    pub const EXCP0: u32 = 0x40;
    pub const INTR: u32 = 0x60;
    pub const NMI: u32 = 0x61;
    pub const SMI: u32 = 0x62;
    pub const INIT: u32 = 0x63;
    pub const VINTR: u32 = 0x64;
    pub const CR0_SEL_WRITE: u32 = 0x65;
    pub const IDTR_READ: u32 = 0x66;
    pub const GDTR_READ: u32 = 0x67;
    pub const LDTR_READ: u32 = 0x68;
    pub const TR_READ: u32 = 0x69;
    pub const IDTR_WRITE: u32 = 0x6a;
    pub const GDTR_WRITE: u32 = 0x6b;
    pub const LDTR_WRITE: u32 = 0x6c;
    pub const TR_WRITE: u32 = 0x6d;
    pub const RDTSC: u32 = 0x6e;
    pub const RDPMC: u32 = 0x6f;
    pub const CPUID: u32 = 0x72;
    pub const RSM: u32 = 0x73;
    pub const IRET: u32 = 0x74;
    pub const INVD: u32 = 0x76;
    pub const PAUSE: u32 = 0x77;
    pub const HLT: u32 = 0x78;
    pub const INVLPG: u32 = 0x79;
    pub const INVLPGA: u32 = 0x7a;
    pub const IOIO: u32 = 0x7b;
    pub const MSR: u32 = 0x7c;
    pub const TASK_SWITCH: u32 = 0x7d;
    pub const SHUTDOWN: u32 = 0x7f;
    pub const VMRUN: u32 = 0x80;
    pub const VMMCALL: u32 = 0x81;
    pub const VMLOAD: u32 = 0x82;
    pub const VMSAVE: u32 = 0x83;
    pub const STGI: u32 = 0x84;
    pub const CLGI: u32 = 0x85;
    pub const SKINIT: u32 = 0x86;
    pub const RDTSCP: u32 = 0x87;
    pub const ICEBP: u32 = 0x88;
    pub const WBINVD: u32 = 0x89;
    pub const MONITOR: u32 = 0x8a;
    pub const MWAIT: u32 = 0x8b;
    pub const MWAIT_CONDITIONAL: u32 = 0x8c;
    pub const XSETBV: u32 = 0x8d;
    pub const INVPCID: u32 = 0xa2;
    pub const BUSLOCK: u32 = 0xa5;
    pub const IDLE_HLT: u32 = 0xa6;
    pub const NPF: u32 = 0x400;
    /// -1: the state in the VMCB is not valid. Some emulators store it with 32 bits.
    pub const INVALID: u32 = 0xffff_ffff;
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

/// Vectors (8.2).
pub mod vector {
    /// #DB.
    pub const DEBUG: u32 = 1;
    /// #BP.
    pub const BREAKPOINT: u8 = 3;
    /// #OF.
    pub const OVERFLOW: u8 = 4;
    /// #PF.
    pub const PAGE_FAULT: u32 = 14;
    /// #MC.
    pub const MACHINE_CHECK: u32 = 18;
}

/// CR0 (3.1.1).
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

/// EFER (3.1.7).
pub mod efer {
    /// Number of the MSR.
    pub const MSR: u32 = 0xc000_0080;
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// SVM enable. VMRUN demands it of guests too.
    pub const SVME: u64 = 1 << 12;
    /// What guests may have: SCE, LME, LMA, NXE, FFXSR, TCE.
    pub const DEFINED: u64 = 0xcd01;
}

/// RFLAGS (3.1.6).
pub mod rflags {
    /// Bit 1, always 1.
    pub const ONE: u64 = 1 << 1;
    /// Interrupts on.
    pub const IF: u64 = 1 << 9;
    /// What exists: CF to OF (without bits 3 and 5), IOPL, NT, RF to ID.
    pub const DEFINED: u64 = 0x3f_7fd5 | ONE;
}

/// DR6 and DR7 (13.1.1).
pub mod dr {
    /// DR6 after reset.
    pub const DR6_RESET: u64 = 0xffff_0ff0;
    /// DR6: breakpoints hit, debug-register access, single step.
    pub const DR6_CAUSES: u64 = 0x600f;
    /// DR7, bit 10, always 1.
    pub const DR7_ONE: u64 = 1 << 10;
    /// DR7: what may be set.
    pub const DR7_DEFINED: u64 = 0xffff_2fff;
}

/// State of a CPU after reset (table 14-1), where it is not 0.
pub mod reset {
    /// CR0: caches off.
    pub const CR0: u64 = super::cr0::CD | super::cr0::NW | super::cr0::ET;
    /// RIP.
    pub const RIP: u64 = 0xfff0;
    /// CS selector.
    pub const CS_SELECTOR: u16 = 0xf000;
    /// CS base.
    pub const CS_BASE: u64 = 0xffff_0000;
    /// Limit of all segments and tables.
    pub const LIMIT: u32 = 0xffff;
    /// Attributes of CS: present, code, readable, accessed.
    pub const AR_CODE: u16 = 0x9b;
    /// Attributes of data segments: present, writable, accessed.
    pub const AR_DATA: u16 = 0x93;
    /// Attributes of LDTR.
    pub const AR_LDT: u16 = 0x82;
    /// Attributes of TR: busy TSS.
    pub const AR_TSS: u16 = 0x8b;
    /// PAT.
    pub const PAT: u64 = 0x0007_0406_0007_0406;
}
