//! Registers of the MC146818A. Names as in Motorola's data sheet; CMOS bytes beyond it as PC BIOSes keep them
//! (82371SB data sheet, 2.5.5, and the "CMOS memory map" of Ralf Brown's port list).

/// Seconds.
pub const SECONDS: u8 = 0x00;
/// Seconds of the alarm.
pub const SECONDS_ALARM: u8 = 0x01;
/// Minutes.
pub const MINUTES: u8 = 0x02;
/// Minutes of the alarm.
pub const MINUTES_ALARM: u8 = 0x03;
/// Hours.
pub const HOURS: u8 = 0x04;
/// Hours of the alarm.
pub const HOURS_ALARM: u8 = 0x05;
/// Day of the week, Sunday is 1.
pub const DAY_OF_WEEK: u8 = 0x06;
/// Day of the month.
pub const DAY_OF_MONTH: u8 = 0x07;
/// Month.
pub const MONTH: u8 = 0x08;
/// Year within the century.
pub const YEAR: u8 = 0x09;
/// Register A: divider and rate.
pub const REGISTER_A: u8 = 0x0a;
/// Register B: modes and interrupt enables.
pub const REGISTER_B: u8 = 0x0b;
/// Register C: interrupt flags, cleared by reading.
pub const REGISTER_C: u8 = 0x0c;
/// Register D: valid RAM and time.
pub const REGISTER_D: u8 = 0x0d;
/// Number of bytes, clock registers included.
pub const CMOS_BYTES: usize = 128;

/// Register A: update in progress.
pub const A_UIP: u8 = 1 << 7;
/// Register A: rate selection.
pub const A_RATE: u8 = 0x0f;
/// Register A after a BIOS: 32.768 kHz divider, 1024 Hz rate.
pub const A_RESET: u8 = 0x26;
/// Register B: the time is being set, no updates.
pub const B_SET: u8 = 1 << 7;
/// Register B and C: periodic interrupt (`PIE`, `PF`).
pub const PERIODIC: u8 = 1 << 6;
/// Register B and C: alarm interrupt (`AIE`, `AF`).
pub const ALARM: u8 = 1 << 5;
/// Register B and C: update-ended interrupt (`UIE`, `UF`).
pub const UPDATE: u8 = 1 << 4;
/// The three interrupt sources.
pub const SOURCES: u8 = PERIODIC | ALARM | UPDATE;
/// Register B: binary instead of BCD.
pub const B_DM: u8 = 1 << 2;
/// Register B: 24 hours instead of 12.
pub const B_24H: u8 = 1 << 1;
/// Register C: an enabled source has its flag set (`IRQF`).
pub const C_IRQF: u8 = 1 << 7;
/// Register D: valid RAM and time.
pub const D_VRT: u8 = 1 << 7;
/// Hours: afternoon, in 12-hour mode.
pub const HOURS_PM: u8 = 1 << 7;
/// Alarm registers: values from here on match everything.
pub const DO_NOT_CARE: u8 = 0xc0;
/// The update cycle starts to show so long before the seconds change (244 us), in ns.
pub const UPDATE_NS: u64 = 244_000;
/// Frequency of the divider's output from which rates are taken.
pub const BASE_HZ: u64 = 32_768;

/// Base memory in KiB, low byte; high byte follows.
pub const BASE_MEMORY: u8 = 0x15;
/// Memory above 1 MiB in KiB, low byte; high byte follows.
pub const EXTENDED_MEMORY: u8 = 0x17;
/// The same as found by the BIOS.
pub const EXTENDED_MEMORY_FOUND: u8 = 0x30;
/// Memory above 16 MiB in units of 64 KiB, low byte; high byte follows.
pub const MEMORY_ABOVE_16M: u8 = 0x34;
/// Index port of a PC; the data port follows.
pub const INDEX_PORT: u16 = 0x70;
/// Ports of the chip in a PC.
pub const PORT_COUNT: u16 = 2;
/// Index port: the other bit masks NMIs.
pub const INDEX_MASK: u8 = 0x7f;
