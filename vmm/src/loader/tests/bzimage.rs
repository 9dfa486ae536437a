//! bzImages.

use linux_loader::loader::bootparam::boot_params;

use super::make::{PREF, bzimage};
use super::*;

#[test]
fn kernel_initrd_command_line_and_parameters_are_in_place() {
    let m = memory();
    let kernel = bzimage(4096, |_| ());
    let initrd = vec![0xa5; 10_000];
    let boot = load(&m, RAM, &Images { initrd: Some(("i", Some(&initrd))), ..images(&kernel) }).unwrap();
    assert_eq!((boot.start, boot.kernel), (Start::Long { rip: PREF + 0x200, boot_params: 0x7000 }, PREF));
    assert_eq!(boot.initrd, ((RAM - 10_000) & !0xfff, 10_000));
    assert_eq!(read::<u32>(&m, PREF + 0x10).to_le_bytes(), [0x10, 0x11, 0x12, 0x13]);
    assert_eq!(read::<u8>(&m, boot.initrd.0 + 9_999), 0xa5);
    assert_eq!(text(&m, layout::CMDLINE), "console=ttyS0");
    let p: boot_params = read(&m, 0x7000);
    assert_eq!({ p.hdr.ramdisk_image }, boot.initrd.0 as u32);
    assert_eq!({ p.hdr.ramdisk_size }, 10_000);
    assert_eq!({ p.hdr.cmd_line_ptr }, layout::CMDLINE as u32);
    assert_eq!((p.hdr.type_of_loader, { p.acpi_rsdp_addr }, p.e820_entries), (0xff, layout::ACPI, 5));
    assert_eq!(({ p.e820_table[4].addr }, { p.e820_table[4].size }), (1 << 20, RAM - (1 << 20)));
}

#[test]
fn refusals_name_file_and_cause() {
    let good = bzimage(4096, |_| ());
    for (kernel, want) in [
        (good[..4000].to_vec(), "truncated: its header says 5120 bytes, there are 4000"),
        (bzimage(16, |h| h.loadflags = 0), "not a bzImage: a zImage"),
        (bzimage(16, |h| h.version = 0x204), "boot protocol 0x204 without 64-bit entry"),
        (bzimage(16, |h| h.xloadflags = 0), "boot protocol 0x20f without 64-bit entry"),
        (bzimage(16, |h| h.init_size = 0x400_0000), "needs guest RAM up to 80 MiB, the guest has 64 MiB"),
        (bzimage(16, |h| h.pref_address = u64::MAX), "needs guest RAM up to"),
        (bzimage(16, |h| h.pref_address = 0x7000), "needs guest RAM up to"),
    ] {
        assert_refused(&kernel, None, want);
    }
    assert_refused(&good[..600], None, "truncated: its header says");
    let big = vec![0; RAM as usize];
    let e = refuse(&Images { initrd: Some(("i", Some(&big))), ..images(&good) });
    assert!(e.ends_with("between the kernel's end at 17 MiB and the top at 64 MiB of guest RAM"), "{e}");
    let long = "x".repeat(2048);
    let e = refuse(&Images { cmdline: &long, ..images(&good) });
    assert_eq!(e, "config: cmdline: 2048 bytes, the kernel \"k\" takes at most 2047");
}

#[test]
fn initrd_respects_the_kernels_limit() {
    let kernel = bzimage(16, |h| h.initrd_addr_max = 0x1ff_ffff);
    let boot = load(&memory(), RAM, &Images { initrd: Some(("i", Some(&[1; 4096]))), ..images(&kernel) }).unwrap();
    assert_eq!(boot.initrd.0, 0x1ff_f000);
}
