//! PVH (Xen's "x86/HVM direct boot ABI"): an ELF file that names its 32-bit entry point in a note. Linux' `vmlinux`
//! has one if it was built with `CONFIG_PVH`.

use elf::abi::PT_NOTE;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::{Note, NoteIterator};
use linux_loader::configurator::{BootConfigurator, BootParams, pvh::PvhBootConfigurator};
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::GuestAddress;

use super::elf as image;
use super::error::write_error;
use super::{Boot, Job, LOW_TABLES, LoadError, Taken, memory_map, taken_text};
use crate::layout;
use crate::vcpu::Start;

/// Note with the entry point: name and type (Xen, elfnote.h).
const NOTE_NAME: &[u8] = b"Xen\0";
const XEN_ELFNOTE_PHYS32_ENTRY: u64 = 18;
/// `hvm_start_info`: "xEn3" with the top bit of the E set; the first version with a memory map.
const START_MAGIC: u32 = 0x336e_c578;
const START_VERSION: u32 = 1;
/// Where an initial RAM disk may end at most: below 2 GiB.
const INITRD_END: u64 = 1 << 31;

/// The start information, then module list and memory map.
const START_INFO: u64 = layout::BOOT_PARAMS;
const MODLIST: u64 = START_INFO + 0x80;
const MEMMAP: u64 = START_INFO + 0x100;
const INFO_END: u64 = START_INFO + 0x200;

/// Puts kernel, initial RAM disk and start information into guest RAM.
pub(super) fn load(job: &Job) -> Result<Boot, LoadError> {
    let not = |cause: String| LoadError::NotPvh { rom: job.rom.into(), cause };
    let file = image::File::parse(job.kernel).map_err(not)?;
    let entry = entry(&file).map_err(not)?;
    let parts = file.parts(job.rom, job.kernel.len())?;
    job.check_cmdline(usize::MAX)?;
    let info = Taken { what: "PVH start information", start: START_INFO, end: INFO_END };
    let taken = [LOW_TABLES, info, taken_text(job.cmdline.len() + 1)];
    let (kernel, kernel_end) = image::check(job, &parts, &taken, entry.into())?;
    let initrd = job.place_initrd_high(kernel_end.max(layout::HIGH_RAM), job.ram.min(INITRD_END))?;

    image::write(job, &parts)?;
    job.write_initrd(initrd)?;
    job.write_cmdline()?;
    job.write_bios_data()?;
    write_start_info(job, initrd)?;
    let start = Start::Protected { eip: entry, eax: 0, ebx: START_INFO as u32 };
    Ok(Boot { start, kernel, initrd })
}

/// The entry point that the note gives.
fn entry(file: &image::File) -> Result<u32, String> {
    for p in file.segments().filter(|p| p.p_type == PT_NOTE) {
        let bytes = file.0.segment_data(&p).map_err(|e| format!("its notes cannot be read: {e}"))?;
        // Alignments other than 8 mean 4 (System V gABI, "note section").
        let align = if p.p_align == 8 { 8 } else { 4 };
        for note in NoteIterator::new(LittleEndian, Class::ELF64, align, bytes) {
            if let Note::Unknown(n) = note
                && n.name == NOTE_NAME
                && n.n_type == XEN_ELFNOTE_PHYS32_ENTRY
            {
                return address(n.desc);
            }
        }
    }
    Err("an ELF file without the note XEN_ELFNOTE_PHYS32_ENTRY (for Linux: built without CONFIG_PVH?)".into())
}

/// 4 or 8 bytes.
fn address(desc: &[u8]) -> Result<u32, String> {
    let bad = || format!("its note XEN_ELFNOTE_PHYS32_ENTRY holds no 32-bit address: {desc:02x?}");
    let value = match *desc {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => return Err(bad()),
    };
    value.try_into().map_err(|_| bad())
}

fn write_start_info(job: &Job, (paddr, size): (u64, u64)) -> Result<(), LoadError> {
    let map = memory_map(job.ram, job.acpi);
    let map = map.map(|e| hvm_memmap_table_entry { addr: e.start, size: e.end - e.start, type_: e.kind, reserved: 0 });
    let info = hvm_start_info {
        magic: START_MAGIC,
        version: START_VERSION,
        nr_modules: job.initrd.is_some().into(),
        modlist_paddr: if job.initrd.is_some() { MODLIST } else { 0 },
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: if job.acpi { layout::ACPI } else { 0 },
        memmap_paddr: MEMMAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let mut params = BootParams::new(&info, GuestAddress(START_INFO));
    params.set_sections(&map, GuestAddress(MEMMAP));
    if job.initrd.is_some() {
        params.set_modules(&[hvm_modlist_entry { paddr, size, ..Default::default() }], GuestAddress(MODLIST));
    }
    PvhBootConfigurator::write_bootparams(&params, job.mem).map_err(|e| write_error(job.rom, e))
}
