//! Puts a bzImage, its initial RAM disk, command line and boot parameters into guest RAM (Linux: x86 boot protocol).
//!
//! The kernel is entered at its 64-bit entry point (protocol 2.12), with the state that [`crate::vcpu::initial`] sets
//! up. Key types: [`Images`], [`Boot`], [`LoadError`].

use std::io::Cursor;

use linux_loader::configurator::{BootConfigurator, BootParams, linux::LinuxBootConfigurator};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::{KernelLoader, bzimage::BzImage};
use thiserror::Error;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use crate::layout;

/// Offset of the setup header in a bzImage (boot protocol, "the real-mode kernel header").
const HEADER_OFFSET: usize = 0x1f1;
/// `header`: "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
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
/// e820 types (ACPI 15): RAM, reserved, ACPI tables.
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
const E820_ACPI: u32 = 3;

/// Why a guest's images are refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// There is no such ROM.
    #[error("{what} {rom:?}: this component has no ROM of that name; check `roms` in the system file")]
    Missing {
        /// "kernel" or "initrd".
        what: &'static str,
        /// Name of the ROM.
        rom: String,
    },
    /// The kernel is something else.
    #[error("kernel {rom:?}: not a bzImage: {found}")]
    NotBzImage {
        /// Name of the ROM.
        rom: String,
        /// What it is.
        found: String,
    },
    /// The kernel's file ends too early.
    #[error("kernel {rom:?}: truncated: its header says {want} bytes, there are {have}")]
    Truncated {
        /// Name of the ROM.
        rom: String,
        /// Bytes that the header asks for.
        want: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// The kernel has no 64-bit entry point.
    #[error(
        "kernel {rom:?}: boot protocol {:#x} without 64-bit entry point; a 64-bit kernel of Linux 3.8 or later is needed",
        version
    )]
    TooOld {
        /// Name of the ROM.
        rom: String,
        /// Its protocol version.
        version: u16,
    },
    /// The kernel does not fit.
    #[error("kernel {rom:?}: needs guest RAM up to {} MiB, the guest has {} MiB", need.div_ceil(1 << 20), ram >> 20)]
    KernelTooBig {
        /// Name of the ROM.
        rom: String,
        /// End of what the kernel needs to start, in bytes.
        need: u64,
        /// Guest RAM in bytes.
        ram: u64,
    },
    /// The initial RAM disk does not fit.
    #[error(
        "initrd {rom:?}: {len} bytes do not fit between the kernel's end at {} MiB and the top at {} MiB of guest RAM",
        from.div_ceil(1 << 20),
        to >> 20
    )]
    InitrdTooBig {
        /// Name of the ROM.
        rom: String,
        /// Its length in bytes.
        len: u64,
        /// End of the kernel.
        from: u64,
        /// Where the initial RAM disk has to end.
        to: u64,
    },
    /// The kernel accepts less.
    #[error("config: cmdline: {have} bytes, the kernel {rom:?} takes at most {most}")]
    CmdlineTooLong {
        /// Name of the ROM.
        rom: String,
        /// Length in bytes.
        have: usize,
        /// The kernel's limit in bytes.
        most: usize,
    },
    /// Guest RAM could not be written.
    #[error("kernel {rom:?}: cannot be written to guest RAM: {cause}")]
    Write {
        /// Name of the ROM.
        rom: String,
        /// The loader's or memory's message.
        cause: String,
    },
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
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Whether ACPI tables are at [`layout::ACPI`].
    pub acpi: bool,
}

/// Where the guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Guest-physical address of the 64-bit entry point.
    pub entry: u64,
    /// Guest-physical address of `struct boot_params`.
    pub boot_params: u64,
    /// Where the kernel was loaded.
    pub kernel: u64,
    /// Where the initial RAM disk is, and its length.
    pub initrd: (u64, u64),
}

/// Loads the images into `ram` bytes of guest memory.
pub fn load(mem: &GuestMemoryMmap, ram: u64, images: &Images) -> Result<Boot, LoadError> {
    let rom = images.kernel_rom;
    let kernel = images.kernel.ok_or_else(|| missing("kernel", rom))?;
    let mut hdr = check_header(rom, kernel)?;
    let most = (hdr.cmdline_size as usize).min(layout::CMDLINE_MAX - 1);
    if images.cmdline.len() > most {
        return Err(LoadError::CmdlineTooLong { rom: rom.into(), have: images.cmdline.len(), most });
    }
    let load = hdr.pref_address;
    let kernel_end = load.saturating_add(u64::from(hdr.init_size)).max(load.saturating_add(kernel.len() as u64));
    if load < layout::HIGH_RAM || kernel_end > ram {
        return Err(LoadError::KernelTooBig { rom: rom.into(), need: kernel_end, ram });
    }
    let initrd = place_initrd(&hdr, kernel_end, ram, images)?;

    BzImage::load(mem, Some(GuestAddress(load)), &mut Cursor::new(kernel), None).map_err(|e| write_error(rom, e))?;
    if let Some((_, Some(data))) = images.initrd {
        mem.write_slice(data, GuestAddress(initrd.0)).map_err(|e| write_error(rom, e))?;
    }
    write_cmdline(mem, images.cmdline).map_err(|e| write_error(rom, e))?;
    hdr.code32_start = load as u32;
    write_boot_params(mem, hdr, ram, initrd, images).map_err(|e| write_error(rom, e))?;
    Ok(Boot { entry: load + ENTRY_64, boot_params: layout::BOOT_PARAMS, kernel: load, initrd })
}

fn missing(what: &'static str, rom: &str) -> LoadError {
    LoadError::Missing { what, rom: rom.into() }
}

fn write_error(rom: &str, e: impl std::fmt::Display) -> LoadError {
    LoadError::Write { rom: rom.into(), cause: e.to_string() }
}

/// The setup header of a complete bzImage with a 64-bit entry point.
fn check_header(rom: &str, kernel: &[u8]) -> Result<setup_header, LoadError> {
    let mut hdr = setup_header::default();
    let bytes = hdr.as_mut_slice();
    let len = bytes.len();
    let not = |found: String| LoadError::NotBzImage { rom: rom.into(), found };
    let Some(file) = kernel.get(HEADER_OFFSET..HEADER_OFFSET + len) else { return Err(not(describe(kernel))) };
    bytes.copy_from_slice(file);
    if hdr.header != HEADER_MAGIC {
        return Err(not(describe(kernel)));
    }
    if hdr.loadflags & LOADED_HIGH == 0 {
        return Err(not("a zImage, which loads below 1 MiB".into()));
    }
    if hdr.version < VERSION_MIN || hdr.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(LoadError::TooOld { rom: rom.into(), version: hdr.version });
    }
    // The protocol: 0 means 4. `syssize` counts 16-byte paragraphs.
    let setup_sects = if hdr.setup_sects == 0 { 4 } else { u64::from(hdr.setup_sects) };
    let want = (setup_sects + 1) * 512 + u64::from(hdr.syssize) * 16;
    let have = kernel.len() as u64;
    if have < want { Err(LoadError::Truncated { rom: rom.into(), want, have }) } else { Ok(hdr) }
}

/// What a file that is not a bzImage looks like.
fn describe(file: &[u8]) -> String {
    match file {
        [] => "it is empty".into(),
        [0x7f, b'E', b'L', b'F', ..] => "it is an ELF file (vmlinux?)".into(),
        [0x1f, 0x8b, ..] => "it is gzip-compressed".into(),
        [b'M', b'Z', ..] => "it is a PE file without a Linux setup header".into(),
        [b'0', b'7', b'0', b'7', b'0', ..] => "it is a cpio archive (an initramfs?)".into(),
        _ if file.len() < HEADER_OFFSET => format!("only {} bytes, starting with {:02x?}", file.len(), head(file)),
        _ => format!("no setup header; it starts with {:02x?}", head(file)),
    }
}

fn head(file: &[u8]) -> &[u8] {
    &file[..file.len().min(8)]
}

/// Address and length of the initial RAM disk: as high as kernel and RAM allow.
fn place_initrd(hdr: &setup_header, kernel_end: u64, ram: u64, images: &Images) -> Result<(u64, u64), LoadError> {
    let Some((rom, data)) = images.initrd else { return Ok((0, 0)) };
    let len = data.ok_or_else(|| missing("initrd", rom))?.len() as u64;
    let top = ram.min(u64::from(hdr.initrd_addr_max) + 1).min(INITRD_END);
    match top.checked_sub(len).map(|a| a & !0xfff) {
        Some(addr) if addr >= kernel_end => Ok((addr, len)),
        _ => Err(LoadError::InitrdTooBig { rom: rom.into(), len, from: kernel_end, to: top }),
    }
}

fn write_cmdline(mem: &GuestMemoryMmap, text: &str) -> Result<(), vm_memory::GuestMemoryError> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    mem.write_slice(&bytes, GuestAddress(layout::CMDLINE))
}

fn write_boot_params(
    mem: &GuestMemoryMmap,
    mut hdr: setup_header,
    ram: u64,
    initrd: (u64, u64),
    images: &Images,
) -> Result<(), String> {
    hdr.type_of_loader = LOADER_UNDEFINED;
    // The heap is for the real-mode code, which does not run; the flag would promise a valid `heap_end_ptr`.
    hdr.loadflags &= !CAN_USE_HEAP;
    hdr.cmd_line_ptr = layout::CMDLINE as u32;
    hdr.ramdisk_image = initrd.0 as u32;
    hdr.ramdisk_size = initrd.1 as u32;
    let mut p = boot_params { hdr, ..Default::default() };
    if images.acpi {
        p.acpi_rsdp_addr = layout::ACPI;
    }
    for (slot, entry) in p.e820_table.iter_mut().zip(e820(ram, images.acpi)) {
        *slot = entry;
        p.e820_entries += 1;
    }
    let boot = BootParams::new(&p, GuestAddress(layout::BOOT_PARAMS));
    LinuxBootConfigurator::write_bootparams(&boot, mem).map_err(|e| e.to_string())?;
    write_bios_data(mem).map_err(|e| e.to_string())
}

/// BIOS data area: Linux takes the end of low memory from it (segment of the EBDA, KiB of base memory).
fn write_bios_data(mem: &GuestMemoryMmap) -> Result<(), vm_memory::GuestMemoryError> {
    mem.write_obj((layout::EBDA >> 4) as u16, GuestAddress(0x40e))?;
    mem.write_obj((layout::EBDA >> 10) as u16, GuestAddress(0x413))
}

/// The memory map.
fn e820(ram: u64, acpi: bool) -> [boot_e820_entry; 5] {
    let range = |addr: u64, end: u64, r#type: u32| boot_e820_entry { addr, size: end - addr, r#type };
    [
        range(0, layout::EBDA, E820_RAM),
        range(layout::EBDA, layout::LOW_RAM_END, E820_RESERVED),
        range(layout::ACPI, layout::ACPI_END, if acpi { E820_ACPI } else { E820_RESERVED }),
        range(layout::ACPI_END, layout::HIGH_RAM, E820_RESERVED),
        range(layout::HIGH_RAM, ram, E820_RAM),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;

    const RAM: u64 = 64 << 20;
    const PREF: u64 = 0x100_0000;

    /// A bzImage with a header that says what the tests need, and `payload` bytes of "kernel".
    fn bzimage(payload: usize, change: impl Fn(&mut setup_header)) -> Vec<u8> {
        let mut hdr = setup_header {
            setup_sects: 1,
            syssize: payload.div_ceil(16) as u32,
            header: HEADER_MAGIC,
            version: 0x20f,
            loadflags: LOADED_HIGH,
            code32_start: 0x10_0000,
            initrd_addr_max: 0x7fff_ffff,
            kernel_alignment: 0x20_0000,
            xloadflags: XLF_KERNEL_64,
            cmdline_size: 2047,
            pref_address: PREF,
            init_size: 0x10_0000,
            ..Default::default()
        };
        change(&mut hdr);
        let mut file = vec![0; 1024];
        file[HEADER_OFFSET..HEADER_OFFSET + hdr.as_slice().len()].copy_from_slice(hdr.as_slice());
        file.extend((0..payload.next_multiple_of(16)).map(|i| i as u8));
        file
    }

    fn images<'a>(kernel: &'a [u8]) -> Images<'a> {
        Images { kernel_rom: "k", kernel: Some(kernel), initrd: None, cmdline: "console=ttyS0", acpi: true }
    }

    fn refuse(images: &Images) -> String {
        load(&mem::allocate(RAM, RAM * 2).unwrap(), RAM, images).unwrap_err().to_string()
    }

    #[test]
    fn kernel_initrd_command_line_and_parameters_are_in_place() {
        let m = mem::allocate(RAM, RAM * 2).unwrap();
        let kernel = bzimage(4096, |_| ());
        let initrd = vec![0xa5; 10_000];
        let boot = load(&m, RAM, &Images { initrd: Some(("i", Some(&initrd))), ..images(&kernel) }).unwrap();
        assert_eq!((boot.entry, boot.kernel), (PREF + 0x200, PREF));
        assert_eq!(boot.initrd, ((RAM - 10_000) & !0xfff, 10_000));
        let mut head = [0u8; 4];
        m.read_slice(&mut head, GuestAddress(PREF + 0x10)).unwrap();
        assert_eq!(head, [0x10, 0x11, 0x12, 0x13]);
        assert_eq!(m.read_obj::<u8>(GuestAddress(boot.initrd.0 + 9_999)).unwrap(), 0xa5);
        let mut text = [0u8; 14];
        m.read_slice(&mut text, GuestAddress(layout::CMDLINE)).unwrap();
        assert_eq!(&text, b"console=ttyS0\0");
        let p: boot_params = m.read_obj(GuestAddress(boot.boot_params)).unwrap();
        assert_eq!({ p.hdr.ramdisk_image }, boot.initrd.0 as u32);
        assert_eq!({ p.hdr.ramdisk_size }, 10_000);
        assert_eq!({ p.hdr.cmd_line_ptr }, layout::CMDLINE as u32);
        assert_eq!((p.hdr.type_of_loader, { p.acpi_rsdp_addr }, p.e820_entries), (0xff, layout::ACPI, 5));
    }

    #[test]
    fn memory_map_is_sorted_and_without_overlap() {
        for acpi in [true, false] {
            let map = e820(RAM, acpi);
            for w in map.windows(2) {
                let (a, b) = (w[0], w[1]);
                assert!(a.addr + a.size <= b.addr);
            }
            let ram: u64 = map.iter().filter(|e| e.r#type == E820_RAM).map(|e| e.size).sum();
            assert_eq!(ram, layout::EBDA + RAM - layout::HIGH_RAM);
            assert_eq!(map.iter().any(|e| e.r#type == E820_ACPI), acpi);
        }
    }

    #[test]
    fn what_is_not_a_bzimage_is_described() {
        for (file, want) in [
            (&b""[..], "it is empty"),
            (b"\x7fELF\x02\x01", "it is an ELF file"),
            (b"070701000", "it is a cpio archive"),
            (b"\x1f\x8b\x08", "it is gzip-compressed"),
            (b"abc", "only 3 bytes, starting with [61, 62, 63]"),
            (&[0x90; 4096], "no setup header; it starts with [90, 90"),
        ] {
            let e = refuse(&images(file));
            assert!(e.starts_with("kernel \"k\": not a bzImage: ") && e.contains(want), "{e}");
        }
    }

    #[test]
    fn refusals_name_file_and_cause() {
        let good = bzimage(4096, |_| ());
        let cut = &good[..4000];
        let zimage = bzimage(16, |h| h.loadflags = 0);
        let old = bzimage(16, |h| h.version = 0x204);
        let only32 = bzimage(16, |h| h.xloadflags = 0);
        let large = bzimage(16, |h| h.init_size = 0x400_0000);
        let wild = bzimage(16, |h| h.pref_address = u64::MAX);
        let low = bzimage(16, |h| h.pref_address = 0x7000);
        for (kernel, want) in [
            (cut, "kernel \"k\": truncated: its header says 5120 bytes, there are 4000"),
            (&zimage, "kernel \"k\": not a bzImage: a zImage"),
            (&old, "kernel \"k\": boot protocol 0x204 without 64-bit entry"),
            (&only32, "kernel \"k\": boot protocol 0x20f without 64-bit entry"),
            (&large, "kernel \"k\": needs guest RAM up to 80 MiB, the guest has 64 MiB"),
            (&wild, "kernel \"k\": needs guest RAM up to"),
            (&low, "kernel \"k\": needs guest RAM up to"),
        ] {
            let e = refuse(&images(kernel));
            assert!(e.starts_with(want), "{e}");
        }
        let e = refuse(&Images { kernel: None, ..images(b"") });
        assert!(e.starts_with("kernel \"k\": this component has no ROM"), "{e}");
        let e = refuse(&Images { initrd: Some(("i", None)), ..images(&good) });
        assert!(e.starts_with("initrd \"i\": this component has no ROM"), "{e}");
        let big = vec![0; RAM as usize];
        let e = refuse(&Images { initrd: Some(("i", Some(&big))), ..images(&good) });
        assert_eq!(
            e,
            "initrd \"i\": 67108864 bytes do not fit between the kernel's end at 17 MiB and the top at 64 MiB of guest RAM"
        );
        let long = "x".repeat(2048);
        let e = refuse(&Images { cmdline: &long, ..images(&good) });
        assert_eq!(e, "config: cmdline: 2048 bytes, the kernel \"k\" takes at most 2047");
    }

    #[test]
    fn initrd_respects_the_kernels_limit() {
        let m = mem::allocate(RAM, RAM * 2).unwrap();
        let kernel = bzimage(16, |h| h.initrd_addr_max = 0x1ff_ffff);
        let boot = load(&m, RAM, &Images { initrd: Some(("i", Some(&[1; 4096]))), ..images(&kernel) }).unwrap();
        assert_eq!(boot.initrd.0, 0x1ff_f000);
    }
}
