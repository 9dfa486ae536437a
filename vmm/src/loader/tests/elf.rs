//! Multiboot and PVH.

use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};

use super::make::{self, BSS, CODE, ENTRY, LINKED, LOAD, NOTE, NOTE_PHDR, OFFSET, put};
use super::*;

/// A changed field of a good file, and the refusal.
type Case = (usize, usize, u64, &'static str);

fn assert_each_refused(good: &[u8], cases: &[Case]) {
    load(&memory(), RAM, &images(good)).unwrap();
    for (at, len, value, want) in cases {
        let mut bad = good.to_vec();
        put(&mut bad, *at, *len, *value);
        assert_refused(&bad, None, want);
    }
}

fn words<const N: usize>(m: &GuestMemoryMmap, at: u64) -> [u32; N] {
    std::array::from_fn(|i| read(m, at + 4 * i as u64))
}

#[test]
fn a_multiboot_kernel_gets_its_information() {
    let m = memory();
    let kernel = make::multiboot_elf(0b11);
    let boot = load(&m, RAM, &Images { initrd: Some(("disk", Some(&[7; 5000]))), ..images(&kernel) }).unwrap();
    let Start::Protected { eip, eax: 0x2bad_b002, ebx } = boot.start else { panic!("{boot:?}") };
    assert_eq!((eip, boot.kernel), (LOAD + ENTRY, LOAD.into()));
    assert_eq!(words(&m, LOAD.into()), [0x1bad_b002]);
    // The module is on the first page behind the kernel.
    let module = LOAD + CODE as u32 + BSS;
    assert_eq!(boot.initrd, (module.into(), 5000));
    assert_eq!((read::<u8>(&m, u64::from(module) + 4999), read::<u8>(&m, u64::from(module) + 5000)), (7, 0));

    let [flags, lower, upper, _, cmdline, mods, mods_addr] = words(&m, ebx.into());
    assert_eq!((flags, lower, upper), (0x24d, 639, 63 << 10));
    assert_eq!(text(&m, cmdline.into()), "k console=ttyS0");
    assert_eq!(mods, 1);
    let [start, end, string, 0] = words(&m, mods_addr.into()) else { panic!() };
    assert_eq!((start, end, text(&m, string.into())), (module, module + 5000, "disk".into()));
    let [length, at] = words(&m, u64::from(ebx) + 44);
    let entries: Vec<[u32; 6]> = (0..length / 24).map(|i| words(&m, u64::from(at + 24 * i))).collect();
    assert_eq!((length, entries[0]), (5 * 24, [20, 0, 0, layout::EBDA as u32, 0, 1]));
    assert_eq!(entries[4], [20, 1 << 20, 0, (RAM - (1 << 20)) as u32, 0, 1]);
    let [name] = words(&m, u64::from(ebx) + 64);
    assert_eq!(text(&m, name.into()), "Ferronova");
}

#[test]
fn modules_follow_the_initrd() {
    let m = memory();
    let kernel = make::multiboot_elf(0);
    let modules: [(&str, Option<&[u8]>); 2] = [("a x=1", Some(&[1; 10])), ("b", Some(&[2; 4096]))];
    let with = Images { initrd: Some(("disk", Some(&[7; 5000]))), modules: &modules, cmdline: "", ..images(&kernel) };
    load(&m, RAM, &with).unwrap();
    let [cmdline, 3, at] = words(&m, 0x7000 + 16) else { panic!() };
    assert_eq!(text(&m, cmdline.into()), "k");
    let first = LOAD + CODE as u32 + BSS;
    let want = [(first, 5000, "disk", 7), (first + 0x2000, 10, "a x=1", 1), (first + 0x3000, 4096, "b", 2)];
    for (i, (start, len, name, byte)) in want.into_iter().enumerate() {
        let [s, e, string] = words(&m, u64::from(at) + 16 * i as u64);
        assert_eq!((s, e, text(&m, string.into()).as_str()), (start, start + len, name));
        assert_eq!(read::<u8>(&m, u64::from(e) - 1), byte);
    }
    // Without initrd they are the only ones.
    load(&m, RAM, &Images { initrd: None, ..with }).unwrap();
    assert_eq!(words(&m, 0x7000 + 20), [2]);
}

#[test]
fn modules_that_cannot_be_are_refused() {
    let (kernel, big) = (make::multiboot_elf(0), vec![0; RAM as usize]);
    let refused = |modules: &[(&str, Option<&[u8]>)]| refuse(&Images { modules, ..images(&kernel) });
    assert!(refused(&[("a b=c", None)]).starts_with("module \"a\": this component has no ROM of that name"));
    assert!(refused(&[("a", Some(&[])), ("b", Some(&big))]).starts_with("module \"b\": 67108864 bytes do not fit"));
    let many = vec![("a", Some(&[0][..])); 65];
    assert_eq!(refused(&many), "config: modules: 65 for the kernel \"k\", at most 64 are possible");
    let linux = make::bzimage(16, |_| ());
    let long = "x".repeat(layout::CMDLINE_MAX);
    let e = refused(&[(&long, Some(&[0]))]);
    assert_eq!(e, "config: modules: texts of 65547 bytes, the kernel \"k\" can be given at most 65533");
    let e = refuse(&Images { modules: &many[..1], ..images(&linux) });
    assert_eq!(e, "config: modules: the kernel \"k\" is not started by Multiboot; others take an initrd at most");
}

#[test]
fn without_initrd_there_is_no_module() {
    let m = memory();
    load(&m, RAM, &images(&make::multiboot_elf(0))).unwrap();
    assert_eq!(words(&m, 0x7000 + 20), [0]);
}

#[test]
fn address_fields_say_where_to_load() {
    let m = memory();
    // The header 32 bytes into what is loaded, which is 16 bytes into the file, as in an ELF file.
    let file = [vec![0xcc; 16], vec![0xdd; 32], make::multiboot_flat(1 << 16, |f| f[0] = LOAD + 32)].concat();
    let boot = load(&m, RAM, &images(&file)).unwrap();
    let Start::Protected { eip, .. } = boot.start else { panic!() };
    assert_eq!((eip, boot.kernel), (LOAD + ENTRY, LOAD.into()));
    assert_eq!(words(&m, LOAD.into()), [0xdddd_dddd]);
    assert_eq!(words(&m, u64::from(LOAD) + 32), [0x1bad_b002]);
    // Only up to load_end_addr; 0 means to the end.
    assert_eq!(words(&m, u64::from(LOAD) + CODE as u64), [0]);
    let file = make::multiboot_flat(1 << 16, |f| (f[2], f[3]) = (0, 0));
    load(&m, RAM, &images(&[file, vec![0xee; 8]].concat())).unwrap();
    assert_eq!(words(&m, u64::from(LOAD) + CODE as u64), [0xeeee_eeee; 2]);
}

#[test]
fn a_64_bit_file_needs_address_fields_for_multiboot() {
    let mut file = make::pvh();
    file[OFFSET..OFFSET + 12].copy_from_slice(&make::header(0));
    assert_eq!(detect("k", &file), Ok(Protocol::Pvh));
    assert_refused(&file, Some(Protocol::Multiboot), "a 64-bit ELF file; it must be a 32-bit one");
}

#[test]
fn defects_of_a_multiboot_header_are_named() {
    for (change, want) in [
        ((0, LOAD + 1), "its header is at 0x0, but its address fields say: 0x200001 - 0x200000"),
        ((0, LOAD - 1), "but its address fields say: 0x1fffff - 0x200000"),
        ((2, LOAD - 1), "its load_end_addr is below its load_addr"),
        ((2, LOAD + CODE as u32 + 1), "its address fields say 4097 bytes, there are 4096"),
        ((3, RAM as u32 + 1), "0x200000 to 0x4000001 is not in guest RAM, which is up to 0x9fc00 and from 0x100000 to"),
        ((4, LOAD - 1), "its entry point 0x1fffff is in no part"),
    ] {
        let (field, value): (usize, u32) = change;
        assert_refused(&make::multiboot_flat(1 << 16, |f| f[field] = value), None, want);
    }
    assert_refused(&make::multiboot_elf(1 << 5), None, "its header demands what is not known here: flags 0x20");
    let mut wrong_sum = make::multiboot_elf(0);
    wrong_sum[OFFSET + 8] ^= 1;
    assert_refused(&wrong_sum, Some(Protocol::Multiboot), "no Multiboot header");
    assert_refused(&make::header(0), None, "cannot be started by Multiboot: only 12 bytes");
    // Cut off within the address fields.
    assert_refused(&make::multiboot_flat(1 << 16, |_| ())[..24], None, "cannot be started by Multiboot: only 24 bytes");
}

#[test]
fn defects_of_elf_files_are_named() {
    assert_each_refused(
        &make::multiboot_elf(0),
        &[
            (0x18, 4, (LINKED - 1).into(), "its entry point 0xbfffffff is in no part"),
            (0x38, 4, 0x200, "truncated: its header says 4608 bytes, there are 4352"),
            (0x40, 4, 0x9_f000, "0x9f000 to 0xa3000 is not in guest RAM"),
            (0x40, 4, 0xf_f000, "is not in guest RAM"),
            (0x40, 4, 0xffff_f000, "0xfffff000 to 0x100003000 is not in guest RAM"),
            (0x40, 4, 0x500, "overlaps the BIOS data and GDT"),
            (0x40, 4, 0x6000, "its part at 0x6000 to 0xa000 overlaps the Multiboot information at 0x7000 to 0x7100"),
            (0x40, 4, 0x2_0000, "overlaps the command line at 0x20000 to 0x2001a"),
            (0x48, 4, RAM, "is not in guest RAM"),
        ],
    );
    // A damaged ELF header makes it a file that Multiboot does not take, whatever its Multiboot header says.
    for (at, len, value, want) in [
        (0x12, 2, 40, "a 32-bit ELF file for machine 40, not x86 (3)"),
        (0x05, 1, 2, "its ELF headers are damaged: big-endian"),
        (0x1c, 4, 0x10_0000, "its ELF headers are damaged: they say something is at 0x100000 to 0x100020"),
        (0x2a, 2, 3, "its ELF headers are damaged: "),
        (0x04, 1, 9, "its ELF headers are damaged: "),
    ] {
        let mut bad = make::multiboot_elf(0);
        put(&mut bad, at, len, value);
        assert_refused(&bad, None, want);
        assert_refused(&bad, Some(Protocol::Multiboot), want);
    }
}

#[test]
fn a_pvh_kernel_gets_its_start_information() {
    let m = memory();
    let kernel = make::pvh();
    let boot = load(&m, RAM, &Images { initrd: Some(("i", Some(&[9; 4097]))), ..images(&kernel) }).unwrap();
    assert_eq!(boot.start, Start::Protected { eip: LOAD + ENTRY, eax: 0, ebx: 0x7000 });
    assert_eq!((boot.kernel, boot.initrd), (LOAD.into(), (RAM - 0x2000, 4097)));
    assert_eq!(read::<u8>(&m, RAM - 0x2000 + 4096), 9);
    let info: hvm_start_info = read(&m, 0x7000);
    assert_eq!((info.magic, info.version, info.rsdp_paddr), (0x336e_c578, 1, layout::ACPI));
    assert_eq!(text(&m, info.cmdline_paddr), "console=ttyS0");
    let module: hvm_modlist_entry = read(&m, info.modlist_paddr);
    assert_eq!((info.nr_modules, module.paddr, module.size), (1, boot.initrd.0, 4097));
    let last: hvm_memmap_table_entry = read(&m, info.memmap_paddr + 24 * u64::from(info.memmap_entries - 1));
    assert_eq!((info.memmap_entries, last.addr, last.size, last.type_), (5, 1 << 20, RAM - (1 << 20), MAP_RAM));
}

#[test]
fn without_acpi_and_initrd_pvh_names_neither() {
    let m = memory();
    load(&m, RAM, &Images { acpi: false, ..images(&make::pvh()) }).unwrap();
    let info: hvm_start_info = read(&m, 0x7000);
    assert_eq!((info.rsdp_paddr, info.nr_modules, info.modlist_paddr), (0, 0, 0));
}

#[test]
fn defects_of_pvh_kernels_are_named() {
    assert_each_refused(
        &make::pvh(),
        &[
            (NOTE + 0x1c, 4, 17, "without the note XEN_ELFNOTE_PHYS32_ENTRY"),
            (NOTE + 0x20, 1, b'x'.into(), "without the note XEN_ELFNOTE_PHYS32_ENTRY"),
            (NOTE + 0x18, 4, 2, "its note XEN_ELFNOTE_PHYS32_ENTRY holds no 32-bit address: [40, 00]"),
            (NOTE + 0x28, 4, 1, "holds no 32-bit address"),
            (NOTE + 0x24, 8, 0x40, "its entry point 0x40 is in no part"),
            (NOTE_PHDR + 8, 8, 1 << 40, "its notes cannot be read"),
            (0x12, 2, 183, "a 64-bit ELF file for machine 183, not x86-64 (62)"),
            (0x48, 8, u64::MAX, "truncated: its header says 18446744073709551615 bytes"),
            (0x58, 8, u64::MAX, "0xffffffffffffffff to 0xffffffffffffffff is not in guest RAM"),
            (0x58, 8, 0x7000, "overlaps the PVH start information"),
            (0x68, 8, u64::MAX, "is not in guest RAM"),
        ],
    );
    assert_refused(&make::pvh()[..0x60], None, "its ELF headers are damaged");
}

#[test]
fn long_command_lines_are_refused_before_they_do_not_fit() {
    let long = "x".repeat(layout::CMDLINE_MAX - 1);
    load(&memory(), RAM, &Images { cmdline: &long, ..images(&make::pvh()) }).unwrap();
    let e = refuse(&Images { cmdline: &long, ..images(&make::multiboot_elf(0)) });
    assert_eq!(e, "config: cmdline: 65535 bytes, the kernel \"k\" takes at most 65523");
}
