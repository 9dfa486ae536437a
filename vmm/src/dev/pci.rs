//! PCI configuration mechanism 1 (PCI local bus specification 3.0, 3.2.2.3.2) without any device behind it.
//!
//! The address register is there, so that a probe finds the mechanism; all data reads as all ones: no device. Only
//! accesses of four bytes reach the address register; smaller ones are to the ports of other devices.

/// The address register.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PciConfig {
    address: u32,
}

/// Address register: accesses to the data port are configuration cycles; bits 30 to 24 and 1 to 0 are zero.
const ADDRESS_BITS: u32 = 0x80ff_fffc;

impl PciConfig {
    /// The address register.
    pub fn address(&self) -> u32 {
        self.address
    }

    /// Writes the address register.
    pub fn set_address(&mut self, value: u32) {
        self.address = value & ADDRESS_BITS;
    }

    /// Reads `size` bytes of configuration data: no device.
    pub fn data(&self, size: u8) -> u32 {
        u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_reads_back() {
        let mut pci = PciConfig::default();
        pci.set_address(0x8000_0000);
        assert_eq!(pci.address(), 0x8000_0000, "Linux' pci_check_type1");
        pci.set_address(u32::MAX);
        assert_eq!(pci.address(), ADDRESS_BITS);
    }

    #[test]
    fn no_device_in_any_width() {
        let pci = PciConfig::default();
        assert_eq!([1, 2, 4].map(|size| pci.data(size)), [0xff, 0xffff, 0xffff_ffff]);
    }
}
