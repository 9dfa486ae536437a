//! Registers of the 8254. Names as in Intel's data sheet "8254 Programmable Interval Timer" (231164-005);
//! system control port B as in the 82371SB (PIIX3) data sheet, 2.5.3.

/// Input clock in Hz (14.31818 MHz / 12).
pub const CLK_HZ: u64 = 1_193_182;
/// Number of counters.
pub const COUNTERS: usize = 3;
/// Offset of the control word register.
pub const CONTROL: u16 = 3;

/// Control word: select counter (SC1, SC0); 3 is the read-back command.
pub const SC_SHIFT: u8 = 6;
/// Value of the select field for a read-back command.
pub const SC_READ_BACK: u8 = 3;
/// Control word: read/write (RW1, RW0).
pub const RW_SHIFT: u8 = 4;
/// Read/write field: counter latch command.
pub const RW_LATCH: u8 = 0;
/// Read/write field: least significant byte only.
pub const RW_LSB: u8 = 1;
/// Read/write field: most significant byte only.
pub const RW_MSB: u8 = 2;
/// Control word: mode (M2..M0).
pub const MODE_SHIFT: u8 = 1;
/// Control word: count in BCD.
pub const BCD: u8 = 1;

/// Read-back command: do not latch the count (active low).
pub const READ_BACK_NO_COUNT: u8 = 1 << 5;
/// Read-back command: do not latch the status (active low).
pub const READ_BACK_NO_STATUS: u8 = 1 << 4;
/// Status byte: state of the output pin.
pub const STATUS_OUTPUT: u8 = 1 << 7;
/// Status byte: the last count written is not loaded yet.
pub const STATUS_NULL_COUNT: u8 = 1 << 6;

/// Port 0x61: gate of counter 2.
pub const PORT_B_GATE2: u8 = 1 << 0;
/// Port 0x61: the bits that software writes (gate, speaker, NMI masks).
pub const PORT_B_WRITABLE: u8 = 0x0f;
/// Port 0x61: toggles with each refresh request.
pub const PORT_B_REFRESH: u8 = 1 << 4;
/// Port 0x61: output of counter 2.
pub const PORT_B_OUT2: u8 = 1 << 5;
/// Input clocks between two refresh requests (counter 1 as the BIOS programs it, 15.1 us).
pub const REFRESH_CLKS: u64 = 18;
