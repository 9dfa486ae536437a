//! The two cascaded 8259A interrupt controllers of a PC.
//!
//! [`Pic`] owns both chips; lines are numbered 0..=15 as ISA interrupts, line 2 being the cascade. Its output is
//! [`Pic::intr`]; whoever takes the interrupt calls [`Pic::acknowledge`] (the INTA cycle). `dev::routing` wires it.

mod chip;
mod spec;
#[cfg(test)]
mod tests;

use chip::Chip;
use spec::*;

/// Which of the two controllers a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Lines 0..=7, ports 0x20 and 0x21.
    Master,
    /// Lines 8..=15, ports 0xa0 and 0xa1.
    Slave,
}

/// Both controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pic {
    master: Chip,
    slave: Chip,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// All lines masked and edge-triggered, vectors not chosen yet.
    pub fn new() -> Self {
        Self { master: Chip::new(), slave: Chip::new() }
    }

    /// Drives interrupt line `irq` (0..=15). The cascade line cannot be driven.
    pub fn set_line(&mut self, irq: u8, asserted: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.master.set_line(irq, asserted),
            8..16 => self.slave.set_line(irq - 8, asserted),
            _ => {}
        }
        self.cascade();
    }

    /// The INTR output.
    pub fn intr(&self) -> bool {
        self.master.request().is_some()
    }

    /// The vector that an acknowledge would give now, if the output is asserted.
    pub fn peek(&self) -> Option<u8> {
        match self.master.request()? {
            CASCADE => Some(self.slave.vector(self.slave.request().unwrap_or(SPURIOUS))),
            input => Some(self.master.vector(input)),
        }
    }

    /// The INTA cycle: puts the request in service and gives its vector. Without a request it is spurious.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(input) = self.master.request() else {
            return self.master.vector(SPURIOUS);
        };
        self.master.acknowledge(input);
        if input != CASCADE {
            return self.master.vector(input);
        }
        let request = self.slave.request();
        if let Some(input) = request {
            self.slave.acknowledge(input);
            self.cascade();
        }
        self.slave.vector(request.unwrap_or(SPURIOUS))
    }

    /// Byte read; `offset` is 0 (command) or 1 (data).
    pub fn read(&mut self, side: Side, offset: u16) -> u8 {
        let value = self.chip(side).read(offset);
        self.cascade();
        value
    }

    /// Byte write; `offset` is 0 (command) or 1 (data).
    pub fn write(&mut self, side: Side, offset: u16, value: u8) {
        self.chip(side).write(offset, value);
        self.cascade();
    }

    /// Edge/level control register of one side: a set bit makes the line level-triggered.
    pub fn elcr(&self, side: Side) -> u8 {
        match side {
            Side::Master => self.master.elcr(),
            Side::Slave => self.slave.elcr(),
        }
    }

    /// Writes the edge/level control register of one side.
    pub fn set_elcr(&mut self, side: Side, value: u8) {
        match side {
            Side::Master => self.master.set_elcr(value & ELCR_MASTER),
            Side::Slave => self.slave.set_elcr(value & ELCR_SLAVE),
        }
        self.cascade();
    }

    fn chip(&mut self, side: Side) -> &mut Chip {
        match side {
            Side::Master => &mut self.master,
            Side::Slave => &mut self.slave,
        }
    }

    fn cascade(&mut self) {
        self.master.follow(CASCADE, self.slave.request().is_some());
    }
}
