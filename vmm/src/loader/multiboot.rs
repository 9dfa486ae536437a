//! Multiboot 1 (Multiboot Specification 0.6.96) as QEMU's `-kernel` takes it: a 32-bit ELF file, or any file whose
//! Multiboot header has addresses. Modules, the first of which is the initial RAM disk, are placed behind the kernel.

use zerocopy::{Immutable, IntoBytes};

use super::elf::{self, Part};
use super::{Boot, Job, LOW_TABLES, LoadError, MapEntry, Taken, memory_map, taken_text};
use crate::layout;
use crate::vcpu::Start;

/// Header: magic, and where it must be (3.1).
const HEADER_MAGIC: u32 = 0x1bad_b002;
const SEARCH: usize = 8192;
/// Header flags (3.1.2). The lower half is what the kernel demands: aligned modules and memory information, which
/// it gets, and a video mode, which no guest has; QEMU starts kernels with it, too, and they can see that there is none.
const KNOWN_DEMANDS: u32 = 0b111;
const DEMANDS: u32 = 0xffff;
const HAS_ADDRESSES: u32 = 1 << 16;
/// What EAX says at the entry (3.2).
const BOOT_MAGIC: u32 = 0x2bad_b002;
/// Flags of the information (3.3): memory sizes, command line, modules, memory map, loader's name.
const INFO_MEMORY: u32 = 1 << 0;
const INFO_CMDLINE: u32 = 1 << 2;
const INFO_MODS: u32 = 1 << 3;
const INFO_MMAP: u32 = 1 << 6;
const INFO_NAME: u32 = 1 << 9;

/// The information, the memory map and the list of modules.
const INFO: u64 = layout::BOOT_PARAMS;
const MMAP: u64 = INFO + 0x80;
const MODS: u64 = INFO + 0x100;
/// Most modules: the list ends before the page does.
const MODULES_MAX: usize = 64;
const NAME: &str = "Ferronova";

/// Address fields of the header (3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addresses {
    header_addr: u32,
    load_addr: u32,
    load_end_addr: u32,
    bss_end_addr: u32,
    entry_addr: u32,
}

/// The header as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Offset in the file.
    at: usize,
    flags: u32,
    addresses: Option<Addresses>,
}

/// Multiboot information (3.3) without video.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct Info {
    flags: u32,
    mem_lower: u32,
    mem_upper: u32,
    boot_device: u32,
    cmdline: u32,
    mods_count: u32,
    mods_addr: u32,
    syms: [u32; 4],
    mmap_length: u32,
    mmap_addr: u32,
    drives_length: u32,
    drives_addr: u32,
    config_table: u32,
    boot_loader_name: u32,
    apm_table: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    mod_start: u32,
    mod_end: u32,
    string: u32,
    reserved: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MmapEntry {
    /// Of the rest.
    size: u32,
    base_addr: [u32; 2],
    length: [u32; 2],
    kind: u32,
}

/// Whether the file is a Multiboot kernel that can be started: a header alone does not say that of a 64-bit ELF file.
pub(super) fn recognize(file: &[u8]) -> bool {
    let is_32 = || elf::File::parse(file).is_ok_and(|f| f.is_32());
    find_header(file).is_some_and(|h| h.addresses.is_some() || !elf::recognize(file) || is_32())
}

/// Puts kernel, modules and information into guest RAM.
pub(super) fn load(job: &Job) -> Result<Boot, LoadError> {
    let (parts, entry) = kernel(job)?;
    let modules: Vec<_> = job.initrd.iter().chain(job.modules).copied().collect();
    let texts = Texts::new(job, &modules)?;
    let info_end = MODS + (modules.len() * size_of::<Module>()) as u64;
    let info = Taken { what: "Multiboot information", start: INFO, end: info_end };
    let (kernel, kernel_end) = elf::check(job, &parts, &[LOW_TABLES, info, taken_text(texts.bytes.len())], entry)?;
    let places = place(job, &modules, kernel_end.max(layout::HIGH_RAM))?;

    elf::write(job, &parts)?;
    places.iter().zip(&modules).try_for_each(|((at, _), (_, data))| job.write(*at, data))?;
    job.write_bios_data()?;
    job.write(layout::CMDLINE, &texts.bytes)?;
    let mmap: Vec<_> = memory_map(job.ram, job.acpi).iter().map(mmap_entry).collect();
    let mods: Vec<_> = places.iter().zip(&texts.modules).map(|(place, string)| module(*place, *string)).collect();
    job.write(MODS, mods.as_bytes())?;
    job.write(MMAP, mmap.as_bytes())?;
    job.write(INFO, information(job, mods.len(), &texts, size_of_val(&*mmap)).as_bytes())?;
    let start = Start::Protected { eip: entry as u32, eax: BOOT_MAGIC, ebx: INFO as u32 };
    Ok(Boot { start, kernel, initrd: job.initrd.map_or((0, 0), |_| places[0]) })
}

/// Address and length of each module, one behind the other on pages of their own. As with GRUB and QEMU they begin
/// where the kernel ends: kernels that map little at first find them there.
fn place(job: &Job, modules: &[(&str, &[u8])], kernel_end: u64) -> Result<Vec<(u64, u64)>, LoadError> {
    let mut from = kernel_end;
    let mut places = Vec::new();
    for (text, data) in modules {
        let (len, start) = (data.len() as u64, from.next_multiple_of(0x1000));
        let end = start.saturating_add(len);
        if end > job.ram {
            let what = if job.initrd.is_some() && places.is_empty() { "initrd" } else { "module" };
            return Err(LoadError::ModuleTooBig { what, rom: (*text).into(), len, from, to: job.ram });
        }
        places.push((start, len));
        from = end;
    }
    Ok(places)
}

fn module((start, len): (u64, u64), string: u32) -> Module {
    Module { mod_start: start as u32, mod_end: (start + len) as u32, string, reserved: 0 }
}

fn information(job: &Job, mods_count: usize, texts: &Texts, mmap_length: usize) -> Info {
    Info {
        flags: INFO_MEMORY | INFO_CMDLINE | INFO_MODS | INFO_MMAP | INFO_NAME,
        mem_lower: (layout::EBDA >> 10) as u32,
        mem_upper: ((job.ram - layout::HIGH_RAM) >> 10) as u32,
        cmdline: layout::CMDLINE as u32,
        mods_count: mods_count as u32,
        mods_addr: MODS as u32,
        mmap_length: mmap_length as u32,
        mmap_addr: MMAP as u32,
        boot_loader_name: texts.name,
        ..Info::default()
    }
}

fn mmap_entry(e: &MapEntry) -> MmapEntry {
    let words = |n: u64| [n as u32, (n >> 32) as u32];
    let size = size_of::<MmapEntry>() as u32 - 4;
    MmapEntry { size, base_addr: words(e.start), length: words(e.end - e.start), kind: e.kind }
}

/// Command line, texts of the modules and name of the loader, one behind the other at [`layout::CMDLINE`].
struct Texts {
    bytes: Vec<u8>,
    /// Addresses.
    modules: Vec<u32>,
    name: u32,
}

impl Texts {
    fn new(job: &Job, modules: &[(&str, &[u8])]) -> Result<Texts, LoadError> {
        if modules.len() > MODULES_MAX {
            return Err(LoadError::TooManyModules { rom: job.rom.into(), have: modules.len(), most: MODULES_MAX });
        }
        let names = modules.iter().map(|(text, _)| text.len() + 1).sum::<usize>() + NAME.len() + 1;
        let other = names + job.rom.len() + 2;
        if other > layout::CMDLINE_MAX {
            let (rom, most) = (job.rom.into(), layout::CMDLINE_MAX - (other - names));
            return Err(LoadError::ModuleTextsTooLong { rom, have: names, most });
        }
        job.check_cmdline(layout::CMDLINE_MAX - other)?;
        // As QEMU and GRUB Legacy have it; kernels take what is after the first word.
        let mut texts = Texts { bytes: vec![], modules: vec![], name: 0 };
        texts.push(format!("{} {}", job.rom, job.cmdline).trim_end());
        texts.modules = modules.iter().map(|(text, _)| texts.push(text)).collect();
        texts.name = texts.push(NAME);
        Ok(texts)
    }

    /// Its address.
    fn push(&mut self, text: &str) -> u32 {
        let at = layout::CMDLINE as u32 + self.bytes.len() as u32;
        self.bytes.extend(text.bytes().chain([0]));
        at
    }
}

/// The kernel's parts and its entry point.
fn kernel<'a>(job: &Job<'a>) -> Result<(Vec<Part<'a>>, u64), LoadError> {
    let not = |cause: String| LoadError::NotMultiboot { rom: job.rom.into(), cause };
    let no_header = || not(format!("no Multiboot header in its first {SEARCH} bytes; {}", super::describe(job.kernel)));
    let header = find_header(job.kernel).ok_or_else(no_header)?;
    let unknown = header.flags & DEMANDS & !KNOWN_DEMANDS;
    if unknown != 0 {
        return Err(not(format!("its header demands what is not known here: flags {unknown:#x}")));
    }
    match header.addresses {
        Some(a) => by_addresses(job, header.at, &a).map_err(not),
        None => by_segments(job),
    }
}

/// Address fields: the file is one range of memory; they count even if it is an ELF file.
fn by_addresses<'a>(job: &Job<'a>, header_at: usize, a: &Addresses) -> Result<(Vec<Part<'a>>, u64), String> {
    let before = a.header_addr.checked_sub(a.load_addr).map(|n| n as usize).filter(|n| *n <= header_at);
    let before = before.ok_or_else(|| {
        format!(
            "its header is at {header_at:#x}, but its address fields say: {:#x} - {:#x}",
            a.header_addr, a.load_addr
        )
    })?;
    let file = &job.kernel[header_at - before..];
    let bytes = match a.load_end_addr {
        0 => file,
        end => {
            let len = end.checked_sub(a.load_addr).ok_or("its load_end_addr is below its load_addr")? as usize;
            let short = || format!("it is truncated: its address fields say {len} bytes, there are {}", file.len());
            file.get(..len).ok_or_else(short)?
        }
    };
    let start = u64::from(a.load_addr);
    let end = (start + bytes.len() as u64).max(a.bss_end_addr.into());
    Ok((vec![Part { start, end, bytes }], a.entry_addr.into()))
}

fn by_segments<'a>(job: &Job<'a>) -> Result<(Vec<Part<'a>>, u64), LoadError> {
    let not = |cause: String| LoadError::NotMultiboot { rom: job.rom.into(), cause };
    let file = elf::File::parse(job.kernel).map_err(not)?;
    if !file.is_32() {
        return Err(not("a 64-bit ELF file; it must be a 32-bit one, or have addresses in its header".into()));
    }
    let entry = file.0.ehdr.e_entry;
    // The file names the entry as all its code will see it; before paging that need not be where it is.
    let virt = file.segments().find(|p| p.p_type == ::elf::abi::PT_LOAD && entry.wrapping_sub(p.p_vaddr) < p.p_memsz);
    let entry = virt.map_or(entry, |p| (entry - p.p_vaddr).wrapping_add(p.p_paddr));
    Ok((file.parts(job.rom, job.kernel.len())?, entry))
}

/// The first header with a right checksum, on a 4-byte boundary.
fn find_header(file: &[u8]) -> Option<Header> {
    let word = |at: usize| file.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let sum = |at: usize| Some(word(at)?.wrapping_add(word(at + 4)?).wrapping_add(word(at + 8)?));
    let is_header = |at: &usize| word(*at) == Some(HEADER_MAGIC) && sum(*at) == Some(0);
    let at = (0..file.len().min(SEARCH)).step_by(4).find(is_header)?;
    let flags = word(at + 4)?;
    let addresses = || {
        Some(Addresses {
            header_addr: word(at + 12)?,
            load_addr: word(at + 16)?,
            load_end_addr: word(at + 20)?,
            bss_end_addr: word(at + 24)?,
            entry_addr: word(at + 28)?,
        })
    };
    // A file that ends within them has none, and is not one that could run.
    Some(Header { at, flags, addresses: if flags & HAS_ADDRESSES != 0 { addresses() } else { None } })
}
