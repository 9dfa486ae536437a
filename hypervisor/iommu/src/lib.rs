//! IOMMUs without the registers: firmware tables ([`dmar`], [`ivrs`]), entries, commands and fault records of VT-d
//! ([`vtd`]) and AMD-Vi ([`amdvi`]), and how often faults are worth a line ([`Limit`]).
//!
//! Who writes entries to memory and commands to queues is the kernel's `iommu`. Page tables are in the crate `ptab`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod amdvi;
mod bytes;
pub mod dmar;
mod fault;
pub mod ivrs;
mod limit;
pub mod vtd;

pub use bytes::Damage;
pub use fault::{Access, Fault};
pub use limit::{LINES, Limit};

use core::fmt;

/// A command, a report, half of a long entry: 16 bytes, lower half first.
pub type Pair = [u64; 2];

/// The best number of levels that is in all of the sets: four, else three, else five.
pub fn choose_levels(sets: u32) -> Option<u32> {
    [4, 3, 5].into_iter().find(|n| sets & 1 << n != 0)
}

/// A requester on PCI: bus in bits 15:8, device in 7:3, function in 2:0. What IOMMUs tell devices apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requester(pub u16);

impl Requester {
    /// Of bus, device and function.
    pub const fn new(bus: u8, device: u8, function: u8) -> Requester {
        Requester((bus as u16) << 8 | (device as u16 & 0x1f) << 3 | function as u16 & 7)
    }

    /// The bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device and function.
    pub const fn devfn(self) -> u8 {
        self.0 as u8
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{:x}", self.bus(), self.devfn() >> 3, self.devfn() & 7)
    }
}

/// A device assignment descriptor (NOVA specification, 8.7.6): segment and requester. `None`: bits that are to be 0 are
/// not.
pub const fn assignment(dad: u64) -> Option<(u16, Requester)> {
    if dad >> 32 != 0 { None } else { Some(((dad >> 16) as u16, Requester(dad as u16))) }
}

/// What an interrupt does when it arrives: an entry of the remapping tables, or a message that is not remapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Local APIC.
    pub apic: u32,
    /// Vector.
    pub vector: u8,
    /// Level-triggered.
    pub level: bool,
}

/// Address and data of a message that goes to a local APIC as it is (Intel SDM vol. 3, 12.11). `None`: the identifier
/// does not fit.
pub const fn plain_message(t: Target) -> Option<(u32, u32)> {
    if t.apic >= 0xff { None } else { Some((MESSAGES | t.apic << 12, t.vector as u32)) }
}

/// Where message-signalled interrupts go.
pub const MESSAGES: u32 = 0xfee0_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn requesters_are_written_as_people_write_them() {
        let r = Requester::new(0x12, 0x1f, 3);
        assert_eq!((r.0, r.bus(), r.devfn(), r.to_string()), (0x12fb, 0x12, 0xfb, "12:1f.3".into()));
        assert_eq!(Requester(0x20).to_string(), "00:04.0");
    }

    #[test]
    fn assignments_have_segment_bus_device_and_function() {
        assert_eq!(assignment(0x0001_12fb), Some((1, Requester::new(0x12, 0x1f, 3))));
        assert_eq!(assignment(1 << 32), None);
        assert_eq!(assignment(u64::MAX), None);
    }

    #[test]
    fn four_levels_are_best() {
        for (set, want) in [(0, None), (0b11_1000, Some(4)), (0b10_1000, Some(3)), (0b10_0000, Some(5))] {
            assert_eq!(choose_levels(set), want);
        }
    }

    #[test]
    fn plain_messages_name_the_local_apic() {
        let t = Target { apic: 3, vector: 0x55, level: false };
        assert_eq!(plain_message(t), Some((0xfee0_3000, 0x55)));
        assert_eq!(plain_message(Target { apic: 0xff, ..t }), None, "all of them");
        assert_eq!(plain_message(Target { apic: 0x1ff, ..t }), None);
    }
}
