//! Numbers of the architecture with the names of the Intel SDM, and the table of guest events.
//!
//! VM-exit reasons: SDM volume 3, appendix C. Exit qualifications: volume 3, 28.2.1. MSRs: volume 4.

use abi::Mtd;
use abi::event::{GST_ARCH, GST_RECALL, GST_STARTUP};

/// Basic exit reasons that the monitor answers (appendix C); also selectors relative to the event base.
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod reason {
    pub const TRIPLE_FAULT: u64 = 0x02;
    pub const INTERRUPT_WINDOW: u64 = 0x07;
    pub const NMI_WINDOW: u64 = 0x08;
    pub const CPUID: u64 = 0x0a;
    pub const GETSEC: u64 = 0x0b;
    pub const HLT: u64 = 0x0c;
    pub const INVD: u64 = 0x0d;
    pub const RDPMC: u64 = 0x0f;
    pub const VMCALL: u64 = 0x12;
    pub const VMCLEAR: u64 = 0x13;
    pub const VMXON: u64 = 0x1b;
    pub const CR_ACCESS: u64 = 0x1c;
    pub const IO: u64 = 0x1e;
    pub const RDMSR: u64 = 0x1f;
    pub const WRMSR: u64 = 0x20;
    pub const ENTRY_FAILURE: u64 = 0x21;
    pub const MWAIT: u64 = 0x24;
    pub const MONITOR: u64 = 0x27;
    pub const PAUSE: u64 = 0x28;
    pub const EPT_VIOLATION: u64 = 0x30;
    pub const INVEPT: u64 = 0x32;
    pub const INVVPID: u64 = 0x35;
    pub const WBINVD: u64 = 0x36;
    pub const XSETBV: u64 = 0x37;
    pub const VMFUNC: u64 = 0x3b;
    pub const STARTUP: u64 = abi::event::GST_STARTUP;
    pub const RECALL: u64 = abi::event::GST_RECALL;
}

/// Number of guest events.
pub const EVENTS: u64 = GST_ARCH + abi::event::GST_NOVA;

/// RIP with instruction length, and the interrupt shadow: what skipping an instruction needs.
pub const SKIP: Mtd = Mtd::RIP.union(Mtd::STA);
/// What deciding about an injection needs.
pub const INJECT: Mtd = Mtd::RFLAGS.union(Mtd::STA).union(Mtd::INJ);
/// General-purpose registers.
pub const GPR: Mtd = Mtd::GPR_0_7.union(Mtd::GPR_8_15);
/// What emulating an instruction with memory operands needs.
pub const EMULATE: Mtd = GPR
    .union(SKIP)
    .union(INJECT)
    .union(Mtd::QUAL)
    .union(Mtd::CS_SS)
    .union(Mtd::DS_ES)
    .union(Mtd::FS_GS)
    .union(Mtd::CR)
    .union(Mtd::EFER);
/// All readable state: reports, and rare exits that need more than their portal carries.
pub const FULL: Mtd = Mtd::GUEST_STATE;

/// State that the portal of each event carries in; events not listed carry [`FULL`], for the report.
const PORTALS: [(u64, Mtd); 16] = [
    (reason::INTERRUPT_WINDOW, INJECT),
    (reason::NMI_WINDOW, INJECT),
    (reason::CPUID, Mtd::GPR_0_7.union(SKIP).union(Mtd::CR)),
    (reason::HLT, SKIP.union(INJECT)),
    (reason::INVD, SKIP),
    (reason::WBINVD, SKIP),
    (reason::PAUSE, SKIP),
    (reason::VMCALL, Mtd::GPR_0_7.union(SKIP)),
    (reason::CR_ACCESS, EMULATE),
    (reason::IO, Mtd::GPR_0_7.union(SKIP).union(INJECT).union(Mtd::QUAL)),
    (reason::RDMSR, Mtd::GPR_0_7.union(SKIP)),
    (reason::WRMSR, Mtd::GPR_0_7.union(SKIP).union(INJECT)),
    (reason::EPT_VIOLATION, EMULATE),
    (reason::XSETBV, Mtd::GPR_0_7.union(SKIP).union(Mtd::CR).union(Mtd::XSAVE)),
    (GST_STARTUP, Mtd::empty()),
    (GST_RECALL, INJECT),
];

/// State that the portal of an event carries in.
pub fn portal_mtd(event: u64) -> Mtd {
    PORTALS.iter().find(|(e, _)| *e == event).map_or(FULL, |(_, m)| *m)
}

/// Name of an event, for reports and statistics.
pub fn event_name(event: u64) -> &'static str {
    NAMES.iter().find(|(e, _)| *e == event).map_or("reserved", |(_, n)| n)
}

const NAMES: [(u64, &str); 71] = [
    (0x00, "exception or NMI"),
    (0x01, "external interrupt"),
    (0x02, "triple fault"),
    (0x03, "INIT"),
    (0x04, "SIPI"),
    (0x05, "I/O SMI"),
    (0x06, "other SMI"),
    (0x07, "interrupt window"),
    (0x08, "NMI window"),
    (0x09, "task switch"),
    (0x0a, "CPUID"),
    (0x0b, "GETSEC"),
    (0x0c, "HLT"),
    (0x0d, "INVD"),
    (0x0e, "INVLPG"),
    (0x0f, "RDPMC"),
    (0x10, "RDTSC"),
    (0x11, "RSM"),
    (0x12, "VMCALL"),
    (0x13, "VMCLEAR"),
    (0x14, "VMLAUNCH"),
    (0x15, "VMPTRLD"),
    (0x16, "VMPTRST"),
    (0x17, "VMREAD"),
    (0x18, "VMRESUME"),
    (0x19, "VMWRITE"),
    (0x1a, "VMXOFF"),
    (0x1b, "VMXON"),
    (0x1c, "CR access"),
    (0x1d, "DR access"),
    (0x1e, "I/O"),
    (0x1f, "RDMSR"),
    (0x20, "WRMSR"),
    (0x21, "VM-entry failure (guest state)"),
    (0x22, "VM-entry failure (MSR loading)"),
    (0x24, "MWAIT"),
    (0x25, "monitor trap flag"),
    (0x27, "MONITOR"),
    (0x28, "PAUSE"),
    (0x29, "VM-entry failure (machine check)"),
    (0x2b, "TPR below threshold"),
    (0x2c, "APIC access"),
    (0x2d, "virtualized EOI"),
    (0x2e, "GDTR or IDTR access"),
    (0x2f, "LDTR or TR access"),
    (0x30, "EPT violation"),
    (0x31, "EPT misconfiguration"),
    (0x32, "INVEPT"),
    (0x33, "RDTSCP"),
    (0x34, "preemption timer"),
    (0x35, "INVVPID"),
    (0x36, "WBINVD"),
    (0x37, "XSETBV"),
    (0x38, "APIC write"),
    (0x39, "RDRAND"),
    (0x3a, "INVPCID"),
    (0x3b, "VMFUNC"),
    (0x3c, "ENCLS"),
    (0x3d, "RDSEED"),
    (0x3e, "PML full"),
    (0x3f, "XSAVES"),
    (0x40, "XRSTORS"),
    (0x41, "PCONFIG"),
    (0x42, "SPP"),
    (0x43, "UMWAIT"),
    (0x44, "TPAUSE"),
    (0x45, "LOADIWKEY"),
    (0x4a, "bus lock"),
    (0x4b, "instruction timeout"),
    (GST_STARTUP, "startup"),
    (GST_RECALL, "recall"),
];

/// Exception vectors (volume 3, table 6-1).
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod vector {
    pub const NMI: u8 = 2;
    pub const UD: u8 = 6;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
}

/// Control-register, RFLAGS and EFER bits (volume 3, 2.2, 2.3, 2.5).
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod bits {
    pub const CR0_PE: u64 = 1 << 0;
    pub const CR0_MP: u64 = 1 << 1;
    pub const CR0_ET: u64 = 1 << 4;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_AM: u64 = 1 << 18;
    pub const CR0_NW: u64 = 1 << 29;
    pub const CR0_CD: u64 = 1 << 30;
    pub const CR0_PG: u64 = 1 << 31;
    pub const CR4_PSE: u64 = 1 << 4;
    pub const CR4_PAE: u64 = 1 << 5;
    pub const CR4_VMXE: u64 = 1 << 13;
    pub const CR4_SMXE: u64 = 1 << 14;
    pub const CR4_OSXSAVE: u64 = 1 << 18;
    pub const EFER_SCE: u64 = 1 << 0;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;
    pub const EFER_NXE: u64 = 1 << 11;
    pub const RFLAGS_FIXED: u64 = 1 << 1;
    pub const RFLAGS_CF: u64 = 1 << 0;
    pub const RFLAGS_PF: u64 = 1 << 2;
    pub const RFLAGS_AF: u64 = 1 << 4;
    pub const RFLAGS_ZF: u64 = 1 << 6;
    pub const RFLAGS_SF: u64 = 1 << 7;
    pub const RFLAGS_IF: u64 = 1 << 9;
    pub const RFLAGS_DF: u64 = 1 << 10;
    pub const RFLAGS_OF: u64 = 1 << 11;
    /// Interruptibility: blocking by STI and by MOV SS (volume 3, table 25-3).
    pub const SHADOW: u32 = 0b11;
    /// Interruptibility: blocking by NMI.
    pub const BLOCKED_BY_NMI: u32 = 1 << 3;
    /// Segment access rights: long mode, default size, unusable.
    pub const AR_L: u16 = 1 << 9;
    pub const AR_DB: u16 = 1 << 10;
    pub const AR_UNUSABLE: u16 = 1 << 12;
}

/// MSR numbers (volume 4, table 2-2).
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod msr {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    pub const SMI_COUNT: u32 = 0x34;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const BIOS_SIGN_ID: u32 = 0x8b;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const MTRRCAP: u32 = 0xfe;
    pub const MISC_FEATURES_ENABLES: u32 = 0x140;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const MTRR_PHYS_BASE0: u32 = 0x200;
    pub const MTRR_FIX64K: u32 = 0x250;
    pub const MTRR_FIX16K: u32 = 0x258;
    pub const MTRR_FIX4K: u32 = 0x268;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC: u32 = 0x800;
    pub const X2APIC_END: u32 = 0x8ff;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    /// AMD only (APM volume 2, appendix A).
    pub const DE_CFG: u32 = 0xc001_1029;
    /// AMD: SYSCFG.
    pub const SYSCFG: u32 = 0xc001_0010;
    /// AMD: HWCR.
    pub const HWCR: u32 = 0xc001_0015;
    /// AMD: NB_CFG.
    pub const NB_CFG: u32 = 0xc001_001f;
    /// AMD: LS_CFG.
    pub const LS_CFG: u32 = 0xc001_1020;
    /// AMD: first performance event select register.
    pub const PERF_CTL0: u32 = 0xc001_0000;
    /// AMD: configuration that Linux reads without need.
    pub const FP_CFG: u32 = 0xc001_1028;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_tables_are_ordered_and_in_range() {
        assert!(NAMES.windows(2).all(|w| w[0].0 < w[1].0));
        assert!(PORTALS.iter().all(|(e, _)| *e < EVENTS && event_name(*e) != "reserved"));
        assert_eq!(event_name(reason::EPT_VIOLATION), "EPT violation");
        assert_eq!(event_name(0x23), "reserved");
    }

    #[test]
    fn hot_exits_carry_little() {
        assert_eq!(portal_mtd(reason::RECALL), INJECT);
        assert!(!portal_mtd(reason::WRMSR).intersects(Mtd::CR | Mtd::CS_SS | Mtd::SYSCALL));
        assert_eq!(portal_mtd(reason::TRIPLE_FAULT), FULL);
        assert_eq!(portal_mtd(reason::STARTUP), Mtd::empty());
    }
}
