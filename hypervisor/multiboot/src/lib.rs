//! Multiboot 2 boot information, out of its bytes (specification 2.0, 3.6): what of it the kernel wants to know.
//!
//! Key type: [`Info`]. What of a tag is missing or does not add up is as if the tag were not there.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Types of tags (3.6).
mod kind {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const RSDP_1: u32 = 14;
    pub const RSDP_2: u32 = 15;
}

/// In the memory map (3.6.8): memory that can be used.
const AVAILABLE: u32 = 1;
/// Bytes of an entry of the memory map: address, length, type, and nothing.
const AREA: usize = 24;
/// Bytes before the first tag, and those of a tag before what it says: type and length.
const HEAD: usize = 8;
const PAGE: u64 = 4096;

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*b.get(at..)?.first_chunk()?))
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*b.get(at..)?.first_chunk()?))
}

/// A tag: its type, where what it says begins, and what it says.
type Tag<'a> = (u32, usize, &'a [u8]);

/// The boot information.
#[derive(Clone, Copy)]
pub struct Info<'a>(&'a [u8]);

/// The tags of a boot information, up to the last one or the first that cannot be right.
struct Tags<'a> {
    info: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Tag<'a>> {
        let (kind, len) = (u32_at(self.info, self.at)?, u32_at(self.info, self.at + 4)? as usize);
        let begin = self.at + HEAD;
        let body = self.info.get(begin..self.at + len)?;
        self.at = (self.at + len).next_multiple_of(8);
        Some((kind, begin, body))
    }
}

impl<'a> Info<'a> {
    /// Bytes of the whole, as its first four say.
    pub fn size(head: &[u8]) -> u32 {
        u32_at(head, 0).unwrap_or(0)
    }

    /// All of it, from the total size on. `None`: it has no end.
    pub fn new(bytes: &'a [u8]) -> Option<Info<'a>> {
        let info = Info(bytes);
        info.find(kind::END).map(|_| info)
    }

    fn tags(&self) -> impl Iterator<Item = Tag<'a>> + use<'a> {
        Tags { info: self.0, at: HEAD }.take_while(|(kind, ..)| *kind != kind::END)
    }

    fn find(&self, kind: u32) -> Option<Tag<'a>> {
        Tags { info: self.0, at: HEAD }.find(|(k, ..)| *k == kind || *k == kind::END).filter(|(k, ..)| *k == kind)
    }

    /// The kernel's command line, with the zero at its end.
    pub fn command_line(&self) -> &'a [u8] {
        self.find(kind::COMMAND_LINE).map_or(&[], |(.., body)| body)
    }

    /// Where a copy of the RSDP is, the newer one if there are two: an offset in the boot information.
    pub fn rsdp(&self) -> Option<usize> {
        self.find(kind::RSDP_2).or_else(|| self.find(kind::RSDP_1)).map(|(_, begin, _)| begin)
    }

    /// The boot modules: physical addresses of first byte and end.
    pub fn modules(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.tags()
            .filter(|(kind, ..)| *kind == kind::MODULE)
            .filter_map(|(.., b)| Some((u32_at(b, 0)?.into(), u32_at(b, 4)?.into())))
    }

    /// Whether all of a page is memory that can be used.
    fn is_available(&self, page: u64) -> bool {
        let Some((.., map)) = self.find(kind::MEMORY_MAP) else { return false };
        let step = u32_at(map, 0).map_or(0, |size| size as usize).max(AREA);
        map.get(8..).unwrap_or(&[]).chunks_exact(step).any(|area| {
            let (begin, len) = (u64_at(area, 0).unwrap_or(0), u64_at(area, 8).unwrap_or(0));
            u32_at(area, 16) == Some(AVAILABLE) && begin <= page && page + PAGE <= begin.saturating_add(len)
        })
    }

    /// A page of available memory below 640 KiB where no module is, nor what `own` gives, from its first byte to its end; not
    /// the first page, which holds the firmware's data.
    pub fn low_page(&self, own: (u64, u64)) -> Option<u64> {
        let is_taken = |p: u64| self.modules().chain([own]).any(|(begin, end)| begin < p + PAGE && p < end);
        (1..0xa0).rev().map(|n| n * PAGE).find(|p| self.is_available(*p) && !is_taken(*p))
    }
}
