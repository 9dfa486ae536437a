//! The little of ACPI that the root task needs: the sleep type of S5 and how pins are configured.
//!
//! Why no crate: on stable Rust, the published AML interpreters do not compile (`aml` 0.16 and `acpi` 6 and 7 use
//! unstable features), and without them the `acpi` crate cannot find `\_S5`. The package is a constant in every
//! firmware's namespace, so it is looked for by its encoding, as most small systems do.
//!
//! Layouts: ACPI 6.5, section 5.2. Key types: [`Tables`], [`PinConfig`].

use thiserror::Error;

/// Physical memory that can be looked at.
pub trait PhysicalMemory {
    /// `len` bytes from physical address `phys`; `None` if they cannot be mapped.
    fn bytes(&self, phys: u64, len: usize) -> Option<&[u8]>;
}

/// Why something cannot be found in the firmware's tables.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum AcpiError {
    /// No RSDP, or one with a wrong signature or checksum.
    #[error("there is no ACPI root pointer at {0:#x}")]
    NoRsdp(u64),
    /// A table cannot be mapped, or its length or checksum is wrong.
    #[error("the ACPI table at {0:#x} is damaged")]
    Damaged(u64),
    /// There is no such table.
    #[error("there is no ACPI table {0}")]
    NoTable(&'static str),
    /// No definition block has an `\_S5` that is a package of constants.
    #[error("\\_S5 is in no ACPI definition block")]
    NoS5,
}

mod spec {
    //! Offsets and encodings, ACPI 6.5.
    /// 5.2.5.3, RSDP.
    pub const RSDP_SIGNATURE: &[u8; 8] = b"RSD PTR ";
    pub const RSDP_V1_LEN: usize = 20;
    pub const RSDP_V2_LEN: usize = 36;
    pub const RSDP_REVISION: usize = 15;
    pub const RSDP_RSDT: usize = 16;
    pub const RSDP_XSDT: usize = 24;
    /// 5.2.6, description header.
    pub const HEADER_LEN: usize = 36;
    pub const HEADER_LENGTH: usize = 4;
    /// 5.2.9, FADT.
    pub const FADT_DSDT: usize = 40;
    pub const FADT_X_DSDT: usize = 140;
    /// 5.2.12, MADT.
    pub const MADT_ENTRIES: usize = 44;
    pub const MADT_IO_APIC: u8 = 1;
    pub const MADT_IO_APIC_LEN: usize = 12;
    pub const IO_APIC_ADDRESS: usize = 4;
    pub const MADT_OVERRIDE: u8 = 2;
    pub const MADT_OVERRIDE_LEN: usize = 10;
    pub const OVERRIDE_GSI: usize = 4;
    pub const OVERRIDE_FLAGS: usize = 8;
    /// 5.2.12.5, MPS INTI flags.
    pub const POLARITY: u16 = 0b11;
    pub const POLARITY_LOW: u16 = 0b11;
    pub const TRIGGER: u16 = 0b11 << 2;
    pub const TRIGGER_LEVEL: u16 = 0b11 << 2;
    /// 20.2, AML encoding.
    pub const NAME_OP: u8 = 0x08;
    pub const PACKAGE_OP: u8 = 0x12;
    pub const ZERO_OP: u8 = 0x00;
    pub const ONE_OP: u8 = 0x01;
    pub const BYTE_PREFIX: u8 = 0x0a;
    pub const WORD_PREFIX: u8 = 0x0b;
    pub const DWORD_PREFIX: u8 = 0x0c;
    pub const ROOT_CHAR: u8 = b'\\';
}

/// No table is longer; larger lengths are damage.
const MAX_TABLE: usize = 16 << 20;
/// ISA interrupts.
const ISA: u32 = 16;

/// The firmware's tables.
pub struct Tables<'m, M> {
    memory: &'m M,
    addresses: Vec<u64>,
}

impl<'m, M: PhysicalMemory> Tables<'m, M> {
    /// Follows the RSDP at `rsdp` to the list of tables.
    pub fn new(memory: &'m M, rsdp: u64) -> Result<Tables<'m, M>, AcpiError> {
        let no = || AcpiError::NoRsdp(rsdp);
        let v1 = memory.bytes(rsdp, spec::RSDP_V1_LEN).ok_or_else(no)?;
        if !v1.starts_with(spec::RSDP_SIGNATURE) || sum(v1) != 0 {
            return Err(no());
        }
        let xsdt = if v1[spec::RSDP_REVISION] < 2 { None } else { memory.bytes(rsdp, spec::RSDP_V2_LEN) };
        let xsdt = xsdt.and_then(|b| u64_at(b, spec::RSDP_XSDT)).filter(|&a| a != 0);
        let addresses = match xsdt {
            Some(at) => pointers(table(memory, at)?, 8),
            None => pointers(table(memory, u32_at(v1, spec::RSDP_RSDT).ok_or_else(no)?.into())?, 4),
        };
        Ok(Tables { memory, addresses })
    }

    /// All undamaged tables with that signature.
    fn all(&self, signature: &'static str) -> impl Iterator<Item = &'m [u8]> {
        let tables = self.addresses.iter().filter_map(|&a| table(self.memory, a).ok());
        tables.filter(move |t| t.starts_with(signature.as_bytes()))
    }

    fn find(&self, signature: &'static str) -> Result<&'m [u8], AcpiError> {
        self.all(signature).next().ok_or(AcpiError::NoTable(signature))
    }

    /// The first two bytes of `\_S5`: what goes into SLP_TYP of PM1a and PM1b to switch the machine off.
    pub fn s5(&self) -> Result<(u8, u8), AcpiError> {
        let fadt = self.find("FACP")?;
        let wide = u64_at(fadt, spec::FADT_X_DSDT).filter(|&a| a != 0);
        let dsdt = wide.or_else(|| u32_at(fadt, spec::FADT_DSDT).map(u64::from)).ok_or(AcpiError::NoTable("DSDT"))?;
        let blocks = std::iter::once(table(self.memory, dsdt)?).chain(self.all("SSDT"));
        blocks.into_iter().find_map(find_s5).ok_or(AcpiError::NoS5)
    }

    /// How the firmware says pins are to be configured; empty without a MADT.
    pub fn overrides(&self) -> Overrides {
        Overrides(self.find("APIC").map(madt_overrides).unwrap_or_default())
    }

    /// Where the registers of I/O APICs are, by the MADT.
    pub fn io_apics(&self) -> Vec<u64> {
        let Ok(madt) = self.find("APIC") else { return Vec::new() };
        let chips = madt_entries(madt).filter(|e| e[0] == spec::MADT_IO_APIC && e.len() >= spec::MADT_IO_APIC_LEN);
        chips.filter_map(|e| u32_at(e, spec::IO_APIC_ADDRESS)).map(u64::from).collect()
    }
}

/// Trigger mode and polarity of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinConfig {
    /// Level-triggered; else edge-triggered.
    pub level: bool,
    /// Active low; else active high.
    pub low: bool,
}

/// Interrupt source overrides of the MADT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(Vec<(u32, u16)>);

impl Overrides {
    /// Configuration of a pin: that of the firmware where it gives one, else that of its bus. Below 16 this is ISA
    /// (edge, high), above it PCI (level, low).
    pub fn pin(&self, gsi: u32) -> PinConfig {
        let bus = PinConfig { level: gsi >= ISA, low: gsi >= ISA };
        let Some((_, flags)) = self.0.iter().find(|(g, _)| *g == gsi) else { return bus };
        let field = |mask: u16, set: u16, default| if flags & mask == 0 { default } else { flags & mask == set };
        // Overrides are about ISA sources: what conforms to the bus is edge and high, whatever the pin's number.
        PinConfig {
            level: field(spec::TRIGGER, spec::TRIGGER_LEVEL, false),
            low: field(spec::POLARITY, spec::POLARITY_LOW, false),
        }
    }
}

fn madt_overrides(madt: &[u8]) -> Vec<(u32, u16)> {
    let overrides = madt_entries(madt).filter(|e| e[0] == spec::MADT_OVERRIDE && e.len() >= spec::MADT_OVERRIDE_LEN);
    overrides.filter_map(|e| u32_at(e, spec::OVERRIDE_GSI).zip(u16_at(e, spec::OVERRIDE_FLAGS))).collect()
}

/// Entries of the MADT, each with its kind and its length in front: two bytes at least.
fn madt_entries(madt: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = madt.get(spec::MADT_ENTRIES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [_, len, ..] = *rest else { return None };
        let (entry, tail) = rest.split_at_checked(usize::from(len).max(2))?;
        rest = tail;
        Some(entry)
    })
}

/// Looks for `Name (_S5, Package () { a, b, ... })`.
fn find_s5(block: &[u8]) -> Option<(u8, u8)> {
    let names = block.windows(4).enumerate().filter(|(_, w)| *w == b"_S5_").map(|(i, _)| i);
    names.into_iter().find_map(|at| {
        let before = block.get(..at)?;
        let named = before.strip_suffix(&[spec::ROOT_CHAR]).unwrap_or(before).last() == Some(&spec::NAME_OP);
        named.then(|| s5_package(&block[at + 4..])).flatten()
    })
}

fn s5_package(aml: &[u8]) -> Option<(u8, u8)> {
    let (&op, rest) = aml.split_first()?;
    if op != spec::PACKAGE_OP {
        return None;
    }
    // PkgLength: bits 7:6 of its first byte say how many bytes follow.
    let length_bytes = 1 + usize::from(rest.first()? >> 6);
    let (&elements, rest) = rest.get(length_bytes..)?.split_first()?;
    let (a, rest) = constant(rest)?;
    // A package of fewer elements is filled up with zeros.
    let b = if elements < 2 { 0 } else { constant(rest)?.0 };
    Some((a, b))
}

/// An integer constant, cut to its low byte.
fn constant(aml: &[u8]) -> Option<(u8, &[u8])> {
    let (&op, rest) = aml.split_first()?;
    let width = match op {
        spec::ZERO_OP | spec::ONE_OP => return Some((op, rest)),
        spec::BYTE_PREFIX => 1,
        spec::WORD_PREFIX => 2,
        spec::DWORD_PREFIX => 4,
        _ => return None,
    };
    let (bytes, rest) = rest.split_at_checked(width)?;
    Some((bytes[0], rest))
}

/// A table with its header, if length and checksum are right.
fn table<M: PhysicalMemory>(memory: &M, at: u64) -> Result<&[u8], AcpiError> {
    let damaged = AcpiError::Damaged(at);
    let length = memory.bytes(at, spec::HEADER_LEN).and_then(|h| u32_at(h, spec::HEADER_LENGTH));
    let length = length.map(|l| l as usize).filter(|l| (spec::HEADER_LEN..=MAX_TABLE).contains(l));
    let Some(bytes) = length.and_then(|l| memory.bytes(at, l)) else { return Err(damaged) };
    if sum(bytes) == 0 { Ok(bytes) } else { Err(damaged) }
}

/// Pointers of `width` bytes behind the header.
fn pointers(table: &[u8], width: usize) -> Vec<u64> {
    let little_endian = |c: &[u8]| c.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
    table[spec::HEADER_LEN..].chunks_exact(width).map(little_endian).collect()
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |s, &b| s.wrapping_add(b))
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    b.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    b.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
