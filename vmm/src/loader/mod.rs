//! Puts a guest's kernel and what it needs to start into guest RAM: one file a boot protocol ([`Protocol`]), and
//! [`elf`] for the two that take ELF files.
//!
//! Everything is checked before anything is written. Key types: [`Images`], [`Boot`], [`LoadError`]. The state of the
//! vCPU at the entry is [`crate::vcpu::Start`].

mod bzimage;
mod elf;
mod error;
mod flat;
mod multiboot;
mod pvh;

use serde::Deserialize;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::layout;
use crate::vcpu::{self, Start};

pub use error::LoadError;
use error::write_error;

/// How a kernel is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Linux' 64-bit boot protocol.
    Bzimage,
    /// Xen's PVH: an ELF file with a note.
    Pvh,
    /// Multiboot 1: a 32-bit ELF file, or any with addresses in its Multiboot header.
    Multiboot,
    /// Real-mode code without any format.
    Flat,
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// Name of the kernel's ROM.
    pub kernel_rom: &'a str,
    /// The kernel, if there is such a ROM.
    pub kernel: Option<&'a [u8]>,
    /// Name and content of the initial RAM disk, if the guest has one.
    pub initrd: Option<(&'a str, Option<&'a [u8]>)>,
    /// More modules for a Multiboot kernel: name with arguments, and content.
    pub modules: &'a [(&'a str, Option<&'a [u8]>)],
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Whether ACPI tables are at [`layout::ACPI`].
    pub acpi: bool,
    /// The protocol, if it is not to be found out from the kernel.
    pub protocol: Option<Protocol>,
}

/// Where the guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Mode and entry point.
    pub start: Start,
    /// Lowest address of the kernel.
    pub kernel: u64,
    /// Where the initial RAM disk is, and its length.
    pub initrd: (u64, u64),
}

/// A request as the protocols see it: what must be there is there.
#[derive(Clone, Copy)]
struct Job<'a> {
    mem: &'a GuestMemoryMmap,
    /// Guest RAM in bytes.
    ram: u64,
    /// Name of the kernel's ROM.
    rom: &'a str,
    kernel: &'a [u8],
    initrd: Option<(&'a str, &'a [u8])>,
    modules: &'a [(&'a str, &'a [u8])],
    cmdline: &'a str,
    acpi: bool,
}

/// Loads the images into `ram` bytes of guest memory, all zero before.
pub fn load(mem: &GuestMemoryMmap, ram: u64, images: &Images) -> Result<Boot, LoadError> {
    let rom = images.kernel_rom;
    let kernel = present("kernel", rom, images.kernel)?;
    let initrd = images.initrd.map(|(name, data)| Ok((name, present("initrd", name, data)?))).transpose()?;
    let modules = images.modules.iter().map(|(text, data)| Ok((*text, present("module", module_rom(text), *data)?)));
    let modules = &modules.collect::<Result<Vec<_>, _>>()?;
    let job = Job { mem, ram, rom, kernel, initrd, modules, cmdline: images.cmdline, acpi: images.acpi };
    let protocol = images.protocol.map_or_else(|| detect(rom, kernel), Ok)?;
    if !modules.is_empty() && protocol != Protocol::Multiboot {
        return Err(LoadError::Modules { rom: rom.into() });
    }
    match protocol {
        Protocol::Bzimage => bzimage::load(&job),
        Protocol::Pvh => pvh::load(&job),
        Protocol::Multiboot => multiboot::load(&job),
        Protocol::Flat => flat::load(&job),
    }
}

/// Name of the ROM of a module; arguments follow it.
pub fn module_rom(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn present<'a>(what: &'static str, rom: &str, data: Option<&'a [u8]>) -> Result<&'a [u8], LoadError> {
    data.ok_or_else(|| LoadError::Missing { what, rom: rom.into() })
}

/// The protocol for which an image was made. Code without a format cannot be told from garbage.
fn detect(rom: &str, kernel: &[u8]) -> Result<Protocol, LoadError> {
    if bzimage::recognize(kernel) {
        Ok(Protocol::Bzimage)
    } else if multiboot::recognize(kernel) {
        Ok(Protocol::Multiboot)
    } else if elf::recognize(kernel) {
        Ok(Protocol::Pvh)
    } else {
        Err(LoadError::Unknown { rom: rom.into(), found: describe(kernel) })
    }
}

/// What a file that is not the expected kernel looks like.
fn describe(file: &[u8]) -> String {
    match file {
        [] => "it is empty".into(),
        [0x7f, b'E', b'L', b'F', ..] => "it is an ELF file (vmlinux?)".into(),
        [0x1f, 0x8b, ..] => "it is gzip-compressed".into(),
        [b'0', b'7', b'0', b'7', b'0', ..] => "it is a cpio archive (an initramfs?)".into(),
        _ if bzimage::recognize(file) => "it is a bzImage".into(),
        [b'M', b'Z', ..] => "it is a PE file without a Linux setup header".into(),
        _ if file.len() < bzimage::HEADER_END => {
            format!("only {} bytes, starting with {:02x?}", file.len(), head(file))
        }
        _ => format!("no setup header; it starts with {:02x?}", head(file)),
    }
}

fn head(file: &[u8]) -> &[u8] {
    &file[..file.len().min(8)]
}

/// What guest memory is, for the guest: ACPI 15, "system address map interfaces".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MapEntry {
    start: u64,
    end: u64,
    kind: u32,
}

/// Address range types: RAM, reserved, ACPI tables.
const MAP_RAM: u32 = 1;
const MAP_RESERVED: u32 = 2;
const MAP_ACPI: u32 = 3;

/// The memory map, ascending.
fn memory_map(ram: u64, acpi: bool) -> [MapEntry; 5] {
    let range = |start, end, kind| MapEntry { start, end, kind };
    [
        range(0, layout::EBDA, MAP_RAM),
        range(layout::EBDA, layout::LOW_RAM_END, MAP_RESERVED),
        range(layout::ACPI, layout::ACPI_END, if acpi { MAP_ACPI } else { MAP_RESERVED }),
        range(layout::ACPI_END, layout::HIGH_RAM, MAP_RESERVED),
        range(layout::HIGH_RAM, ram, MAP_RAM),
    ]
}

/// Guest memory that a kernel may not use, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    what: &'static str,
    start: u64,
    end: u64,
}

/// BIOS data area, and the GDT of the entry state behind it.
const LOW_TABLES: Taken = Taken { what: "BIOS data and GDT", start: 0, end: layout::GDT + vcpu::GDT_LEN };

/// The part of the command line's room that a text takes.
fn taken_text(len: usize) -> Taken {
    Taken { what: "command line", start: layout::CMDLINE, end: layout::CMDLINE + len as u64 }
}

impl Job<'_> {
    /// The kernel's own limit, if it is less than ours.
    fn check_cmdline(&self, most: usize) -> Result<(), LoadError> {
        let (have, most) = (self.cmdline.len(), most.min(layout::CMDLINE_MAX - 1));
        if have <= most { Ok(()) } else { Err(LoadError::CmdlineTooLong { rom: self.rom.into(), have, most }) }
    }

    /// Room for the initial RAM disk in `from..to`: its address, at the top of it and on a page, and its length.
    fn place_initrd_high(&self, from: u64, to: u64) -> Result<(u64, u64), LoadError> {
        let Some((rom, data)) = self.initrd else { return Ok((0, 0)) };
        let len = data.len() as u64;
        match to.checked_sub(len).map(|a| a & !0xfff) {
            Some(addr) if addr >= from => Ok((addr, len)),
            _ => Err(LoadError::ModuleTooBig { what: "initrd", rom: rom.into(), len, from, to }),
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), LoadError> {
        self.mem.write_slice(bytes, GuestAddress(at)).map_err(|e| write_error(self.rom, e))
    }

    fn write_initrd(&self, (at, _): (u64, u64)) -> Result<(), LoadError> {
        self.initrd.map_or(Ok(()), |(_, data)| self.write(at, data))
    }

    /// The command line with its final NUL, at [`layout::CMDLINE`].
    fn write_cmdline(&self) -> Result<(), LoadError> {
        self.write(layout::CMDLINE, &[self.cmdline.as_bytes(), &[0]].concat())
    }

    /// BIOS data area: kernels take the end of low memory from it.
    fn write_bios_data(&self) -> Result<(), LoadError> {
        bios_data(self.mem).map_err(|e| write_error(self.rom, e))
    }
}

/// Segment of the EBDA, KiB of base memory.
fn bios_data(mem: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    mem.write_obj((layout::EBDA >> 4) as u16, GuestAddress(0x40e))?;
    mem.write_obj((layout::EBDA >> 10) as u16, GuestAddress(0x413))
}

#[cfg(test)]
mod tests;
