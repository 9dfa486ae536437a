//! Registers and bits, in the words of the AMD I/O Virtualization Technology specification (48882, rev. 3.06).

/// Registers (3.4), by offset.
pub mod reg {
    /// Device-table base.
    pub const DEVICE_TABLE: u64 = 0x00;
    /// Command-buffer base.
    pub const COMMANDS: u64 = 0x08;
    /// Event-log base.
    pub const EVENTS: u64 = 0x10;
    /// Control.
    pub const CONTROL: u64 = 0x18;
    /// Base of the range that is excluded from translation, bit 0: there is one.
    pub const EXCLUSION: u64 = 0x20;
    /// Extended features.
    pub const FEATURES: u64 = 0x30;
    /// Command-buffer head and tail.
    pub const COMMAND_HEAD: u64 = 0x2000;
    /// Command-buffer tail.
    pub const COMMAND_TAIL: u64 = 0x2008;
    /// Event-log head and tail.
    pub const EVENT_HEAD: u64 = 0x2010;
    /// Event-log tail.
    pub const EVENT_TAIL: u64 = 0x2018;
    /// Status.
    pub const STATUS: u64 = 0x2020;
}

/// Bytes of registers without the performance counters; the base is a multiple of it.
pub const REGISTERS: u64 = 0x4000;
/// Bytes with them (PCSup).
pub const REGISTERS_WITH_COUNTERS: u64 = 0x8_0000;

/// Control register (3.4.1).
pub mod control {
    /// The unit is on.
    pub const IOMMU_EN: u64 = 1 << 0;
    /// HyperTransport tunnel.
    pub const HT_TUN_EN: u64 = 1 << 1;
    /// Events are logged.
    pub const EVENT_LOG_EN: u64 = 1 << 2;
    /// Requests pass posted writes.
    pub const PASS_PW: u64 = 1 << 8;
    /// Responses do.
    pub const RES_PASS_PW: u64 = 1 << 9;
    /// The unit snoops caches when it reads its tables.
    pub const COHERENT: u64 = 1 << 10;
    /// The unit's own requests are isochronous.
    pub const ISOC: u64 = 1 << 11;
    /// Commands are executed.
    pub const CMD_BUF_EN: u64 = 1 << 12;
}

/// Extended features (3.4.6).
pub mod features {
    /// Invalidation of everything at once.
    pub const IA_SUP: u64 = 1 << 6;
    /// Performance counters.
    pub const PC_SUP: u64 = 1 << 9;
    /// Host address translation levels less four, bits 11:10.
    pub const HATS_SHIFT: u32 = 10;
}

/// Status register (3.4.10).
pub mod status {
    /// The log was full, and nothing is logged since; written as 1 to clear it.
    pub const EVENT_OVERFLOW: u64 = 1 << 0;
    /// The log is on.
    pub const EVENT_LOG_RUN: u64 = 1 << 3;
    /// Commands are executed.
    pub const CMD_BUF_RUN: u64 = 1 << 4;
}

/// Length field of command buffer and event log, bits 59:56: 2^8 entries of 16 bytes, which is a frame.
pub const LENGTH_256: u64 = 8 << 56;
/// Offset in command buffer or event log, as head and tail registers have it.
pub const OFFSET: u64 = 0xff0;

/// Device-table entry (2.2.2.1), by 64-bit word.
pub mod dte {
    /// Word 0: the entry is valid.
    pub const V: u64 = 1 << 0;
    /// Word 0: translation is.
    pub const TV: u64 = 1 << 1;
    /// Word 0: levels of the page table, bits 11:9.
    pub const MODE_SHIFT: u32 = 9;
    /// Word 0: reads are permitted.
    pub const IR: u64 = 1 << 61;
    /// Word 0: writes are permitted.
    pub const IW: u64 = 1 << 62;
    /// Word 1: domain, bits 15:0.
    pub const DOMAIN: u64 = 0xffff;
    /// Word 2: the interrupt part is valid.
    pub const IV: u64 = 1 << 0;
    /// Word 2: log2 entries of the interrupt table, bits 4:1.
    pub const TABLE_LENGTH_SHIFT: u32 = 1;
    /// Word 2: interrupts are remapped; 0: aborted. Bits 61:60.
    pub const INT_CTL_REMAP: u64 = 2 << 60;
}

/// Interrupt-remapping table entry of 32 bits (2.2.5.1).
pub mod irte {
    /// The entry is valid.
    pub const REMAP_EN: u32 = 1 << 0;
    /// An interrupt that the entry blocks is not reported.
    pub const SUP_IO_PF: u32 = 1 << 1;
    /// Destination, bits 15:8.
    pub const DESTINATION_SHIFT: u32 = 8;
    /// Vector, bits 23:16.
    pub const VECTOR_SHIFT: u32 = 16;
}

/// Commands (2.4): opcode in bits 63:60 of the first word.
pub mod command {
    /// First bit of the opcode.
    pub const OPCODE_SHIFT: u32 = 60;
    /// Completion wait.
    pub const COMPLETION_WAIT: u64 = 1;
    /// Device-table entry.
    pub const INVALIDATE_DEVTAB_ENTRY: u64 = 2;
    /// Translations of a domain.
    pub const INVALIDATE_IOMMU_PAGES: u64 = 3;
    /// Interrupt table of a device.
    pub const INVALIDATE_INTERRUPT_TABLE: u64 = 5;
    /// Everything.
    pub const INVALIDATE_IOMMU_ALL: u64 = 8;
    /// Completion wait: store the second word.
    pub const STORE: u64 = 1 << 0;
    /// Domain, bits 47:32.
    pub const DOMAIN_SHIFT: u32 = 32;
    /// Second word of a page invalidation: everything, directories included.
    pub const ALL_PAGES: u64 = 0x7fff_ffff_ffff_f000 | 1 << 1 | 1 << 0;
}

/// Events (2.5): code in bits 63:60 of the first word.
pub mod event {
    /// First bit of the code.
    pub const CODE_SHIFT: u32 = 60;
    /// IO_PAGE_FAULT.
    pub const IO_PAGE_FAULT: u8 = 2;
    /// ILLEGAL_COMMAND_ERROR and COMMAND_HARDWARE_ERROR: not about a device.
    pub const COMMAND: core::ops::RangeInclusive<u8> = 5..=6;
    /// Page fault: an interrupt.
    pub const I: u64 = 1 << 51;
    /// Page fault: a write.
    pub const RW: u64 = 1 << 53;
}
