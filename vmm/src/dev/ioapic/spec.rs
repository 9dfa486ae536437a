//! Registers of the I/O APIC. Names as in Intel's data sheet "82093AA I/O Advanced Programmable Interrupt Controller"
//! (290566-001), section 3; the EOI register as in later chipsets (ICH8 data sheet, 5.9 and 13.5).

/// Inputs.
pub const PINS: usize = 24;
/// Offset of the register select register.
pub const IOREGSEL: u64 = 0x00;
/// Offset of the data window.
pub const IOWIN: u64 = 0x10;
/// Offset of the EOI register (version 0x20).
pub const EOI: u64 = 0x40;

/// Index of the identification register.
pub const IOAPICID: u8 = 0x00;
/// Index of the version register.
pub const IOAPICVER: u8 = 0x01;
/// Index of the arbitration register.
pub const IOAPICARB: u8 = 0x02;
/// Index of the first half of the first redirection entry; each entry has two halves.
pub const IOREDTBL: u8 = 0x10;

/// Version with an EOI register; bits 16 to 23 are the highest entry.
pub const VERSION: u32 = 0x20 | ((PINS as u32 - 1) << 16);
/// Position of the ID in its register.
pub const ID_SHIFT: u32 = 24;
/// The ID has four bits.
pub const ID_MASK: u32 = 0xf;

/// Entry: vector.
pub const ENTRY_VECTOR: u64 = 0xff;
/// Entry: delivery mode.
pub const ENTRY_MODE_SHIFT: u32 = 8;
/// Entry: logical destination.
pub const ENTRY_LOGICAL: u64 = 1 << 11;
/// Entry: delivered to a local APIC that has not ended it yet (read-only).
pub const ENTRY_REMOTE_IRR: u64 = 1 << 14;
/// Entry: level-triggered.
pub const ENTRY_LEVEL: u64 = 1 << 15;
/// Entry: masked.
pub const ENTRY_MASK: u64 = 1 << 16;
/// Entry: position of the destination.
pub const ENTRY_DESTINATION_SHIFT: u32 = 56;
/// Entry: the bits that software writes (not delivery status, remote IRR and the reserved ones).
pub const ENTRY_WRITABLE: u64 = 0xff00_0000_0001_afff;
