//! ELF files as PVH and Multiboot take them: parts with physical addresses, checked against guest RAM.
//!
//! Key types: [`Parts`], [`Part`]. The format itself is read by the crate `elf`.

use elf::ElfBytes;
use elf::abi::{ELFMAGIC, EM_386, EM_X86_64, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParseError;
use elf::segment::ProgramHeader;

use super::{Job, LoadError, Taken};
use crate::layout;

/// Whether it begins as an ELF file does.
pub(super) fn recognize(file: &[u8]) -> bool {
    file.starts_with(&ELFMAGIC)
}

/// A piece of the kernel: bytes of the file, then zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Guest-physical address.
    pub start: u64,
    /// End in guest memory.
    pub end: u64,
    /// What is loaded there; guest RAM is zero behind it.
    pub bytes: &'a [u8],
}

/// An ELF file that is for this machine.
pub(super) struct File<'a>(pub ElfBytes<'a, LittleEndian>);

impl<'a> File<'a> {
    /// The cause is for a sentence "cannot be started by ...: ".
    pub fn parse(bytes: &'a [u8]) -> Result<File<'a>, String> {
        if !recognize(bytes) {
            return Err(super::describe(bytes));
        }
        let elf = ElfBytes::minimal_parse(bytes).map_err(|e| format!("its ELF headers are damaged: {}", cause(&e)))?;
        match (elf.ehdr.class, elf.ehdr.e_machine) {
            (Class::ELF32, EM_386) | (Class::ELF64, EM_X86_64) => Ok(File(elf)),
            (Class::ELF32, m) => Err(format!("a 32-bit ELF file for machine {m}, not x86 ({EM_386})")),
            (Class::ELF64, m) => Err(format!("a 64-bit ELF file for machine {m}, not x86-64 ({EM_X86_64})")),
        }
    }

    /// Whether it is a 32-bit file.
    pub fn is_32(&self) -> bool {
        self.0.ehdr.class == Class::ELF32
    }

    /// The program headers.
    pub fn segments(&self) -> impl Iterator<Item = ProgramHeader> {
        self.0.segments().into_iter().flat_map(|s| s.iter())
    }

    /// What is loaded. `rom` names the file, whose length is `have`.
    pub fn parts(&self, rom: &str, have: usize) -> Result<Vec<Part<'a>>, LoadError> {
        self.segments().filter(|p| p.p_type == PT_LOAD && p.p_memsz != 0).map(|p| self.part(rom, have, &p)).collect()
    }

    fn part(&self, rom: &str, have: usize, p: &ProgramHeader) -> Result<Part<'a>, LoadError> {
        let want = p.p_offset.saturating_add(p.p_filesz);
        let truncated = |_| LoadError::Truncated { rom: rom.into(), want, have: have as u64 };
        let bytes = if p.p_filesz == 0 { &[] } else { self.0.segment_data(p).map_err(truncated)? };
        // More file than memory is against the format; what is loaded counts.
        let end = p.p_paddr.saturating_add(p.p_memsz.max(p.p_filesz));
        Ok(Part { start: p.p_paddr, end, bytes })
    }
}

fn cause(e: &ParseError) -> String {
    match e {
        ParseError::UnsupportedElfEndianness(_) => "big-endian".into(),
        ParseError::SliceReadError((start, end)) => format!("they say something is at {start:#x} to {end:#x}"),
        other => other.to_string(),
    }
}

/// Checks that all parts are in RAM and in nobody's way, and that the entry is in one; returns the lowest address and
/// the end of all.
pub(super) fn check(job: &Job, parts: &[Part], taken: &[Taken], entry: u64) -> Result<(u64, u64), LoadError> {
    for part in parts {
        check_place(job, part, taken)?;
    }
    if !parts.iter().any(|p| (p.start..p.end).contains(&entry)) {
        return Err(LoadError::Entry { rom: job.rom.into(), entry });
    }
    let low = parts.iter().map(|p| p.start).min().unwrap_or_default();
    Ok((low, parts.iter().map(|p| p.end).max().unwrap_or_default()))
}

fn check_place(job: &Job, part: &Part, taken: &[Taken]) -> Result<(), LoadError> {
    let (rom, start, end) = (job.rom.to_owned(), part.start, part.end);
    if end > layout::EBDA && !(layout::HIGH_RAM <= start && end <= job.ram) {
        return Err(LoadError::NotInRam { rom, start, end, low: layout::EBDA, high: layout::HIGH_RAM, ram: job.ram });
    }
    match taken.iter().find(|t| start < t.end && t.start < end) {
        None => Ok(()),
        Some(t) => Err(LoadError::Overlap { rom, start, end, what: t.what, taken: t.start, taken_end: t.end }),
    }
}

/// Writes checked parts. Guest RAM is all zero before.
pub(super) fn write(job: &Job, parts: &[Part]) -> Result<(), LoadError> {
    parts.iter().try_for_each(|p| job.write(p.start, p.bytes))
}
