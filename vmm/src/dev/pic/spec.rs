//! Registers of the 8259A. Names as in Intel's data sheet "8259A Programmable Interrupt Controller" (231468-003);
//! the edge/level control registers as in the 82371SB (PIIX3) data sheet, 2.5.7.

/// Offset of the command port (A0 = 0).
pub const COMMAND: u16 = 0;

/// ICW1: this is an initialisation command (D4).
pub const ICW1_INIT: u8 = 1 << 4;
/// ICW1: single controller, no ICW3 follows (D1).
pub const ICW1_SNGL: u8 = 1 << 1;
/// ICW1: ICW4 follows (D0).
pub const ICW1_IC4: u8 = 1 << 0;
/// ICW2: the bits of the vector that software chooses.
pub const ICW2_VECTOR: u8 = 0xf8;
/// ICW4: special fully nested mode.
pub const ICW4_SFNM: u8 = 1 << 4;
/// ICW4: automatic end of interrupt.
pub const ICW4_AEOI: u8 = 1 << 1;

/// This command is an OCW3 (D3), unless it is an ICW1.
pub const OCW3: u8 = 1 << 3;
/// OCW3: special mask mode is to be changed.
pub const OCW3_ESMM: u8 = 1 << 6;
/// OCW3: new value of special mask mode.
pub const OCW3_SMM: u8 = 1 << 5;
/// OCW3: the next read polls.
pub const OCW3_P: u8 = 1 << 2;
/// OCW3: the register to read is to be changed.
pub const OCW3_RR: u8 = 1 << 1;
/// OCW3: reads give ISR instead of IRR.
pub const OCW3_RIS: u8 = 1 << 0;

/// OCW2, bits R, SL, EOI: rotate in automatic EOI mode (clear).
pub const OCW2_ROTATE_AEOI_CLEAR: u8 = 0b000;
/// OCW2: non-specific EOI.
pub const OCW2_EOI: u8 = 0b001;
/// OCW2: specific EOI.
pub const OCW2_SPECIFIC_EOI: u8 = 0b011;
/// OCW2: rotate in automatic EOI mode (set).
pub const OCW2_ROTATE_AEOI_SET: u8 = 0b100;
/// OCW2: rotate on non-specific EOI.
pub const OCW2_ROTATE_EOI: u8 = 0b101;
/// OCW2: set priority.
pub const OCW2_SET_PRIORITY: u8 = 0b110;
/// OCW2: rotate on specific EOI.
pub const OCW2_ROTATE_SPECIFIC_EOI: u8 = 0b111;

/// A poll found an interrupt.
pub const POLL_FOUND: u8 = 1 << 7;
/// Input of the master to which the slave's output is wired.
pub const CASCADE: u8 = 2;
/// Input that answers when no request is left at the acknowledge.
pub const SPURIOUS: u8 = 7;
/// Master inputs that may be level-triggered (not timer, keyboard, cascade).
pub const ELCR_MASTER: u8 = 0xf8;
/// Slave inputs that may be level-triggered (not clock, coprocessor).
pub const ELCR_SLAVE: u8 = 0xde;
