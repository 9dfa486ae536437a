//! Registers and bits, in the words of the Intel Virtualization Technology for Directed I/O specification (rev. 4.1).

/// Remapping hardware registers (11.4), by offset.
pub mod reg {
    /// Capability (11.4.2).
    pub const CAP: u64 = 0x08;
    /// Extended capability (11.4.3).
    pub const ECAP: u64 = 0x10;
    /// Global command (11.4.4.1).
    pub const GCMD: u64 = 0x18;
    /// Global status (11.4.4.2).
    pub const GSTS: u64 = 0x1c;
    /// Root-table address (11.4.5).
    pub const RTADDR: u64 = 0x20;
    /// Fault status (11.4.7.1).
    pub const FSTS: u64 = 0x34;
    /// Fault-event control, data, address, upper address (11.4.7.2 to 11.4.7.5).
    pub const FECTL: u64 = 0x38;
    /// Fault-event data.
    pub const FEDATA: u64 = 0x3c;
    /// Fault-event address.
    pub const FEADDR: u64 = 0x40;
    /// Fault-event upper address.
    pub const FEUADDR: u64 = 0x44;
    /// Protected-memory enable (11.4.8.1).
    pub const PMEN: u64 = 0x64;
    /// Invalidation-queue head, tail, address (11.4.9).
    pub const IQH: u64 = 0x80;
    /// Invalidation-queue tail.
    pub const IQT: u64 = 0x88;
    /// Invalidation-queue address.
    pub const IQA: u64 = 0x90;
    /// Interrupt-remapping table address (11.4.11).
    pub const IRTA: u64 = 0xb8;
}

/// Capability register.
pub mod cap {
    /// Number of domains: 2^(4 + 2 * field), bits 2:0.
    pub const ND: u64 = 7;
    /// Write buffers have to be flushed.
    pub const RWBF: u64 = 1 << 4;
    /// Protected memory regions, low and high.
    pub const PMR: u64 = 3 << 5;
    /// Absence is cached, too.
    pub const CM: u64 = 1 << 7;
    /// Supported adjusted guest address widths, bits 12:8: bit 1 three levels, 2 four, 3 five.
    pub const SAGAW_SHIFT: u32 = 8;
    /// Offset of the fault-recording registers in units of 16 bytes, bits 33:24.
    pub const FRO_SHIFT: u32 = 24;
    /// Second-level large pages, bits 37:34: bit 0 2 MiB, bit 1 1 GiB.
    pub const SLLPS_SHIFT: u32 = 34;
    /// Number of fault-recording registers less one, bits 47:40.
    pub const NFR_SHIFT: u32 = 40;
}

/// Extended capability register.
pub mod ecap {
    /// The unit snoops caches when it reads its tables.
    pub const C: u64 = 1 << 0;
    /// Queued invalidation.
    pub const QI: u64 = 1 << 1;
    /// Interrupt remapping.
    pub const IR: u64 = 1 << 3;
    /// 32-bit identifiers of local APICs.
    pub const EIM: u64 = 1 << 4;
}

/// Global command and status; the bits of the two are at the same places.
pub mod gcmd {
    /// Translation.
    pub const TE: u32 = 1 << 31;
    /// Set root-table pointer.
    pub const SRTP: u32 = 1 << 30;
    /// Queued invalidation.
    pub const QIE: u32 = 1 << 26;
    /// Interrupt remapping.
    pub const IRE: u32 = 1 << 25;
    /// Messages that are not remapped pass.
    pub const CFI: u32 = 1 << 23;
    /// Set interrupt-remapping table pointer.
    pub const SIRTP: u32 = 1 << 24;
    /// What stays set from one command to the next: all but the one-shot bits.
    pub const KEPT: u32 = 0x96ff_ffff;
}

/// Fault status.
pub mod fsts {
    /// A fault was lost.
    pub const PFO: u32 = 1 << 0;
    /// A fault is pending.
    pub const PPF: u32 = 1 << 1;
    /// The invalidation queue has stopped.
    pub const IQE: u32 = 1 << 4;
    /// An invalidation of a device's TLB failed.
    pub const ICE: u32 = 1 << 5;
    /// Such a one has timed out.
    pub const ITE: u32 = 1 << 6;
    /// Index of the first fault-recording register with a fault, bits 15:8.
    pub const FRI_SHIFT: u32 = 8;
}

/// Interrupt mask in the fault-event control.
pub const FECTL_IM: u32 = 1 << 31;
/// Enable in the protected-memory register, and its status.
pub const PMEN_EPM: u32 = 1 << 31;
/// Protected-memory status.
pub const PMEN_PRS: u32 = 1 << 0;

/// Entries of the legacy-mode root and context tables (9.1, 9.3).
pub mod context {
    /// Present, in both.
    pub const P: u64 = 1 << 0;
    /// Address width, upper half: 1 three levels, 2 four, 3 five.
    pub const AW_LEVELS: u32 = 2;
    /// Domain, upper half, bits 23:8.
    pub const DID_SHIFT: u32 = 8;
}

/// Interrupt-remapping table entry (9.10).
pub mod irte {
    /// Present.
    pub const P: u64 = 1 << 0;
    /// Faults are not reported.
    pub const FPD: u64 = 1 << 1;
    /// Level-triggered.
    pub const TM: u64 = 1 << 4;
    /// Vector, bits 23:16.
    pub const V_SHIFT: u32 = 16;
    /// Destination, bits 63:32; 8-bit identifiers in bits 47:40.
    pub const DST_SHIFT: u32 = 32;
    /// The same for 8-bit identifiers.
    pub const DST_XAPIC_SHIFT: u32 = 40;
    /// Source-validation type, upper half: all bits of the requester are compared.
    pub const SVT_ALL: u64 = 1 << 18;
}

/// Interrupt-remapping table address.
pub mod irta {
    /// Destinations have 32 bits.
    pub const EIME: u64 = 1 << 11;
}

/// Messages in remappable format (5.1.2.2).
pub mod message {
    /// Remappable format.
    pub const FORMAT: u32 = 1 << 4;
    /// Bits 14:0 of the handle.
    pub const HANDLE_SHIFT: u32 = 5;
    /// Bit 15 of it.
    pub const HANDLE_15: u32 = 1 << 2;
}

/// I/O redirection entry in remappable format (5.1.5.1).
pub mod rte {
    /// Bits 14:0 of the index.
    pub const INDEX_SHIFT: u32 = 49;
    /// Remappable format.
    pub const FORMAT: u64 = 1 << 48;
    /// Bit 15 of the index.
    pub const INDEX_15: u64 = 1 << 11;
}

/// Invalidation descriptors (6.5.2).
pub mod descriptor {
    /// Context cache.
    pub const CONTEXT: u64 = 1;
    /// IOTLB.
    pub const IOTLB: u64 = 2;
    /// Interrupt-entry cache.
    pub const INTERRUPT: u64 = 4;
    /// Wait.
    pub const WAIT: u64 = 5;
    /// Context cache and IOTLB: all.
    pub const GLOBAL: u64 = 1 << 4;
    /// Context cache and IOTLB: one domain.
    pub const DOMAIN: u64 = 2 << 4;
    /// Context cache: one device.
    pub const DEVICE: u64 = 3 << 4;
    /// Interrupt-entry cache: one entry.
    pub const INDEX: u64 = 1 << 4;
    /// Domain, bits 31:16.
    pub const DID_SHIFT: u32 = 16;
    /// Device, bits 47:32.
    pub const SID_SHIFT: u32 = 32;
    /// Interrupt entry, bits 47:32.
    pub const IIDX_SHIFT: u32 = 32;
    /// IOTLB: writes and reads that are under way end first.
    pub const DRAIN: u64 = 3 << 6;
    /// Wait: write the status word.
    pub const SW: u64 = 1 << 5;
    /// Wait: what to write, bits 63:32.
    pub const DATA_SHIFT: u32 = 32;
}

/// Fault-recording register (11.4.14), upper half.
pub mod fault {
    /// Requester, bits 15:0.
    pub const SID: u64 = 0xffff;
    /// Reason, bits 39:32.
    pub const FR_SHIFT: u32 = 32;
    /// The request was a read.
    pub const READ: u64 = 1 << 62;
    /// There is a fault; written back to clear it.
    pub const F: u64 = 1 << 63;
    /// First and last reason that is about interrupt remapping (table 26).
    pub const INTERRUPTS: core::ops::RangeInclusive<u8> = 0x20..=0x27;
    /// Interrupt faults: index in the lower half, bits 63:48.
    pub const INDEX_SHIFT: u32 = 48;
}
