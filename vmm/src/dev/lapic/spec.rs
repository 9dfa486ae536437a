//! Registers of the local APIC. Names as in the Intel SDM, volume 3, chapter 11 ("Advanced Programmable Interrupt
//! Controller"). Registers are named by their x2APIC number: MSR 0x800 + number, or offset 16 * number in xAPIC mode
//! (table 11-1 and table 11-6).

/// IA32_APIC_BASE (11.4.4).
pub const MSR_APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE (11.5.4.1).
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// First MSR of the x2APIC range.
pub const MSR_X2APIC: u32 = 0x800;
/// Last MSR of the x2APIC range, reserved ones included.
pub const MSR_X2APIC_LAST: u32 = 0x8ff;

/// APIC base: bootstrap processor.
pub const BASE_BSP: u64 = 1 << 8;
/// APIC base: x2APIC mode.
pub const BASE_EXTD: u64 = 1 << 10;
/// APIC base: enabled.
pub const BASE_EN: u64 = 1 << 11;
/// APIC base: the mode bits.
pub const BASE_MODE: u64 = BASE_EN | BASE_EXTD;
/// APIC base: reserved bits below the address.
pub const BASE_RESERVED: u64 = 0x2ff;
/// APIC base: low bits that are not the address.
pub const BASE_FLAGS: u64 = 0xfff;

/// APIC ID.
pub const ID: u8 = 0x02;
/// Version.
pub const VERSION: u8 = 0x03;
/// Task priority.
pub const TPR: u8 = 0x08;
/// Arbitration priority (xAPIC only).
pub const APR: u8 = 0x09;
/// Processor priority.
pub const PPR: u8 = 0x0a;
/// End of interrupt.
pub const EOI: u8 = 0x0b;
/// Remote read (xAPIC only).
pub const RRD: u8 = 0x0c;
/// Logical destination.
pub const LDR: u8 = 0x0d;
/// Destination format (xAPIC only).
pub const DFR: u8 = 0x0e;
/// Spurious interrupt vector.
pub const SVR: u8 = 0x0f;
/// In-service, eight registers.
pub const ISR: u8 = 0x10;
/// Trigger mode, eight registers.
pub const TMR: u8 = 0x18;
/// Interrupt request, eight registers.
pub const IRR: u8 = 0x20;
/// Last interrupt request register.
pub const IRR_LAST: u8 = 0x27;
/// Error status.
pub const ESR: u8 = 0x28;
/// Interrupt command, low half (all of it in x2APIC mode).
pub const ICR: u8 = 0x30;
/// Interrupt command, high half (xAPIC only).
pub const ICR_HIGH: u8 = 0x31;
/// Local vector table: timer. The thermal sensor (0x33) and the performance counters (0x34) follow.
pub const LVT_TIMER: u8 = 0x32;
/// Local vector table: LINT0.
pub const LVT_LINT0: u8 = 0x35;
/// Local vector table: LINT1.
pub const LVT_LINT1: u8 = 0x36;
/// Local vector table: error.
pub const LVT_ERROR: u8 = 0x37;
/// Initial count of the timer.
pub const TIMER_INITIAL: u8 = 0x38;
/// Current count of the timer.
pub const TIMER_CURRENT: u8 = 0x39;
/// Divide configuration of the timer.
pub const TIMER_DIVIDE: u8 = 0x3e;
/// Self IPI (x2APIC only).
pub const SELF_IPI: u8 = 0x3f;

/// Number of entries of the local vector table.
pub const LVT_ENTRIES: usize = 6;
/// Version: integrated APIC 0x14, bits 16 to 23 are the highest entry of the local vector table.
pub const VERSION_VALUE: u32 = 0x14 | ((LVT_ENTRIES as u32 - 1) << 16);

/// Spurious vector: software enable.
pub const SVR_ENABLED: u32 = 1 << 8;
/// Spurious vector: bits that exist (vector, enable, focus checking).
pub const SVR_MASK: u32 = 0x3ff;
/// Spurious vector after reset.
pub const SVR_RESET: u32 = 0xff;
/// Destination format after reset: flat; the low bits are ones.
pub const DFR_RESET: u32 = u32::MAX;
/// Destination format: the bits below the model.
pub const DFR_ONES: u32 = 0x0fff_ffff;
/// Position of the ID, the logical ID and the destination in xAPIC registers.
pub const XAPIC_ID_SHIFT: u32 = 24;

/// Error status: a vector below 16 was to be sent.
pub const ESR_SEND_ILLEGAL: u32 = 1 << 5;
/// Error status: a vector below 16 came in, or from the own local vector table.
pub const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
/// Error status: access to a register that does not exist.
pub const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;
/// Vectors below this one are reserved for exceptions.
pub const FIRST_VECTOR: u8 = 16;

/// Local vector table and interrupt command: position of the delivery mode.
pub const MODE_SHIFT: u32 = 8;
/// Delivery mode NMI.
pub const MODE_NMI: u32 = 4;
/// Delivery mode ExtINT.
pub const MODE_EXTINT: u32 = 7;
/// Local vector table: masked.
pub const LVT_MASKED: u32 = 1 << 16;
/// Local vector table: timer mode.
pub const LVT_TIMER_MODE: u32 = 3 << 17;
/// Timer mode: periodic.
pub const LVT_PERIODIC: u32 = 1 << 17;
/// Timer mode: TSC deadline.
pub const LVT_TSC_DEADLINE: u32 = 2 << 17;
/// Read-only bits of the local vector table: delivery status, remote IRR.
pub const LVT_READ_ONLY: u32 = (1 << 12) | (1 << 14);
/// Bits that exist in each entry of the local vector table, by number from `LVT_TIMER`.
pub const LVT_BITS: [u32; LVT_ENTRIES] = [0x7_10ff, 0x1_17ff, 0x1_17ff, 0x1_f7ff, 0x1_f7ff, 0x1_10ff];

/// Interrupt command: logical destination.
pub const ICR_LOGICAL: u32 = 1 << 11;
/// Interrupt command: delivery status (xAPIC only, read-only).
pub const ICR_STATUS: u32 = 1 << 12;
/// Interrupt command: level assert.
pub const ICR_ASSERT: u32 = 1 << 14;
/// Interrupt command: level-triggered.
pub const ICR_LEVEL: u32 = 1 << 15;
/// Interrupt command: position of the destination shorthand.
pub const ICR_SHORTHAND_SHIFT: u32 = 18;
/// Interrupt command: bits that exist in the low half.
pub const ICR_BITS: u32 = 0x000c_dfff;
/// Divide configuration: bits that exist.
pub const DIVIDE_BITS: u32 = 0xb;

/// The vectors of one priority class (11.8.3).
pub const CLASS: u8 = 0xf0;
