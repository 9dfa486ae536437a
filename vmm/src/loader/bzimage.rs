//! A bzImage (Linux: x86 boot protocol), entered at its 64-bit entry point (protocol 2.12).

use std::io::Cursor;

use linux_loader::configurator::{BootConfigurator, BootParams, linux::LinuxBootConfigurator};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::{KernelLoader, bzimage::BzImage};
use vm_memory::{ByteValued, GuestAddress};

use super::error::write_error;
use super::{Boot, Job, LoadError, MapEntry, memory_map};
use crate::layout;
use crate::vcpu::Start;

/// Offset of the setup header in a bzImage (boot protocol, "the real-mode kernel header"), and its end.
const HEADER_OFFSET: usize = 0x1f1;
pub(super) const HEADER_END: usize = HEADER_OFFSET + size_of::<setup_header>();
/// `header`: "HdrS", and where it is.
pub(super) const HEADER_MAGIC: u32 = 0x5372_6448;
const MAGIC_OFFSET: usize = 0x202;
/// First protocol version with a 64-bit entry point.
const VERSION_MIN: u16 = 0x20c;
/// `loadflags`: the kernel is loaded high.
const LOADED_HIGH: u8 = 1 << 0;
/// `loadflags`: `heap_end_ptr` is valid.
const CAN_USE_HEAP: u8 = 1 << 7;
/// `xloadflags`: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1 << 0;
/// Offset of the 64-bit entry point from the load address.
const ENTRY_64: u64 = 0x200;
/// `type_of_loader`: undefined.
const LOADER_UNDEFINED: u8 = 0xff;
/// Where an initial RAM disk may end at most: below 2 GiB.
const INITRD_END: u64 = 1 << 31;

/// Whether it has the setup header's magic number.
pub(super) fn recognize(file: &[u8]) -> bool {
    file.get(MAGIC_OFFSET..MAGIC_OFFSET + 4) == Some(&HEADER_MAGIC.to_le_bytes())
}

/// Puts kernel, initial RAM disk, command line and boot parameters into guest RAM.
pub(super) fn load(job: &Job) -> Result<Boot, LoadError> {
    let (rom, ram) = (job.rom, job.ram);
    let mut hdr = check_header(rom, job.kernel)?;
    job.check_cmdline(hdr.cmdline_size as usize)?;
    let load = hdr.pref_address;
    let kernel_end = load.saturating_add(u64::from(hdr.init_size)).max(load.saturating_add(job.kernel.len() as u64));
    if load < layout::HIGH_RAM || kernel_end > ram {
        return Err(LoadError::KernelTooBig { rom: rom.into(), need: kernel_end, ram });
    }
    let top = ram.min(u64::from(hdr.initrd_addr_max) + 1).min(INITRD_END);
    let initrd = job.place_initrd_high(kernel_end, top)?;

    let mut file = Cursor::new(job.kernel);
    BzImage::load(job.mem, Some(GuestAddress(load)), &mut file, None).map_err(|e| write_error(rom, e))?;
    job.write_initrd(initrd)?;
    job.write_cmdline()?;
    job.write_bios_data()?;
    hdr.code32_start = load as u32;
    write_boot_params(job, hdr, initrd)?;
    let start = Start::Long { rip: load + ENTRY_64, boot_params: layout::BOOT_PARAMS };
    Ok(Boot { start, kernel: load, initrd })
}

/// The setup header of a complete bzImage with a 64-bit entry point.
fn check_header(rom: &str, kernel: &[u8]) -> Result<setup_header, LoadError> {
    let mut hdr = setup_header::default();
    let not = |found: String| LoadError::NotBzImage { rom: rom.into(), found };
    if !recognize(kernel) {
        return Err(not(super::describe(kernel)));
    }
    let have = kernel.len() as u64;
    let truncated = |want: u64| LoadError::Truncated { rom: rom.into(), want, have };
    let file = kernel.get(HEADER_OFFSET..HEADER_END).ok_or_else(|| truncated(HEADER_END as u64))?;
    hdr.as_mut_slice().copy_from_slice(file);
    if hdr.loadflags & LOADED_HIGH == 0 {
        return Err(not("a zImage, which loads below 1 MiB".into()));
    }
    if hdr.version < VERSION_MIN || hdr.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(LoadError::TooOld { rom: rom.into(), version: hdr.version });
    }
    // The protocol: 0 means 4. `syssize` counts 16-byte paragraphs.
    let setup_sects = if hdr.setup_sects == 0 { 4 } else { u64::from(hdr.setup_sects) };
    let want = (setup_sects + 1) * 512 + u64::from(hdr.syssize) * 16;
    if have < want { Err(truncated(want)) } else { Ok(hdr) }
}

fn write_boot_params(job: &Job, mut hdr: setup_header, initrd: (u64, u64)) -> Result<(), LoadError> {
    hdr.type_of_loader = LOADER_UNDEFINED;
    // The heap is for the real-mode code, which does not run; the flag would promise a valid `heap_end_ptr`.
    hdr.loadflags &= !CAN_USE_HEAP;
    hdr.cmd_line_ptr = layout::CMDLINE as u32;
    hdr.ramdisk_image = initrd.0 as u32;
    hdr.ramdisk_size = initrd.1 as u32;
    let mut p = boot_params { hdr, ..Default::default() };
    if job.acpi {
        p.acpi_rsdp_addr = layout::ACPI;
    }
    for (slot, entry) in p.e820_table.iter_mut().zip(memory_map(job.ram, job.acpi)) {
        *slot = e820(entry);
        p.e820_entries += 1;
    }
    let boot = BootParams::new(&p, GuestAddress(layout::BOOT_PARAMS));
    LinuxBootConfigurator::write_bootparams(&boot, job.mem).map_err(|e| write_error(job.rom, e))
}

fn e820(e: MapEntry) -> boot_e820_entry {
    boot_e820_entry { addr: e.start, size: e.end - e.start, r#type: e.kind }
}
