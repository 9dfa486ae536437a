//! ACPI tables of the guest, built with `acpi_tables` (ACPI 6.5; section numbers below).
//!
//! RSDP at [`layout::ACPI`], then XSDT, FADT, MADT, FACS and DSDT. Port numbers come from [`layout`], where the device
//! models take them from as well.

use acpi_tables::Aml;
use acpi_tables::aml::{self, Device, EISAName, IO, Interrupt, Name, Package, Path, ResourceTemplate, Scope};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use zerocopy::{Immutable, IntoBytes};

use crate::bus::{GPE0_BLK, GPE0_BLK_LEN};
use crate::layout;

const OEM_ID: [u8; 6] = *b"FERRON";
const OEM_TABLE_ID: [u8; 8] = *b"FERRONOV";
const OEM_REVISION: u32 = 1;
/// Identifier of the one IOAPIC.
const IOAPIC_ID: u8 = 0;
/// IAPC_BOOT_ARCH (5.2.9.3): 8042 present, VGA not present, no PCIe ASPM control. Legacy devices: COM1 is in the DSDT.
const BOOT_ARCH: u16 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4;
/// MADT flags (5.2.12): PC-AT compatible dual 8259.
const PCAT_COMPAT: u32 = 1;
/// MPS INTI flags (5.2.12.5): polarity high, edge or level triggered.
const EDGE_HIGH: u16 = 0b0101;
const LEVEL_HIGH: u16 = 0b1101;

/// Interrupt source override (5.2.12.5); `acpi_tables` has none.
#[repr(C, packed)]
#[derive(Clone, Copy, IntoBytes, Immutable)]
struct SourceOverride {
    kind: u8,
    length: u8,
    bus: u8,
    source: u8,
    gsi: u32,
    flags: u16,
}

/// Local APIC NMI (5.2.12.7): LINT1 of all processors.
#[repr(C, packed)]
#[derive(Clone, Copy, IntoBytes, Immutable)]
struct LocalApicNmi {
    kind: u8,
    length: u8,
    processor: u8,
    flags: u16,
    lint: u8,
}

macro_rules! plain_bytes {
    ($($t:ty),*) => {$(
        impl Aml for $t {
            fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
                sink.vec(self.as_bytes());
            }
        }
    )*};
}
plain_bytes!(SourceOverride, LocalApicNmi);

/// All tables, as they belong at [`layout::ACPI`].
pub fn tables(vcpus: u32) -> Vec<u8> {
    let mut out = Area { bytes: vec![0; Rsdp::len().next_multiple_of(64)] };
    let dsdt = out.put(&dsdt());
    let facs = out.put(&FACS::new());
    let fadt = out.put(&fadt(dsdt, facs));
    let madt = out.put_bytes(madt(vcpus));
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = out.put(&xsdt);
    let rsdp = Rsdp::new(OEM_ID, xsdt);
    out.bytes[..Rsdp::len()].copy_from_slice(rsdp.as_bytes());
    out.bytes
}

/// The memory behind the RSDP, filled from the front.
struct Area {
    bytes: Vec<u8>,
}

impl Area {
    /// Appends a table; returns its guest-physical address. FACS asks for 64-byte alignment, so all get it.
    fn put(&mut self, table: &dyn Aml) -> u64 {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        self.put_bytes(bytes)
    }

    fn put_bytes(&mut self, table: Vec<u8>) -> u64 {
        let at = self.bytes.len().next_multiple_of(64);
        self.bytes.resize(at, 0);
        self.bytes.extend(table);
        layout::ACPI + at as u64
    }
}

fn io(port: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, access, u64::from(port))
}

/// Fixed ACPI description table (5.2.9). The power button is fixed hardware, there is no sleep button.
fn fadt(dsdt: u64, facs: u64) -> FADT {
    let mut f = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .dsdt_64(dsdt)
        .firmware_ctrl_32(facs as u32)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    f.dsdt = (dsdt as u32).into();
    f.sci_int = u16::from(layout::SCI).into();
    f.pm1a_evt_blk = u32::from(layout::PM1A_EVT).into();
    f.pm1a_cnt_blk = u32::from(layout::PM1A_CNT).into();
    f.pm_tmr_blk = u32::from(layout::PM_TIMER).into();
    (f.pm1_evt_len, f.pm1_cnt_len, f.pm_tmr_len) = (4, 2, 4);
    f.gpe0_blk = u32::from(GPE0_BLK).into();
    f.gpe0_blk_len = GPE0_BLK_LEN as u8;
    f.x_gpe0_blk = io(GPE0_BLK, 8 * GPE0_BLK_LEN as u8, AccessSize::ByteAccess);
    f.x_pm1a_evt_blk = io(layout::PM1A_EVT, 32, AccessSize::WordAccess);
    f.x_pm1a_cnt_blk = io(layout::PM1A_CNT, 16, AccessSize::WordAccess);
    f.x_pm_tmr_blk = io(layout::PM_TIMER, 32, AccessSize::DwordAccess);
    // C2 and C3 are not supported (5.2.9: more than 100 and 1000 us).
    (f.p_lvl2_lat, f.p_lvl3_lat) = (101.into(), 1001.into());
    f.century = layout::RTC_CENTURY;
    f.iapc_boot_arch = BOOT_ARCH.into();
    f.reset_reg = io(layout::RESET, 8, AccessSize::ByteAccess);
    f.reset_value = layout::RESET_VALUE;
    f.finalize()
}

/// Multiple APIC description table (5.2.12).
fn madt(vcpus: u32) -> Vec<u8> {
    let lapic = LocalInterruptController::Address(layout::LAPIC as u32);
    let mut m = MADT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION, lapic);
    for id in 0..vcpus as u8 {
        m.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    m.add_structure(IoApic::new(IOAPIC_ID, layout::IOAPIC as u32, 0));
    let isa = |source, gsi, flags| SourceOverride { kind: 2, length: 10, bus: 0, source, gsi, flags };
    m.add_structure(isa(0, layout::PIT_GSI, EDGE_HIGH));
    m.add_structure(isa(layout::SCI, u32::from(layout::SCI), LEVEL_HIGH));
    m.add_structure(LocalApicNmi { kind: 4, length: 6, processor: 0xff, flags: 0, lint: 1 });
    let mut bytes = Vec::new();
    m.to_aml_bytes(&mut bytes);
    // `acpi_tables` knows no MADT flags.
    bytes[40..44].copy_from_slice(&PCAT_COMPAT.to_le_bytes());
    bytes[9] = bytes[9].wrapping_sub(PCAT_COMPAT as u8);
    bytes
}

/// Differentiated system description table: S5, COM1 and the real-time clock.
fn dsdt() -> Sdt {
    let mut code = Vec::new();
    let s5 = Package::new(vec![&layout::SLP_TYP_S5, &aml::ZERO, &aml::ZERO, &aml::ZERO]);
    Name::new("_S5_".into(), &s5).to_aml_bytes(&mut code);
    let com1 = isa_device("COM1", "PNP0501", layout::COM1, 8, layout::COM1_IRQ);
    let rtc = isa_device("RTC_", "PNP0B00", layout::RTC, 2, layout::RTC_IRQ);
    code.extend(Scope::raw(Path::new("_SB_"), [com1, rtc].concat()));
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(&code);
    table
}

/// A device on the (implied) ISA bus with one port range and one edge-triggered interrupt.
fn isa_device(name: &str, hid: &str, port: u16, ports: u8, irq: u8) -> Vec<u8> {
    let range = IO::new(port, port, 1, ports);
    let line = Interrupt::new(true, true, false, false, u32::from(irq));
    let resources = ResourceTemplate::new(vec![&range, &line]);
    let (hid, uid) = (EISAName::new(hid), aml::ZERO);
    let (hid, uid) = (Name::new("_HID".into(), &hid), Name::new("_UID".into(), &uid));
    let crs = Name::new("_CRS".into(), &resources);
    let mut bytes = Vec::new();
    Device::new(name.into(), vec![&hid, &uid, &crs]).to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(b: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
    }

    fn u64_at(b: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
    }

    /// The table at a guest-physical address, if its length and checksum are right.
    fn table<'a>(all: &'a [u8], at: u64, signature: &[u8; 4]) -> &'a [u8] {
        let t = &all[(at - layout::ACPI) as usize..];
        let t = &t[..u32_at(t, 4) as usize];
        assert_eq!(&t[..4], signature);
        assert_eq!(t.iter().fold(0u8, |s, b| s.wrapping_add(*b)), 0, "checksum of {signature:?}");
        t
    }

    /// All tables, found as an operating system finds them.
    fn parse(all: &[u8]) -> (&[u8], &[u8], &[u8]) {
        assert_eq!(&all[..8], b"RSD PTR ");
        assert_eq!(all[..20].iter().fold(0u8, |s, b| s.wrapping_add(*b)), 0);
        assert_eq!(all[..36].iter().fold(0u8, |s, b| s.wrapping_add(*b)), 0);
        let xsdt = table(all, u64_at(all, 24), b"XSDT");
        assert_eq!(xsdt.len(), 36 + 16);
        let (fadt, madt) = (table(all, u64_at(xsdt, 36), b"FACP"), table(all, u64_at(xsdt, 44), b"APIC"));
        (fadt, madt, table(all, u64_at(fadt, 140), b"DSDT"))
    }

    #[test]
    fn tables_are_linked_and_fit() {
        let all = tables(1);
        assert!(all.len() as u64 <= layout::ACPI_END - layout::ACPI);
        parse(&all);
    }

    #[test]
    fn fixed_hardware_is_where_the_devices_are() {
        let all = tables(1);
        let (fadt, _, _) = parse(&all);
        assert_eq!(u32_at(fadt, 56), 0x600, "PM1a_EVT_BLK");
        assert_eq!(u32_at(fadt, 64), 0x604, "PM1a_CNT_BLK");
        assert_eq!(u32_at(fadt, 76), 0x608, "PM_TMR_BLK");
        assert_eq!((fadt[88], fadt[89], fadt[91]), (4, 2, 4), "lengths");
        assert_eq!((fadt[46], fadt[108]), (9, 0x32), "SCI_INT, CENTURY");
        assert_eq!((u64_at(fadt, 120), fadt[128]), (0xcf9, 6), "RESET_REG, RESET_VALUE");
        assert_eq!(fadt[109] & 0b110, 0b110, "8042 present, no VGA");
        assert_eq!((u32_at(fadt, 80), fadt[92]), (0x620, 4), "GPE0_BLK and its length");
        assert_eq!(u32_at(fadt, 36) % 64, 0, "FACS alignment");
        assert_ne!(u32_at(fadt, 112) & 1 << 10, 0, "RESET_REG_SUP");
        assert_eq!(u32_at(fadt, 112) & 1 << 20, 0, "not hardware-reduced");
    }

    #[test]
    fn interrupt_controllers_are_listed() {
        for cpus in [1, 4] {
            let all = tables(cpus);
            let (_, madt, _) = parse(&all);
            assert_eq!((u32_at(madt, 36), u32_at(madt, 40)), (0xfee0_0000, 1));
            let mut found = Vec::new();
            let mut rest = &madt[44..];
            while let [kind, len, ..] = *rest {
                found.push((kind, &rest[2..usize::from(len)]));
                rest = &rest[usize::from(len)..];
            }
            let of =
                |kind: u8| found.iter().filter(move |(k, _)| *k == kind).map(|(_, b)| b.to_vec()).collect::<Vec<_>>();
            assert_eq!(of(0).len(), cpus as usize);
            assert_eq!(of(1), [vec![0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]]);
            assert_eq!(of(2), [vec![0, 0, 2, 0, 0, 0, 5, 0], vec![0, 9, 9, 0, 0, 0, 13, 0]]);
            assert_eq!(of(4), [vec![0xff, 0, 0, 1]]);
        }
    }

    #[test]
    fn dsdt_has_s5_and_the_serial_line() {
        let all = tables(1);
        let (_, _, dsdt) = parse(&all);
        let has = |needle: &[u8]| dsdt.windows(needle.len()).any(|w| w == needle);
        assert!(has(b"\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00"), "{dsdt:02x?}");
        assert!(has(b"COM1") && has(&[0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 1, 8]), "I/O port descriptor");
        assert!(has(&[0x41, 0xd0, 0x05, 0x01]), "PNP0501");
        assert!(has(&[0x41, 0xd0, 0x0b, 0x00]), "PNP0B00");
    }
}
