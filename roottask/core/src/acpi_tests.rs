use super::*;
use proptest::prelude::*;

/// Physical memory from address 0x1000 on.
struct Memory(Vec<u8>);

const BASE: u64 = 0x1000;

impl PhysicalMemory for Memory {
    fn bytes(&self, phys: u64, len: usize) -> Option<&[u8]> {
        let at = phys.checked_sub(BASE)? as usize;
        self.0.get(at..at.checked_add(len)?)
    }
}

impl Memory {
    fn next(&self) -> u64 {
        BASE + self.0.len() as u64
    }

    /// Adds a table whose first `covered` bytes have a checksum.
    fn add(&mut self, mut bytes: Vec<u8>, checksum_at: usize, covered: usize) -> u64 {
        let at = self.next();
        bytes[checksum_at] = 0;
        bytes[checksum_at] = sum(&bytes[..covered]).wrapping_neg();
        self.0.extend(bytes);
        at
    }

    fn table(&mut self, signature: &str, body: &[u8]) -> u64 {
        let mut t = signature.as_bytes().to_vec();
        t.extend(((spec::HEADER_LEN + body.len()) as u32).to_le_bytes());
        t.resize(spec::HEADER_LEN, 0x20);
        t.extend(body);
        let covered = t.len();
        self.add(t, 9, covered)
    }
}

/// Name (_S5, Package (4) { 5, 1, 0, 0 }) among other bytes, one of which is a reference to \_S5.
const AML: &[u8] = b"\x10\x20_S5_\x5b\x08_S5_\x12\x07\x04\x0a\x05\x01\x00\x00\x14";

/// Memory with RSDP, root table, FADT, DSDT and MADT; returns the RSDP's address.
fn firmware(wide: bool, aml: &[u8], madt: &[u8]) -> (Memory, u64) {
    let mut m = Memory(Vec::new());
    let dsdt = m.table("DSDT", aml);
    let mut fadt = vec![0u8; 200];
    if wide {
        fadt[140 - 36..148 - 36].copy_from_slice(&dsdt.to_le_bytes());
    } else {
        fadt[40 - 36..44 - 36].copy_from_slice(&(dsdt as u32).to_le_bytes());
    }
    let fadt = m.table("FACP", &fadt);
    let mut body = vec![0u8; 8];
    body.extend(madt);
    let list = [m.table("APIC", &body), fadt, 0xffff_0000];
    let root = match wide {
        true => m.table("XSDT", &list.map(u64::to_le_bytes).concat()),
        false => m.table("RSDT", &list.map(|a| (a as u32).to_le_bytes()).concat()),
    };
    let mut rsdp = b"RSD PTR ".to_vec();
    rsdp.resize(36, 0);
    rsdp[15] = if wide { 2 } else { 0 };
    if wide {
        rsdp[24..32].copy_from_slice(&root.to_le_bytes());
    } else {
        rsdp[16..20].copy_from_slice(&(root as u32).to_le_bytes());
        rsdp.truncate(20);
    }
    let at = m.add(rsdp, 8, spec::RSDP_V1_LEN);
    (m, at)
}

#[test]
fn s5_is_found_through_both_root_tables() {
    for wide in [false, true] {
        let (m, rsdp) = firmware(wide, AML, &[]);
        assert_eq!(Tables::new(&m, rsdp).unwrap().s5(), Ok((5, 1)), "wide: {wide}");
    }
}

#[test]
fn s5_in_all_encodings() {
    for (aml, want) in [
        (&b"\x08\\_S5_\x12\x06\x04\x00\x01\x00\x00"[..], Some((0, 1))),
        (b"\x08_S5_\x12\x4a\x01\x04\x0b\x07\x00\x0c\x06\x00\x00\x00\x00\x00", Some((7, 6))),
        (b"\x08_S5_\x12\x03\x01\x0a\x05", Some((5, 0))),
        (b"\x08_S5_\x0a\x05", None),
        (b"\x08_S5_\x12\x06\x04\x70\x00\x00\x00", None),
        (b"\x08_S5_\x12\x03\x02\x0a\x05", None),
        (b"\x08_S5_", None),
        (b"\x08_S5", None),
        (b"_S5_\x12\x06\x04\x00\x01\x00\x00", None),
    ] {
        assert_eq!(find_s5(aml), want, "{aml:x?}");
    }
}

#[test]
fn without_s5_the_error_says_so() {
    let (m, rsdp) = firmware(true, b"\x08_S4_\x12\x06\x04\x00\x00\x00\x00", &[]);
    assert_eq!(Tables::new(&m, rsdp).unwrap().s5(), Err(AcpiError::NoS5));
}

#[test]
fn damage_is_an_error() {
    let (m, rsdp) = firmware(false, AML, &[]);
    assert_eq!(Tables::new(&m, rsdp + 1).err(), Some(AcpiError::NoRsdp(rsdp + 1)));
    assert_eq!(Tables::new(&m, u64::MAX).err(), Some(AcpiError::NoRsdp(u64::MAX)));
    let (mut m, rsdp) = firmware(false, AML, &[]);
    m.0[40] ^= 1;
    assert_eq!(Tables::new(&m, rsdp).unwrap().s5(), Err(AcpiError::Damaged(BASE)), "DSDT");
    let mut only_rsdp = Memory(Vec::new());
    let mut bytes = b"RSD PTR ".to_vec();
    bytes.resize(20, 0);
    let at = only_rsdp.add(bytes, 8, 20);
    assert_eq!(Tables::new(&only_rsdp, at).err(), Some(AcpiError::Damaged(0)));
}

#[test]
fn pins_are_as_their_bus_or_the_override_says() {
    let madt = [
        &[1u8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0],
        &[2, 10, 0, 11, 20, 0, 0, 0, 0x0f, 0],
        &[2, 10, 0, 5],
    ]
    .concat();
    let (m, rsdp) = firmware(true, AML, &madt);
    let o = Tables::new(&m, rsdp).unwrap().overrides();
    let pin = |level, low| PinConfig { level, low };
    assert_eq!(o.pin(4), pin(false, false), "ISA");
    assert_eq!(o.pin(17), pin(true, true), "PCI");
    assert_eq!(o.pin(2), pin(false, false), "conforms to the bus");
    assert_eq!(o.pin(9), pin(true, false));
    assert_eq!(o.pin(20), pin(true, true));
    assert_eq!(Overrides::default().pin(9), pin(false, false));
}

#[test]
fn io_apics_are_where_the_madt_says() {
    let madt = [
        &[1u8, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0][..],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[1, 12, 1, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0],
        &[1, 8, 2, 0, 0, 0x20, 0xc0, 0xfe],
    ]
    .concat();
    let (m, rsdp) = firmware(true, AML, &madt);
    assert_eq!(Tables::new(&m, rsdp).unwrap().io_apics(), [0xfec0_0000, 0xfec0_1000]);
    let (m, rsdp) = firmware(true, AML, &[]);
    assert_eq!(Tables::new(&m, rsdp).unwrap().io_apics(), []);
}

proptest! {
    #[test]
    fn damaged_firmware_never_panics(edits in prop::collection::vec((0usize..700, any::<u8>()), 0..8)) {
        let (mut m, rsdp) = firmware(true, AML, &[2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
        for (at, v) in edits {
            if let Some(b) = m.0.get_mut(at) {
                *b = v;
            }
        }
        if let Ok(t) = Tables::new(&m, rsdp) {
            let _ = (t.s5(), t.overrides().pin(9), t.io_apics());
        }
    }

    #[test]
    fn any_bytes_are_scanned(aml in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut block = b"\x08_S5_\x12".to_vec();
        block.extend(&aml);
        let _ = find_s5(&block);
        let _ = madt_overrides(&aml);
    }
}
