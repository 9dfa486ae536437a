//! ELF images of components: which bytes of the module go where, with which permissions.
//!
//! Key types: [`Image`], [`Segment`]. All checks are here; who loads an [`Image`] need not look at the file again.

use abi::perm::Mem;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParseError;
use elf::segment::ProgramHeader;
use parent::layout;
use std::ops::Range;
use thiserror::Error;

const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Most loadable segments; linkers make three or four.
const MAX_SEGMENTS: usize = 16;

/// Why a module cannot be loaded.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum ImageError {
    /// The first bytes are something else.
    #[error("is not an ELF file")]
    NotElf,
    /// Headers, tables or a segment lie behind the end of the file.
    #[error("is truncated: {0}")]
    Truncated(String),
    /// Any other damage of the headers.
    #[error("has damaged ELF headers: {0}")]
    Damaged(String),
    /// 32 bits, another byte order, or another architecture.
    #[error("is not for x86-64 (ELF class, byte order or machine)")]
    Machine,
    /// A relocatable, shared or position-independent file.
    #[error("is not a statically linked executable (ELF type {0}; 2 is expected, no interpreter, nothing dynamic)")]
    Type(u16),
    /// Nothing to load, or too many pieces.
    #[error("has {0} loadable segments; 1 to {MAX_SEGMENTS} are expected")]
    Segments(usize),
    /// More bytes in the file than in memory.
    #[error("segment {0} has more bytes in the file than in memory")]
    Sizes(usize),
    /// Outside the place for images.
    #[error("segment {index} ({start:#x} to {end:#x}) is outside {:#x} to {:#x}", layout::IMAGE, layout::START_INFO)]
    Place {
        /// Number of the segment.
        index: usize,
        /// First address.
        start: u64,
        /// First address behind.
        end: u64,
    },
    /// Two segments share a page, or are not in ascending order.
    #[error("segments {0} and {1} share a page or are out of order")]
    Overlap(usize, usize),
    /// W^X.
    #[error("segment {0} is both writable and executable")]
    WriteExecute(usize),
    /// The entry point is not in code.
    #[error("entry point {0:#x} is in no executable segment")]
    Entry(u64),
}

/// A loadable segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address of the first byte.
    pub vaddr: u64,
    /// Its bytes in the module; what is missing up to `mem_len` is zero.
    pub file: Range<usize>,
    /// Length in memory in bytes.
    pub mem_len: u64,
    /// Permissions: R, with W or XU.
    pub perms: Mem,
}

impl Segment {
    /// Address of the first page.
    pub fn page_start(&self) -> u64 {
        self.vaddr & !(PAGE - 1)
    }

    /// End of the last page. Cannot overflow: see [`ImageError::Place`].
    pub fn page_end(&self) -> u64 {
        (self.vaddr + self.mem_len).next_multiple_of(PAGE)
    }
}

/// What to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Entry point.
    pub entry: u64,
    /// Segments in ascending order, no page shared.
    pub segments: Vec<Segment>,
}

impl Image {
    /// Reads and checks an ELF file.
    pub fn parse(bytes: &[u8]) -> Result<Image, ImageError> {
        if !bytes.starts_with(&elf::abi::ELFMAGIC) {
            return Err(ImageError::NotElf);
        }
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(header_error)?;
        if file.ehdr.class != Class::ELF64 || file.ehdr.e_machine != EM_X86_64 {
            return Err(ImageError::Machine);
        }
        let headers: Vec<ProgramHeader> = file.segments().map(|t| t.iter().collect()).unwrap_or_default();
        let foreign = headers.iter().any(|h| matches!(h.p_type, PT_INTERP | PT_DYNAMIC));
        if file.ehdr.e_type != ET_EXEC || foreign {
            return Err(ImageError::Type(file.ehdr.e_type));
        }
        let loads: Vec<_> = headers.iter().filter(|h| h.p_type == PT_LOAD && h.p_memsz > 0).collect();
        if loads.is_empty() || loads.len() > MAX_SEGMENTS {
            return Err(ImageError::Segments(loads.len()));
        }
        let segments =
            loads.iter().enumerate().map(|(i, h)| segment(i, h, bytes.len())).collect::<Result<Vec<_>, _>>()?;
        check_disjoint(&segments)?;
        check_entry(file.ehdr.e_entry, &segments)?;
        Ok(Image { entry: file.ehdr.e_entry, segments })
    }

    /// Memory that the segments take, in bytes, whole pages.
    pub fn memory(&self) -> u64 {
        self.segments.iter().map(|s| s.page_end() - s.page_start()).sum()
    }
}

fn header_error(e: ParseError) -> ImageError {
    match e {
        ParseError::UnsupportedElfClass(_) | ParseError::UnsupportedElfEndianness(_) => ImageError::Machine,
        ParseError::SliceReadError(_) => ImageError::Truncated("the headers reach beyond its end".into()),
        other => ImageError::Damaged(other.to_string()),
    }
}

fn segment(index: usize, h: &ProgramHeader, file_len: usize) -> Result<Segment, ImageError> {
    if h.p_filesz > h.p_memsz {
        return Err(ImageError::Sizes(index));
    }
    let file_end = h.p_offset.checked_add(h.p_filesz).filter(|&e| e <= file_len as u64);
    let Some(file_end) = file_end else {
        let end = h.p_offset.saturating_add(h.p_filesz);
        return Err(ImageError::Truncated(format!("segment {index} ends at byte {end}, the file at {file_len}")));
    };
    let end = h.p_vaddr.saturating_add(h.p_memsz);
    if h.p_vaddr < layout::IMAGE || end > layout::START_INFO {
        return Err(ImageError::Place { index, start: h.p_vaddr, end });
    }
    Ok(Segment {
        vaddr: h.p_vaddr,
        file: h.p_offset as usize..file_end as usize,
        mem_len: h.p_memsz,
        perms: perms(index, h.p_flags)?,
    })
}

fn perms(index: usize, flags: u32) -> Result<Mem, ImageError> {
    if flags & PF_W != 0 && flags & PF_X != 0 {
        return Err(ImageError::WriteExecute(index));
    }
    let table = [(PF_R, Mem::R), (PF_W, Mem::W), (PF_X, Mem::XU)];
    Ok(table.into_iter().filter(|(f, _)| flags & f != 0).fold(Mem::R, |p, (_, m)| p | m))
}

fn check_disjoint(segments: &[Segment]) -> Result<(), ImageError> {
    match segments.windows(2).position(|w| w[0].page_end() > w[1].page_start()) {
        Some(i) => Err(ImageError::Overlap(i, i + 1)),
        None => Ok(()),
    }
}

fn check_entry(entry: u64, segments: &[Segment]) -> Result<(), ImageError> {
    let inside = |s: &Segment| s.perms.contains(Mem::XU) && (s.vaddr..s.vaddr + s.mem_len).contains(&entry);
    if segments.iter().any(inside) { Ok(()) } else { Err(ImageError::Entry(entry)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A program header of a test image: flags, file offset, address, file size, memory size.
    #[derive(Clone, Copy)]
    pub(crate) struct Load(pub u32, pub u64, pub u64, pub u64, pub u64);

    /// An ELF file of 12 KiB with these segments; bytes behind the headers count up.
    pub(crate) fn elf_file(entry: u64, loads: &[Load]) -> Vec<u8> {
        let mut f: Vec<u8> = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let halves = |f: &mut Vec<u8>, v: &[u16]| v.iter().for_each(|h| f.extend(h.to_le_bytes()));
        halves(&mut f, &[ET_EXEC, EM_X86_64]);
        f.extend(1u32.to_le_bytes());
        [entry, 64, 0].iter().for_each(|v| f.extend(v.to_le_bytes()));
        f.extend(0u32.to_le_bytes());
        halves(&mut f, &[64, 56, loads.len() as u16, 64, 0, 0]);
        for l in loads {
            f.extend(PT_LOAD.to_le_bytes());
            f.extend(l.0.to_le_bytes());
            [l.1, l.2, l.2, l.3, l.4, 4096].iter().for_each(|v| f.extend(v.to_le_bytes()));
        }
        let from = f.len();
        f.extend((from..12288).map(|i| i as u8));
        f
    }

    const CODE: Load = Load(PF_R | PF_X, 0, 0x40_0000, 0x1000, 0x1000);
    const DATA: Load = Load(PF_R | PF_W, 0x1100, 0x40_1100, 0x800, 0x3000);

    /// A usable image: code at 0x400000, data behind it.
    pub(crate) fn good() -> Vec<u8> {
        elf_file(0x40_0100, &[CODE, DATA])
    }

    #[test]
    fn a_component_is_read() {
        let i = Image::parse(&good()).unwrap();
        assert_eq!(i.entry, 0x40_0100);
        assert_eq!(i.segments[0].perms, Mem::R | Mem::XU);
        let data = Segment { vaddr: 0x40_1100, file: 0x1100..0x1900, mem_len: 0x3000, perms: Mem::R | Mem::W };
        assert_eq!(i.segments[1], data);
        assert_eq!((data.page_start(), data.page_end()), (0x40_1000, 0x40_5000));
        assert_eq!(i.memory(), 0x5000);
    }

    #[test]
    fn a_segment_without_flags_is_read_only() {
        let i = Image::parse(&elf_file(0x40_0100, &[CODE, Load(0, 0, 0x40_8000, 1, 1)])).unwrap();
        assert_eq!(i.segments[1].perms, Mem::R);
    }

    #[test]
    fn each_defect_has_its_error() {
        let with = |l: Load| Image::parse(&elf_file(0x40_0100, &[CODE, l])).unwrap_err();
        assert_eq!(with(Load(PF_W, 0, 0x40_2000, 9, 8)), ImageError::Sizes(1));
        assert_eq!(with(Load(PF_W | PF_X, 0, 0x40_2000, 8, 8)), ImageError::WriteExecute(1));
        assert_eq!(with(Load(PF_W, 0, 0x40_0ff8, 8, 8)), ImageError::Overlap(0, 1));
        assert!(matches!(with(Load(PF_W, 0, 0x3f_f000, 8, 8)), ImageError::Place { index: 1, .. }));
        assert!(matches!(with(Load(PF_W, 0, 0x0fff_fffc, 4, 8)), ImageError::Place { index: 1, .. }));
        assert!(matches!(with(Load(PF_W, 0, u64::MAX - 4, 4, 8)), ImageError::Place { index: 1, .. }));
        assert!(matches!(with(Load(PF_W, 12280, 0x40_2000, 9, 9)), ImageError::Truncated(_)));
        assert!(matches!(with(Load(PF_W, u64::MAX, 0x40_2000, 9, 9)), ImageError::Truncated(_)));
        assert_eq!(Image::parse(&elf_file(0x40_1100, &[CODE, DATA])), Err(ImageError::Entry(0x40_1100)));
        assert_eq!(Image::parse(&elf_file(0, &[])), Err(ImageError::Segments(0)));
    }

    #[test]
    fn what_is_no_executable_for_this_machine() {
        let patched = |at: usize, v: u8| {
            let mut f = good();
            f[at] = v;
            Image::parse(&f).unwrap_err()
        };
        assert_eq!(patched(0, b'#'), ImageError::NotElf);
        assert_eq!(patched(5, 2), ImageError::Machine, "big endian");
        assert_eq!(patched(18, 40), ImageError::Machine, "ARM");
        assert_eq!(patched(16, 3), ImageError::Type(3), "shared object");
        assert_eq!(patched(64, PT_INTERP as u8), ImageError::Type(2));
        assert_eq!(Image::parse(b""), Err(ImageError::NotElf));
        assert_eq!(Image::parse(b"#!/bin/sh\n"), Err(ImageError::NotElf));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let f = good();
        for len in 0..0x1900 {
            let e = Image::parse(&f[..len]).unwrap_err();
            let expected = if len < 4 { e == ImageError::NotElf } else { matches!(e, ImageError::Truncated(_)) };
            assert!(expected, "{len} bytes: {e}");
        }
        assert!(Image::parse(&f[..0x1900]).is_ok());
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic_and_never_pass_unchecked(
            edits in prop::collection::vec((0usize..176, any::<u8>()), 1..6)
        ) {
            let mut f = good();
            edits.iter().for_each(|&(at, v)| f[at] = v);
            if let Ok(i) = Image::parse(&f) {
                for s in &i.segments {
                    prop_assert!(s.page_start() >= layout::IMAGE && s.page_end() <= layout::START_INFO);
                    prop_assert!(s.file.end <= f.len() && s.file.len() as u64 <= s.mem_len);
                    prop_assert!(!s.perms.contains(Mem::W | Mem::XU));
                }
                prop_assert!(i.segments.windows(2).all(|w| w[0].page_end() <= w[1].page_start()));
            }
        }
    }
}
