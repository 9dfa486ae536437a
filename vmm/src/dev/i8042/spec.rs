//! Registers of the 8042 keyboard controller: names as in the IBM PC/AT technical reference, "Keyboard controller";
//! port 0x92 and port 0xcf9 as in the 82371SB (PIIX3) data sheet, 2.5.4 and 2.3.8.

/// Status: output buffer full.
pub const STATUS_OBF: u8 = 1 << 0;
/// Status: self-test passed (system flag).
pub const STATUS_SYSTEM: u8 = 1 << 2;
/// Status: the last write went to the command port.
pub const STATUS_COMMAND: u8 = 1 << 3;
/// Status: keyboard not locked.
pub const STATUS_UNLOCKED: u8 = 1 << 4;
/// Status: the byte in the output buffer reports a time-out.
pub const STATUS_TIMEOUT: u8 = 1 << 6;

/// Command: read the command byte.
pub const READ_COMMAND_BYTE: u8 = 0x20;
/// Command: write the command byte.
pub const WRITE_COMMAND_BYTE: u8 = 0x60;
/// Command: disable the auxiliary device.
pub const AUX_DISABLE: u8 = 0xa7;
/// Command: enable the auxiliary device.
pub const AUX_ENABLE: u8 = 0xa8;
/// Command: test the auxiliary interface.
pub const AUX_TEST: u8 = 0xa9;
/// Command: self-test.
pub const SELF_TEST: u8 = 0xaa;
/// Command: test the keyboard interface.
pub const KEYBOARD_TEST: u8 = 0xab;
/// Command: disable the keyboard.
pub const KEYBOARD_DISABLE: u8 = 0xad;
/// Command: enable the keyboard.
pub const KEYBOARD_ENABLE: u8 = 0xae;
/// Command: read the input port.
pub const READ_INPUT_PORT: u8 = 0xc0;
/// Command: read the output port.
pub const READ_OUTPUT_PORT: u8 = 0xd0;
/// Command: write the output port.
pub const WRITE_OUTPUT_PORT: u8 = 0xd1;
/// Command: put a byte into the output buffer as if from the keyboard.
pub const WRITE_OUTPUT_BUFFER: u8 = 0xd2;
/// Command: put a byte into the output buffer as if from the auxiliary device.
pub const AUX_LOOP: u8 = 0xd3;
/// Command: send a byte to the auxiliary device.
pub const AUX_SEND: u8 = 0xd4;
/// Commands from here on pulse the output port bits that are 0 in the command.
pub const PULSE: u8 = 0xf0;

/// Answer to a passed self-test.
pub const SELF_TEST_OK: u8 = 0x55;
/// Answer to a passed interface test.
pub const TEST_OK: u8 = 0x00;
/// Answer to an interface test: the clock line is stuck low. There is no auxiliary device.
pub const TEST_CLOCK_STUCK: u8 = 0x01;
/// Answer of a keyboard that is not there ("resend", with the time-out bit).
pub const NO_DEVICE: u8 = 0xfe;

/// Command byte: system flag.
pub const COMMAND_BYTE_SYSTEM: u8 = 1 << 2;
/// Command byte: keyboard disabled.
pub const COMMAND_BYTE_KEYBOARD_OFF: u8 = 1 << 4;
/// Command byte: auxiliary device disabled.
pub const COMMAND_BYTE_AUX_OFF: u8 = 1 << 5;
/// Input port: keyboard not locked.
pub const INPUT_PORT_UNLOCKED: u8 = 1 << 7;
/// Output port: the processor runs (0 resets it).
pub const OUTPUT_PORT_RUN: u8 = 1 << 0;
/// Output port: address line 20 is passed on.
pub const OUTPUT_PORT_A20: u8 = 1 << 1;

/// Port 0x92: a rising edge resets the processor.
pub const PORT_A_RESET: u8 = 1 << 0;
/// Port 0x92: address line 20 is passed on.
pub const PORT_A_A20: u8 = 1 << 1;
/// Port 0xcf9: full reset instead of only the processor.
pub const RST_CNT_SYS: u8 = 1 << 1;
/// Port 0xcf9: a rising edge resets.
pub const RST_CNT_CPU: u8 = 1 << 2;
