//! Interrupt messages: what I/O APIC and local APICs send to local APICs.
//!
//! Encodings as in the Intel SDM, volume 3, 11.6.1 (interrupt command register) and 11.6.2 (destinations).

/// How a message is to be taken (SDM 11.6.1, "Delivery Mode").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The vector, at every destination.
    Fixed,
    /// The vector, at the destination with the lowest priority.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up IPI.
    Startup,
    /// The vector comes from the 8259A.
    ExtInt,
    /// Reserved encoding.
    Reserved,
}

impl DeliveryMode {
    /// From the three-bit field.
    pub fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::Startup,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }
}

/// Who is to take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The local APIC with this ID.
    Physical(u32),
    /// The local APICs that find themselves in this set (their LDR and DFR say how).
    Logical(u32),
    /// All local APICs.
    Everyone,
}

impl Destination {
    /// From the eight-bit field of an I/O APIC entry or of an ICR in xAPIC mode.
    pub fn from_xapic(field: u8, logical: bool) -> Self {
        match (logical, field) {
            (true, _) => Self::Logical(u32::from(field)),
            (false, 0xff) => Self::Everyone,
            (false, _) => Self::Physical(u32::from(field)),
        }
    }

    /// From the 32-bit field of an ICR in x2APIC mode.
    pub fn from_x2apic(field: u32, logical: bool) -> Self {
        match (logical, field) {
            (_, u32::MAX) => Self::Everyone,
            (true, _) => Self::Logical(field),
            (false, _) => Self::Physical(field),
        }
    }
}

/// A message on the way to local APICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// How to take it.
    pub mode: DeliveryMode,
    /// Vector, if the mode has one.
    pub vector: u8,
    /// Level-triggered: its end is to be reported to the I/O APIC.
    pub level: bool,
    /// Receivers.
    pub destination: Destination,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_are_all_ones_of_their_width() {
        assert_eq!(Destination::from_xapic(0xff, false), Destination::Everyone);
        assert_eq!(
            Destination::from_xapic(0xff, true),
            Destination::Logical(0xff),
            "the flat model matches all anyway"
        );
        assert_eq!(Destination::from_x2apic(0xff, false), Destination::Physical(0xff));
        assert_eq!(Destination::from_x2apic(u32::MAX, true), Destination::Everyone);
    }

    #[test]
    fn reserved_delivery_mode() {
        assert_eq!(DeliveryMode::from_bits(3), DeliveryMode::Reserved);
        assert_eq!(DeliveryMode::from_bits(8 | 7), DeliveryMode::ExtInt, "three bits");
    }
}
