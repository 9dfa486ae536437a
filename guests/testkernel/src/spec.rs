//! Numbers of the architecture, with the names of the Intel SDM (volume 3 unless said otherwise).
#![allow(missing_docs, reason = "the names are those of the manual")]

/// Exceptions (table 6-1).
pub mod vector {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const XM: u8 = 19;
}

/// Error code of a page fault (4.7).
pub mod pf {
    pub const P: u64 = 1 << 0;
    pub const W: u64 = 1 << 1;
    pub const U: u64 = 1 << 2;
    pub const RSVD: u64 = 1 << 3;
    pub const I: u64 = 1 << 4;
}

/// CR0 (2.5).
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// CR4 (2.5).
pub mod cr4 {
    /// What every 64-bit CPU has: VME to OSXMMEXCPT.
    pub const ALWAYS: u64 = 0x7ff;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PAE: u64 = 1 << 5;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const LA57: u64 = 1 << 12;
    pub const VMXE: u64 = 1 << 13;
    pub const SMXE: u64 = 1 << 14;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
}

/// RFLAGS (volume 1, 3.4.3).
pub mod rflags {
    pub const FIXED: u64 = 1 << 1;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const RF: u64 = 1 << 16;
    pub const AC: u64 = 1 << 18;
}

/// EFER (2.2.1).
pub mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// DR6 and DR7 (17.2).
pub mod dr {
    pub const DR6_RESET: u64 = 0xffff_0ff0;
    pub const DR6_BD: u64 = 1 << 13;
    pub const DR6_BS: u64 = 1 << 14;
    pub const DR7_RESET: u64 = 0x400;
    pub const DR7_GD: u64 = 1 << 13;
}

/// Page-table entries (4.5).
pub mod pte {
    pub const P: u64 = 1 << 0;
    pub const W: u64 = 1 << 1;
    pub const U: u64 = 1 << 2;
    pub const A: u64 = 1 << 5;
    pub const D: u64 = 1 << 6;
    pub const PS: u64 = 1 << 7;
    pub const G: u64 = 1 << 8;
    pub const NX: u64 = 1 << 63;
    /// Address bits, as wide as the architecture allows.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// MSRs (volume 4, table 2-2).
pub mod msr {
    pub const TSC: u32 = 0x10;
    pub const APIC_BASE: u32 = 0x1b;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const BIOS_SIGN_ID: u32 = 0x8b;
    pub const MTRRCAP: u32 = 0xfe;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const MTRR_PHYS_BASE0: u32 = 0x200;
    pub const MTRR_FIX64K: u32 = 0x250;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC: u32 = 0x800;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// Registers of the local APIC: numbers in its page, in units of 16 bytes, and in its MSRs (tables 11-1 and 11-6).
pub mod apic {
    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TPR: u32 = 0x08;
    pub const PPR: u32 = 0x0a;
    pub const EOI: u32 = 0x0b;
    pub const DFR: u32 = 0x0e;
    pub const SVR: u32 = 0x0f;
    pub const ISR: u32 = 0x10;
    pub const IRR: u32 = 0x20;
    pub const ESR: u32 = 0x28;
    pub const ICR: u32 = 0x30;
    pub const ICR_HIGH: u32 = 0x31;
    pub const LVT_TIMER: u32 = 0x32;
    pub const LVT_THERMAL: u32 = 0x33;
    pub const LVT_PERFORMANCE: u32 = 0x34;
    pub const LVT_LINT0: u32 = 0x35;
    pub const LVT_LINT1: u32 = 0x36;
    pub const LVT_ERROR: u32 = 0x37;
    pub const TIMER_INITIAL: u32 = 0x38;
    pub const TIMER_CURRENT: u32 = 0x39;
    pub const TIMER_DIVIDE: u32 = 0x3e;
    pub const SELF_IPI: u32 = 0x3f;

    pub const MASKED: u32 = 1 << 16;
    pub const ONE_SHOT: u32 = 0;
    pub const PERIODIC: u32 = 1 << 17;
    pub const DEADLINE: u32 = 2 << 17;

    pub const FIXED: u32 = 0;
    pub const NMI: u32 = 4 << 8;
    pub const INIT: u32 = 5 << 8;
    pub const STARTUP: u32 = 6 << 8;
    pub const PENDING: u32 = 1 << 12;
    pub const ASSERT: u32 = 1 << 14;
    pub const TO_SELF: u32 = 1 << 18;
    pub const TO_ALL: u32 = 2 << 18;
    pub const TO_OTHERS: u32 = 3 << 18;

    /// IA32_APIC_BASE (11.4.4).
    pub const BASE_BSP: u64 = 1 << 8;
    pub const BASE_X2APIC: u64 = 1 << 10;
    pub const BASE_ENABLE: u64 = 1 << 11;
}

/// Ports of a PC.
pub mod port {
    pub const PIC_MASTER: u16 = 0x20;
    pub const PIC_SLAVE: u16 = 0xa0;
    pub const PIT: u16 = 0x40;
    pub const PORT_B: u16 = 0x61;
    pub const RTC: u16 = 0x70;
    pub const POST: u16 = 0x80;
    pub const COM1: u16 = 0x3f8;
    /// PM1a control: of Ferronova's virtual machines and QEMU's i440FX, and of Bochs.
    pub const PM1A_CNT: [u16; 2] = [0x604, 0xb004];
    pub const PM_TIMER: u16 = 0x608;
    pub const PCI_ADDRESS: u16 = 0xcf8;
    pub const PCI_DATA: u16 = 0xcfc;
    pub const RESET: u16 = 0xcf9;
    /// A byte written here is in the log of Ferronova's VMM.
    pub const MARKER: u16 = 0x8900;
}

/// Device memory.
pub mod mmio {
    pub const IOAPIC: u64 = 0xfec0_0000;
    pub const LAPIC: u64 = 0xfee0_0000;
    /// Nobody answers here, in Ferronova's virtual machines and in most others.
    pub const UNMAPPED: u64 = 0xfd00_0000;
}
