//! Keyboard controller without keyboard, and the other two ways to reset a PC.
//!
//! [`I8042`] answers self-test and interface tests so that a probe ends at once and finds no device; its use is the
//! reset pulse. [`ResetPorts`] are port 0x92 (fast A20 and reset) and 0xcf9 (reset control). Address line 20 is always
//! passed on: the bit is kept but has no effect.

mod spec;

use super::Effect;
use spec::*;

/// The keyboard controller at ports 0x60 and 0x64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct I8042 {
    command_byte: u8,
    output_port: u8,
    output: Option<u8>,
    timeout: bool,
    last_was_command: bool,
    /// Command whose parameter is to come through the data port.
    awaits: Option<u8>,
}

impl Default for I8042 {
    fn default() -> Self {
        Self {
            command_byte: COMMAND_BYTE_SYSTEM | COMMAND_BYTE_KEYBOARD_OFF | COMMAND_BYTE_AUX_OFF,
            output_port: OUTPUT_PORT_RUN | OUTPUT_PORT_A20,
            output: None,
            timeout: false,
            last_was_command: false,
            awaits: None,
        }
    }
}

impl I8042 {
    /// Reads the data port, 0x60.
    pub fn read_data(&mut self) -> u8 {
        self.timeout = false;
        self.output.take().unwrap_or(0)
    }

    /// Reads the status port, 0x64. The input buffer is never full.
    pub fn status(&self) -> u8 {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        STATUS_UNLOCKED
            | flag(self.output.is_some(), STATUS_OBF)
            | flag(self.command_byte & COMMAND_BYTE_SYSTEM != 0, STATUS_SYSTEM)
            | flag(self.last_was_command, STATUS_COMMAND)
            | flag(self.timeout, STATUS_TIMEOUT)
    }

    /// Writes the command port, 0x64.
    pub fn write_command(&mut self, command: u8) -> Effect {
        self.last_was_command = true;
        self.awaits = None;
        match command {
            READ_COMMAND_BYTE => self.answer(self.command_byte),
            SELF_TEST => {
                self.command_byte |= COMMAND_BYTE_SYSTEM;
                self.answer(SELF_TEST_OK);
            }
            KEYBOARD_TEST => self.answer(TEST_OK),
            AUX_TEST => self.answer(TEST_CLOCK_STUCK),
            READ_INPUT_PORT => self.answer(INPUT_PORT_UNLOCKED),
            READ_OUTPUT_PORT => self.answer(self.output_port),
            KEYBOARD_DISABLE => self.command_byte |= COMMAND_BYTE_KEYBOARD_OFF,
            KEYBOARD_ENABLE => self.command_byte &= !COMMAND_BYTE_KEYBOARD_OFF,
            AUX_DISABLE => self.command_byte |= COMMAND_BYTE_AUX_OFF,
            AUX_ENABLE => self.command_byte &= !COMMAND_BYTE_AUX_OFF,
            WRITE_COMMAND_BYTE | WRITE_OUTPUT_PORT..=AUX_SEND => self.awaits = Some(command),
            PULSE.. if command & OUTPUT_PORT_RUN == 0 => return Effect::Reset,
            _ => {}
        }
        Effect::None
    }

    /// Writes the data port, 0x60.
    pub fn write_data(&mut self, value: u8) -> Effect {
        self.last_was_command = false;
        match self.awaits.take() {
            Some(WRITE_COMMAND_BYTE) => self.command_byte = value,
            Some(WRITE_OUTPUT_PORT) => {
                self.output_port = value | OUTPUT_PORT_RUN;
                if value & OUTPUT_PORT_RUN == 0 {
                    return Effect::Reset;
                }
            }
            // Not marked as from the auxiliary device: that is how a probe sees that there is no such interface.
            Some(WRITE_OUTPUT_BUFFER | AUX_LOOP) => self.answer(value),
            // To a device: none is there to answer.
            _ => {
                self.answer(NO_DEVICE);
                self.timeout = true;
            }
        }
        Effect::None
    }

    fn answer(&mut self, value: u8) {
        self.output = Some(value);
        self.timeout = false;
    }
}

/// Ports 0x92 and 0xcf9.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResetPorts {
    port_a: u8,
    reset_control: u8,
}

impl ResetPorts {
    /// Reads port 0x92.
    pub fn port_a(&self) -> u8 {
        self.port_a | PORT_A_A20
    }

    /// Writes port 0x92.
    pub fn write_port_a(&mut self, value: u8) -> Effect {
        let rising = value & !self.port_a & PORT_A_RESET != 0;
        self.port_a = value;
        if rising { Effect::Reset } else { Effect::None }
    }

    /// Reads port 0xcf9.
    pub fn reset_control(&self) -> u8 {
        self.reset_control
    }

    /// Writes port 0xcf9. All kinds of reset are the same to a virtual machine.
    pub fn write_reset_control(&mut self, value: u8) -> Effect {
        let rising = value & !self.reset_control & RST_CNT_CPU != 0;
        self.reset_control = value & (RST_CNT_SYS | RST_CNT_CPU);
        if rising { Effect::Reset } else { Effect::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_of_linux_ends_at_once() {
        let mut kbc = I8042::default();
        assert_eq!(kbc.status() & STATUS_OBF, 0, "nothing to flush");
        kbc.write_command(SELF_TEST);
        assert_eq!(kbc.status() & STATUS_OBF, STATUS_OBF);
        assert_eq!(kbc.read_data(), SELF_TEST_OK);
        assert_eq!(kbc.status() & STATUS_OBF, 0);
        kbc.write_command(WRITE_COMMAND_BYTE);
        kbc.write_data(0x47);
        kbc.write_command(READ_COMMAND_BYTE);
        assert_eq!(kbc.read_data(), 0x47);
        kbc.write_command(KEYBOARD_TEST);
        assert_eq!(kbc.read_data(), TEST_OK);
        kbc.write_command(AUX_LOOP);
        kbc.write_data(0x5a);
        assert_eq!(kbc.status() & 0x21, STATUS_OBF, "not from the auxiliary device");
        kbc.read_data();
        kbc.write_command(AUX_TEST);
        assert_eq!(kbc.read_data(), TEST_CLOCK_STUCK);
    }

    #[test]
    fn a_keyboard_does_not_answer() {
        let mut kbc = I8042::default();
        kbc.write_data(0xff);
        assert_eq!(kbc.status() & (STATUS_TIMEOUT | STATUS_OBF), STATUS_TIMEOUT | STATUS_OBF);
        assert_eq!(kbc.read_data(), NO_DEVICE);
        assert_eq!(kbc.status() & (STATUS_TIMEOUT | STATUS_OBF), 0);
    }

    #[test]
    fn pulses_reset_only_with_bit_0_clear() {
        let mut kbc = I8042::default();
        assert_eq!(kbc.write_command(0xfe), Effect::Reset);
        assert_eq!(kbc.write_command(0xf0), Effect::Reset);
        assert_eq!(kbc.write_command(0xff), Effect::None);
    }

    #[test]
    fn output_port_resets_and_keeps_a20() {
        let mut kbc = I8042::default();
        kbc.write_command(WRITE_OUTPUT_PORT);
        assert_eq!(kbc.write_data(OUTPUT_PORT_RUN), Effect::None);
        kbc.write_command(READ_OUTPUT_PORT);
        assert_eq!(kbc.read_data(), OUTPUT_PORT_RUN);
        kbc.write_command(WRITE_OUTPUT_PORT);
        assert_eq!(kbc.write_data(OUTPUT_PORT_A20), Effect::Reset);
    }

    #[test]
    fn command_drops_a_waiting_parameter() {
        let mut kbc = I8042::default();
        kbc.write_command(WRITE_COMMAND_BYTE);
        kbc.write_command(KEYBOARD_ENABLE);
        kbc.write_data(0);
        kbc.read_data();
        kbc.write_command(READ_COMMAND_BYTE);
        assert_eq!(kbc.read_data(), COMMAND_BYTE_SYSTEM | COMMAND_BYTE_AUX_OFF);
    }

    #[test]
    fn port_92_resets_on_the_rising_bit() {
        let mut ports = ResetPorts::default();
        assert_eq!(ports.write_port_a(PORT_A_A20), Effect::None);
        assert_eq!(ports.port_a(), PORT_A_A20);
        assert_eq!(ports.write_port_a(PORT_A_RESET), Effect::Reset);
        assert_eq!(ports.write_port_a(PORT_A_RESET), Effect::None);
    }

    #[test]
    fn reset_control_needs_the_rising_bit() {
        let mut ports = ResetPorts::default();
        assert_eq!(ports.write_reset_control(RST_CNT_SYS), Effect::None);
        assert_eq!(ports.reset_control(), RST_CNT_SYS);
        assert_eq!(ports.write_reset_control(crate::layout::RESET_VALUE), Effect::Reset);
    }
}
