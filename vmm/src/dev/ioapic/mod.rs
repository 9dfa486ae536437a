//! The I/O APIC: 24 inputs, each with a redirection entry that turns it into interrupt messages.
//!
//! [`IoApic`] does not deliver: it hands out a [`Message`] and hears with [`IoApic::accepted`] and [`IoApic::eoi`] what
//! became of it. Inputs are asserted or not; the polarity bit of the entries is kept but has no effect, as the platform
//! describes its lines to the guest itself.

mod spec;
#[cfg(test)]
mod tests;

use super::message::{DeliveryMode, Destination, Message};
use spec::*;

pub use spec::PINS;

/// Redirection table and state of the inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoApic {
    select: u8,
    id: u8,
    entries: [u64; PINS],
    lines: u32,
}

impl IoApic {
    /// All entries masked.
    pub fn new(id: u8) -> Self {
        Self { select: 0, id, entries: [ENTRY_MASK; PINS], lines: 0 }
    }

    /// Drives input `pin`; gives the message that this causes.
    pub fn set_line(&mut self, pin: u8, asserted: bool) -> Option<Message> {
        let bit = 1 << pin;
        let rising = asserted && self.lines & bit == 0;
        self.lines = if asserted { self.lines | bit } else { self.lines & !bit };
        let entry = self.entries.get(usize::from(pin)).copied()?;
        match entry & ENTRY_LEVEL {
            0 if rising && entry & ENTRY_MASK == 0 => Some(message(entry)),
            0 => None, // an edge on a masked input is lost (data sheet, 3.2.4, "Interrupt Mask")
            _ => self.request(pin),
        }
    }

    /// The message that a level-triggered `pin` wants to send.
    pub fn request(&self, pin: u8) -> Option<Message> {
        let entry = self.entries.get(usize::from(pin)).copied()?;
        let asserted = self.lines & (1 << pin) != 0;
        (asserted && entry & (ENTRY_LEVEL | ENTRY_MASK | ENTRY_REMOTE_IRR) == ENTRY_LEVEL).then(|| message(entry))
    }

    /// A local APIC accepted the message of `pin`.
    pub fn accepted(&mut self, pin: u8) {
        if let Some(entry) = self.entries.get_mut(usize::from(pin)).filter(|entry| **entry & ENTRY_LEVEL != 0) {
            *entry |= ENTRY_REMOTE_IRR;
        }
    }

    /// A level-triggered `vector` has ended. Returns the set of pins that are to be asked for a [`request`](Self::request).
    pub fn eoi(&mut self, vector: u8) -> u32 {
        let mut ended = 0;
        for (pin, entry) in self.entries.iter_mut().enumerate() {
            let outstanding = *entry & (ENTRY_REMOTE_IRR | ENTRY_LEVEL) == ENTRY_REMOTE_IRR | ENTRY_LEVEL;
            if outstanding && *entry & ENTRY_VECTOR == u64::from(vector) {
                *entry &= !ENTRY_REMOTE_IRR;
                ended |= 1 << pin;
            }
        }
        ended
    }

    /// Reads the 32-bit register at `offset`.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            IOREGSEL => u32::from(self.select),
            IOWIN => self.read_selected(),
            _ => 0,
        }
    }

    /// Writes the 32-bit register at `offset`. Returns the set of pins that are to be asked for a request.
    pub fn write(&mut self, offset: u64, value: u32) -> u32 {
        match offset {
            IOREGSEL => self.select = value as u8,
            IOWIN => return self.write_selected(value),
            EOI => return self.eoi(value as u8),
            _ => {}
        }
        0
    }

    fn read_selected(&self) -> u32 {
        match (self.select, self.selected_entry()) {
            (IOAPICID | IOAPICARB, _) => u32::from(self.id) << ID_SHIFT,
            (IOAPICVER, _) => VERSION,
            (_, Some((pin, shift))) => (self.entries[pin] >> shift) as u32,
            _ => 0,
        }
    }

    fn write_selected(&mut self, value: u32) -> u32 {
        match (self.select, self.selected_entry()) {
            (IOAPICID, _) => self.id = (value >> ID_SHIFT & ID_MASK) as u8,
            (_, Some((pin, shift))) => {
                let written = (u64::from(u32::MAX) << shift) & ENTRY_WRITABLE;
                let entry = (self.entries[pin] & !written) | (u64::from(value) << shift & written);
                // An entry that becomes edge-triggered has nothing to wait for: how old kernels end interrupts.
                let kept = if entry & ENTRY_LEVEL == 0 { !ENTRY_REMOTE_IRR } else { u64::MAX };
                self.entries[pin] = entry & kept;
                return 1 << pin;
            }
            _ => {}
        }
        0
    }

    /// Entry and bit position of the half that is selected.
    fn selected_entry(&self) -> Option<(usize, u32)> {
        let half = usize::from(self.select.checked_sub(IOREDTBL)?);
        (half / 2 < PINS).then_some((half / 2, 32 * (half as u32 % 2)))
    }
}

fn message(entry: u64) -> Message {
    let destination = (entry >> ENTRY_DESTINATION_SHIFT) as u8;
    Message {
        mode: DeliveryMode::from_bits((entry >> ENTRY_MODE_SHIFT) as u32),
        vector: (entry & ENTRY_VECTOR) as u8,
        level: entry & ENTRY_LEVEL != 0,
        destination: Destination::from_xapic(destination, entry & ENTRY_LOGICAL != 0),
    }
}
