//! Which device answers which access, and what happens if none does.
//!
//! I/O ports are decoded by one sorted table ([`PIO_MAP`]), device memory by two pages. An access that nobody claims is
//! decided at one point, [`Unclaimed`]: ports read as all ones and ignore writes, as on an ISA bus with pull-ups; memory
//! is an error that the exit handler decides about. The devices are in [`crate::dev`].
#![forbid(unsafe_code)]

use crate::layout;
use thiserror::Error;

/// Who answers an I/O port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the devices, see PIO_MAP")]
pub enum PioDevice {
    PicMaster,
    PicSlave,
    PicTriggers,
    Pit,
    I8042Data,
    I8042Command,
    PortB,
    Rtc,
    PostCode,
    PortA,
    Serial,
    PmEvents,
    PmControl,
    PmTimer,
    GeneralEvents,
    PciAddress,
    PciData,
    Marker,
}

/// A range of I/O ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PioRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Who answers.
    pub device: PioDevice,
    /// Answers accesses of 2 and 4 bytes as such; for the others the bus splits them into bytes.
    pub wide: bool,
}

const fn bytes(first: u16, last: u16, device: PioDevice) -> PioRange {
    PioRange { first, last, device, wide: false }
}

const fn wide(first: u16, last: u16, device: PioDevice) -> PioRange {
    PioRange { first, last, device, wide: true }
}

/// General-purpose event block 0 of ACPI: two status bytes, two enable bytes (FADT `GPE0_BLK`).
pub const GPE0_BLK: u16 = 0x620;
/// Length of the general-purpose event block in bytes (FADT `GPE0_BLK_LEN`).
pub const GPE0_BLK_LEN: u16 = 4;
/// A byte written here comes out as [`crate::dev::Effect::Marker`].
pub const MARKER: u16 = 0x8900;
/// PCI configuration address port (mechanism 1); its second byte is also the reset control register.
pub const PCI_ADDRESS: u16 = 0xcf8;

/// All I/O ports that have a device, in ascending order.
pub const PIO_MAP: [PioRange; 18] = [
    bytes(0x20, 0x21, PioDevice::PicMaster),
    bytes(0x40, 0x43, PioDevice::Pit),
    bytes(0x60, 0x60, PioDevice::I8042Data),
    bytes(0x61, 0x61, PioDevice::PortB),
    bytes(0x64, 0x64, PioDevice::I8042Command),
    bytes(layout::RTC, layout::RTC + 1, PioDevice::Rtc),
    bytes(0x80, 0x80, PioDevice::PostCode),
    bytes(0x92, 0x92, PioDevice::PortA),
    bytes(0xa0, 0xa1, PioDevice::PicSlave),
    bytes(layout::COM1, layout::COM1 + 7, PioDevice::Serial),
    bytes(0x4d0, 0x4d1, PioDevice::PicTriggers),
    wide(layout::PM1A_EVT, layout::PM1A_EVT + 3, PioDevice::PmEvents),
    wide(layout::PM1A_CNT, layout::PM1A_CNT + 1, PioDevice::PmControl),
    wide(layout::PM_TIMER, layout::PM_TIMER + 3, PioDevice::PmTimer),
    wide(GPE0_BLK, GPE0_BLK + GPE0_BLK_LEN - 1, PioDevice::GeneralEvents),
    wide(PCI_ADDRESS, PCI_ADDRESS + 3, PioDevice::PciAddress),
    wide(0xcfc, 0xcff, PioDevice::PciData),
    bytes(MARKER, MARKER, PioDevice::Marker),
];

/// How an access of `size` bytes at `port` is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PioClaim {
    /// By one device, at this offset from its range's start.
    Device(PioDevice, u16),
    /// Byte by byte: the access is wider than the device, or crosses a range's end.
    Split,
    /// By none.
    Nobody,
}

/// Decodes an access to an I/O port.
pub fn decode_pio(port: u16, size: u8) -> PioClaim {
    let after = PIO_MAP.partition_point(|range| range.first <= port);
    let range = after.checked_sub(1).map(|index| PIO_MAP[index]).filter(|range| port <= range.last);
    match range {
        Some(range) if size == 1 || range.wide && u16::from(size) <= range.last - port + 1 => {
            PioClaim::Device(range.device, port - range.first)
        }
        _ if size > 1 => PioClaim::Split,
        _ => PioClaim::Nobody,
    }
}

/// Who answers an access to device memory, and at which offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MmioClaim {
    /// The I/O APIC.
    IoApic(u64),
    /// The local APIC of the vCPU that makes the access.
    Lapic(u16),
    /// Nobody.
    Nobody,
}

/// Bytes that the I/O APIC claims.
const IOAPIC_LEN: u64 = 0x1000;
/// Bytes that a local APIC claims.
const LAPIC_LEN: u64 = 0x1000;

/// Decodes an access to device memory; `lapic_page` is where the accessing vCPU has its local APIC.
pub fn decode_mmio(gpa: u64, lapic_page: Option<u64>) -> MmioClaim {
    let within = |start: u64, length: u64| gpa.checked_sub(start).filter(|offset| *offset < length);
    if let Some(offset) = lapic_page.and_then(|page| within(page, LAPIC_LEN)) {
        return MmioClaim::Lapic(offset as u16);
    }
    within(layout::IOAPIC, IOAPIC_LEN).map_or(MmioClaim::Nobody, MmioClaim::IoApic)
}

/// An access to memory that no device claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no device answers the guest's {length}-byte {} at guest-physical address {gpa:#x}", if *.write { "write" } else { "read" })]
pub struct UnclaimedMmio {
    /// Guest-physical address.
    pub gpa: u64,
    /// Bytes.
    pub length: usize,
    /// It was a write.
    pub write: bool,
}

/// The policy for accesses that nobody claims, and its counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unclaimed {
    /// Reads from I/O ports, in accesses as the bus carried them out.
    pub pio_reads: u64,
    /// Writes to I/O ports.
    pub pio_writes: u64,
    /// Accesses to memory.
    pub mmio: u64,
    /// The last such port.
    pub last_port: u16,
}

impl Unclaimed {
    /// A byte read from a port: all ones.
    pub fn read_port(&mut self, port: u16) -> u8 {
        self.pio_reads += 1;
        self.last_port = port;
        0xff
    }

    /// A byte written to a port: ignored.
    pub fn write_port(&mut self, port: u16) {
        self.pio_writes += 1;
        self.last_port = port;
    }

    /// An access to memory: refused.
    pub fn refuse_mmio(&mut self, gpa: u64, length: usize, write: bool) -> UnclaimedMmio {
        self.mmio += 1;
        UnclaimedMmio { gpa, length, write }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_does_not_overlap() {
        assert!(PIO_MAP.iter().all(|range| range.first <= range.last));
        assert!(PIO_MAP.windows(2).all(|pair| pair[0].last < pair[1].first));
    }

    #[test]
    fn decoding_agrees_with_a_walk_over_the_table() {
        for port in 0..=u16::MAX {
            let expected = PIO_MAP.iter().find(|range| (range.first..=range.last).contains(&port));
            let claim = expected.map_or(PioClaim::Nobody, |range| PioClaim::Device(range.device, port - range.first));
            assert_eq!(decode_pio(port, 1), claim, "port {port:#x}");
        }
    }

    #[test]
    fn wide_accesses() {
        assert_eq!(decode_pio(0x608, 4), PioClaim::Device(PioDevice::PmTimer, 0));
        assert_eq!(decode_pio(0x604, 4), PioClaim::Split, "the control register has two bytes");
        assert_eq!(decode_pio(0x20, 2), PioClaim::Split, "a device of bytes");
        assert_eq!(decode_pio(0xcfe, 4), PioClaim::Split, "beyond the end");
        assert_eq!(decode_pio(0xcfe, 2), PioClaim::Device(PioDevice::PciData, 2));
        assert_eq!(decode_pio(0x500, 4), PioClaim::Split, "split, then nobody");
    }

    #[test]
    fn local_apic_comes_before_the_io_apic() {
        assert_eq!(decode_mmio(0xfee0_0fff, Some(0xfee0_0000)), MmioClaim::Lapic(0xfff));
        assert_eq!(decode_mmio(0xfee0_0020, None), MmioClaim::Nobody);
        assert_eq!(decode_mmio(0xfec0_0010, None), MmioClaim::IoApic(0x10));
        assert_eq!(decode_mmio(0xfec0_0010, Some(0xfec0_0000)), MmioClaim::Lapic(0x10));
        assert_eq!(decode_mmio(0xfec0_1000, None), MmioClaim::Nobody);
    }

    #[test]
    fn policy_counts() {
        let mut unclaimed = Unclaimed::default();
        assert_eq!(unclaimed.read_port(0x1234), 0xff);
        unclaimed.write_port(0x4321);
        let error = unclaimed.refuse_mmio(0xdead_0000, 4, true);
        let message = "no device answers the guest's 4-byte write at guest-physical address 0xdead0000";
        assert_eq!(error.to_string(), message);
        assert_eq!(unclaimed, Unclaimed { pio_reads: 1, pio_writes: 1, mmio: 1, last_port: 0x4321 });
    }
}
