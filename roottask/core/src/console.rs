//! The root task's own console: COM1, polled, used only while no component has it open.
//!
//! Key type: [`Console`].

use crate::space::Nova;
use rt::hw::Ports;

mod spec {
    //! 16550 registers, as offsets from the first port.
    pub const FIRST: u16 = 0x3f8;
    pub const COUNT: u16 = 8;
    pub const THR: u16 = 0;
    pub const DLL: u16 = 0;
    pub const IER: u16 = 1;
    pub const DLM: u16 = 1;
    pub const FCR: u16 = 2;
    pub const FCR_ENABLE_CLEAR: u8 = 0x07;
    pub const LCR: u16 = 3;
    pub const LCR_8N1: u8 = 0x03;
    pub const LCR_DLAB: u8 = 0x80;
    pub const MCR: u16 = 4;
    pub const MCR_DTR_RTS: u8 = 0x03;
    pub const LSR: u16 = 5;
    pub const LSR_THRE: u8 = 1 << 5;
    /// 115200 baud.
    pub const DIVISOR: u8 = 1;
}

/// First and last port.
pub const PORTS: init::PortRange = init::PortRange { first: spec::FIRST, last: spec::FIRST + spec::COUNT - 1 };
/// At 115200 baud a character takes 87 µs. After so many polls there is no UART.
const POLLS: u32 = 100_000;

/// COM1.
pub struct Console {
    nova: Nova,
    ports: Ports,
    /// It did not answer once; nothing waits for it any more.
    dead: bool,
}

impl Console {
    /// Takes the ports and sets the UART up: 115200 baud, 8N1, no interrupts.
    pub fn open(nova: Nova) -> Option<Console> {
        nova.give_ports(nova.own_pio, spec::FIRST, spec::COUNT.into()).ok()?;
        let ports = Ports::new(spec::FIRST, spec::COUNT);
        for (register, value) in [
            (spec::IER, 0),
            (spec::LCR, spec::LCR_DLAB | spec::LCR_8N1),
            (spec::DLL, spec::DIVISOR),
            (spec::DLM, 0),
            (spec::LCR, spec::LCR_8N1),
            (spec::FCR, spec::FCR_ENABLE_CLEAR),
            (spec::MCR, spec::MCR_DTR_RTS),
        ] {
            ports.out8(register, value);
        }
        Some(Console { nova, ports, dead: false })
    }

    /// Writes text as it is.
    pub fn write(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            if self.dead {
                return;
            }
            self.dead = !(0..POLLS).any(|_| self.ports.in8(spec::LSR) & spec::LSR_THRE != 0);
            self.ports.out8(spec::THR, byte);
        }
    }
}

impl Drop for Console {
    /// Gives the ports back: from now on an access would be a fault.
    fn drop(&mut self) {
        let _ = self.nova.take_ports(self.nova.own_pio, spec::FIRST, spec::COUNT.into());
    }
}
