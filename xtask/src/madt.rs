//! A MADT that claims processors of one's own choice, for tests of how the kernel starts them. GRUB puts it in the place of
//! the firmware's.

use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::{Aml, AmlSink};

/// Where every PC has them.
const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;

#[derive(Default)]
struct Bytes(Vec<u8>);

impl AmlSink for Bytes {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

/// The table for local APICs with these identifiers, all of them enabled, and one IOAPIC.
pub fn table(apics: &[u8]) -> Vec<u8> {
    let mut t = MADT::new(*b"FERRON", *b"XTASK   ", 1, LocalInterruptController::Address(LOCAL_APIC));
    for (i, id) in apics.iter().enumerate() {
        t.add_structure(ProcessorLocalApic::new(i as u8, *id, EnabledStatus::Enabled));
    }
    t.add_structure(IoApic::new(0, IO_APIC, 0));
    let mut bytes = Bytes::default();
    t.to_aml_bytes(&mut bytes);
    bytes.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_adds_up_and_names_the_processors() {
        let t = table(&[0, 1, 9]);
        assert_eq!(&t[..4], b"APIC");
        assert_eq!(u32::from_le_bytes(t[4..8].try_into().unwrap()) as usize, t.len());
        assert_eq!(t.iter().fold(0u8, |s, b| s.wrapping_add(*b)), 0);
        // Type 0, length 8, processor, APIC, flags (ACPI 5.2.12.2).
        let cpus: Vec<_> = t[44..].chunks(8).filter(|c| c[..2] == [0, 8]).map(|c| (c[3], c[4])).collect();
        assert_eq!(cpus, [(0, 1), (1, 1), (9, 1)]);
    }
}
