//! Tests of the loader: images made here, loaded into guest RAM that is then looked at.

mod bzimage;
mod damage;
mod elf;
mod make;

use vm_memory::ByteValued;

use super::*;
use crate::mem;

const RAM: u64 = 64 << 20;

fn memory() -> GuestMemoryMmap {
    mem::alone(RAM as usize).unwrap()
}

fn images<'a>(kernel: &'a [u8]) -> Images<'a> {
    Images {
        kernel_rom: "k",
        kernel: Some(kernel),
        initrd: None,
        modules: &[],
        cmdline: "console=ttyS0",
        acpi: true,
        protocol: None,
    }
}

fn refuse(images: &Images) -> String {
    load(&memory(), RAM, images).unwrap_err().to_string()
}

/// The message says this about the kernel.
fn assert_refused(kernel: &[u8], protocol: Option<Protocol>, want: &str) {
    let e = refuse(&Images { protocol, ..images(kernel) });
    assert!(e.starts_with("kernel \"k\": ") && e.contains(want), "{e:?} lacks {want:?}");
}

fn read<T: ByteValued>(m: &GuestMemoryMmap, at: u64) -> T {
    m.read_obj(GuestAddress(at)).unwrap()
}

/// A text up to its NUL.
fn text(m: &GuestMemoryMmap, at: u64) -> String {
    (at..).map(|a| read::<u8>(m, a)).take_while(|b| *b != 0).map(char::from).collect()
}

#[test]
fn memory_map_is_sorted_and_without_overlap() {
    for acpi in [true, false] {
        let map = memory_map(RAM, acpi);
        assert!(map.iter().all(|e| e.start < e.end));
        assert!(map.windows(2).all(|w| w[0].end <= w[1].start));
        let ram: u64 = map.iter().filter(|e| e.kind == MAP_RAM).map(|e| e.end - e.start).sum();
        assert_eq!(ram, layout::EBDA + RAM - layout::HIGH_RAM);
        assert_eq!(map.iter().any(|e| e.kind == MAP_ACPI), acpi);
    }
}

#[test]
fn the_protocol_is_found_out_from_the_image() {
    let with_addresses = make::multiboot_flat(1 << 16, |_| ());
    for (file, want) in [
        (make::bzimage(16, |_| ()), Protocol::Bzimage),
        (make::pvh(), Protocol::Pvh),
        (make::multiboot_elf(0), Protocol::Multiboot),
        (with_addresses, Protocol::Multiboot),
    ] {
        assert_eq!(detect("k", &file), Ok(want));
    }
}

#[test]
fn what_is_no_kernel_is_described() {
    for (file, want) in [
        (&b""[..], "it is empty"),
        (b"070701000", "it is a cpio archive"),
        (b"\x1f\x8b\x08", "it is gzip-compressed"),
        (b"abc", "only 3 bytes, starting with [61, 62, 63]"),
        (&[0x90; 4096], "no setup header; it starts with [90, 90"),
    ] {
        assert_refused(file, None, &format!("neither a bzImage, nor an ELF kernel, nor a Multiboot kernel: {want}"));
    }
}

#[test]
fn a_protocol_can_be_demanded() {
    let (bz, pvh, mb) = (make::bzimage(16, |_| ()), make::pvh(), make::multiboot_elf(0));
    for (file, protocol, want) in [
        (&pvh, Protocol::Bzimage, "not a bzImage: it is an ELF file"),
        (&bz, Protocol::Pvh, "cannot be started by PVH: it is a bzImage"),
        (&mb, Protocol::Pvh, "cannot be started by PVH: an ELF file without the note"),
        (&pvh, Protocol::Multiboot, "cannot be started by Multiboot: no Multiboot header in its first 8192 bytes"),
    ] {
        assert_refused(file, Some(protocol), want);
    }
}

#[test]
fn missing_roms_and_large_ones() {
    let e = refuse(&Images { kernel: None, ..images(b"") });
    assert!(e.starts_with("kernel \"k\": this component has no ROM"), "{e}");
    let big = vec![0; RAM as usize];
    for kernel in [make::bzimage(16, |_| ()), make::pvh(), make::multiboot_elf(0)] {
        let e = refuse(&Images { initrd: Some(("i", None)), ..images(&kernel) });
        assert!(e.starts_with("initrd \"i\": this component has no ROM"), "{e}");
        let e = refuse(&Images { initrd: Some(("i", Some(&big))), ..images(&kernel) });
        assert!(e.starts_with("initrd \"i\": 67108864 bytes do not fit between the kernel's end at "), "{e}");
    }
}

#[test]
fn flat_code_starts_where_a_boot_sector_does() {
    let m = memory();
    let code = [0xf4; 1000];
    let flat = Images { protocol: Some(Protocol::Flat), cmdline: "", ..images(&code) };
    let boot = load(&m, RAM, &flat).unwrap();
    assert_eq!((boot.start, boot.kernel), (Start::Real { cs: 0, ip: 0x7c00 }, 0x7c00));
    assert_eq!((read::<u8>(&m, 0x7c00 + 999), read::<u8>(&m, 0x7c00 + 1000)), (0xf4, 0));
    assert_eq!(read::<u16>(&m, 0x413), 639);
    let e = refuse(&Images { cmdline: "x", ..flat });
    assert_eq!(e, "config: cmdline: the kernel \"k\" is started as flat code, which takes none");
    assert!(refuse(&Images { initrd: Some(("i", Some(&[]))), ..flat }).starts_with("config: initrd: "));
    assert!(refuse(&Images { kernel: Some(&[0; 0x9_8001]), ..flat }).contains("0x7c00 to 0x9fc01 is not in guest RAM"));
    assert!(refuse(&Images { kernel: Some(&[]), ..flat }).contains("entry point 0x7c00 is in no part"));
}
