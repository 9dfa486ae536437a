//! What an IOMMU reports when it blocks a device.

use crate::Requester;
use core::fmt;

/// What the device tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read memory.
    Read,
    /// To write memory.
    Write,
    /// To raise an interrupt; its number is that of the remapping entry, in place of an address.
    Interrupt,
    /// Something that is not told apart, such as a request that the unit does not know.
    Other,
}

/// A blocked access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who tried.
    pub source: Requester,
    /// What.
    pub access: Access,
    /// Where, as the device sees it.
    pub address: u64,
    /// Why, in the unit's own numbers.
    pub reason: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { source, address, reason, .. } = self;
        match self.access {
            Access::Read => write!(f, "DMA fault: {source} reads {address:#x} (reason {reason:#x})"),
            Access::Write => write!(f, "DMA fault: {source} writes {address:#x} (reason {reason:#x})"),
            Access::Interrupt => write!(f, "DMA fault: {source} raises interrupt {address:#x} (reason {reason:#x})"),
            Access::Other => write!(f, "DMA fault: {source} at {address:#x} (reason {reason:#x})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_line_says_who_what_and_where() {
        let f = Fault { source: Requester(0x20), access: Access::Write, address: 0x1234_5000, reason: 5 };
        assert_eq!(f.to_string(), "DMA fault: 00:04.0 writes 0x12345000 (reason 0x5)");
        for (access, word) in [(Access::Read, "reads"), (Access::Interrupt, "interrupt"), (Access::Other, "at")] {
            assert!(Fault { access, ..f }.to_string().contains(word));
        }
    }
}
