//! Kernels for the tests.

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

pub const PREF: u64 = 0x100_0000;
/// Where the ELF kernels are, physically, and how much higher they are linked.
pub const LOAD: u32 = 0x20_0000;
pub const LINKED: u32 = 0xc000_0000;
/// Bytes of code, and of zeros behind them.
pub const CODE: usize = 0x1000;
pub const BSS: u32 = 0x3000;
/// Entry of the Multiboot kernels, relative to LOAD.
pub const ENTRY: u32 = 0x40;
/// Where the code is in the ELF files.
pub const OFFSET: usize = 0x100;

/// A bzImage with a header that says what the tests need, and `payload` bytes of "kernel".
pub fn bzimage(payload: usize, change: impl Fn(&mut setup_header)) -> Vec<u8> {
    let mut hdr = setup_header {
        setup_sects: 1,
        syssize: payload.div_ceil(16) as u32,
        header: 0x5372_6448,
        version: 0x20f,
        loadflags: 1,
        code32_start: 0x10_0000,
        initrd_addr_max: 0x7fff_ffff,
        kernel_alignment: 0x20_0000,
        xloadflags: 1,
        cmdline_size: 2047,
        pref_address: PREF,
        init_size: 0x10_0000,
        ..Default::default()
    };
    change(&mut hdr);
    let mut file = vec![0; 1024];
    file[0x1f1..0x1f1 + hdr.as_slice().len()].copy_from_slice(hdr.as_slice());
    file.extend((0..payload.next_multiple_of(16)).map(|i| i as u8));
    file
}

/// Writes a little-endian number of so many bytes.
pub fn put(file: &mut [u8], at: usize, len: usize, value: u64) {
    file[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
}

fn code() -> Vec<u8> {
    (0..CODE).map(|i| (i % 251) as u8 | 1).collect()
}

/// A Multiboot header.
pub fn header(flags: u32) -> Vec<u8> {
    let magic = 0x1bad_b002_u32;
    [magic, flags, 0u32.wrapping_sub(magic).wrapping_sub(flags)].iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// A 32-bit ELF file with a Multiboot header at the start of its code, linked at [`LINKED`], loaded at [`LOAD`].
pub fn multiboot_elf(flags: u32) -> Vec<u8> {
    let mut f = vec![0; OFFSET];
    f[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    let (entry, vaddr) = ((LINKED + ENTRY).into(), LINKED.into());
    for (at, len, value) in [
        (0x10, 2, 2),     // e_type: ET_EXEC
        (0x12, 2, 3),     // e_machine: EM_386
        (0x14, 4, 1),     // e_version
        (0x18, 4, entry), // e_entry
        (0x1c, 4, 0x34),  // e_phoff
        (0x28, 2, 0x34),  // e_ehsize
        (0x2a, 2, 0x20),  // e_phentsize
        (0x2c, 2, 1),     // e_phnum
        (0x34, 4, 1),     // p_type: PT_LOAD
        (0x38, 4, OFFSET as u64),
        (0x3c, 4, vaddr),
        (0x40, 4, LOAD.into()),
        (0x44, 4, CODE as u64),
        (0x48, 4, CODE as u64 + u64::from(BSS)),
        (0x4c, 4, 5), // p_flags
        (0x50, 4, 0x1000),
    ] {
        put(&mut f, at, len, value);
    }
    f.extend(code());
    f[OFFSET..OFFSET + 12].copy_from_slice(&header(flags));
    f
}

/// The same code without ELF: addresses in the header. Fields: header, load, load end, bss end, entry.
pub fn multiboot_flat(flags: u32, change: impl Fn(&mut [u32; 5])) -> Vec<u8> {
    let mut fields = [LOAD, LOAD, LOAD + CODE as u32, LOAD + CODE as u32 + BSS, LOAD + ENTRY];
    change(&mut fields);
    let mut f = code();
    f[..12].copy_from_slice(&header(flags));
    for (i, field) in fields.iter().enumerate() {
        put(&mut f, 12 + 4 * i, 4, (*field).into());
    }
    f
}

/// Offsets in [`pvh`]: the note, and its program header.
pub const NOTE: usize = 0xb0;
pub const NOTE_PHDR: usize = 0x78;

/// A 64-bit ELF file with two notes, the second of which is that of PVH.
pub fn pvh() -> Vec<u8> {
    let mut f = vec![0; OFFSET];
    f[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let load = u64::from(LOAD);
    for (at, len, value) in [
        (0x10, 2, 2),    // e_type
        (0x12, 2, 62),   // e_machine: EM_X86_64
        (0x14, 4, 1),    // e_version
        (0x18, 8, load), // e_entry
        (0x20, 8, 0x40), // e_phoff
        (0x34, 2, 0x40), // e_ehsize
        (0x36, 2, 0x38), // e_phentsize
        (0x38, 2, 2),    // e_phnum
        (0x40, 4, 1),    // PT_LOAD
        (0x48, 8, OFFSET as u64),
        (0x50, 8, 0xffff_ffff_8020_0000),
        (0x58, 8, load),
        (0x60, 8, CODE as u64),
        (0x68, 8, CODE as u64 + u64::from(BSS)),
        (NOTE_PHDR, 4, 4), // PT_NOTE
        (NOTE_PHDR + 8, 8, NOTE as u64),
        (NOTE_PHDR + 0x20, 8, 0x30), // p_filesz
        (NOTE_PHDR + 0x30, 8, 4),    // p_align
        (NOTE, 4, 4),
        (NOTE + 4, 4, 4),
        (NOTE + 8, 4, 6),
        (NOTE + 0x14, 4, 4), // n_namesz
        (NOTE + 0x18, 4, 8), // n_descsz
        (NOTE + 0x1c, 4, 18),
        (NOTE + 0x24, 8, load + u64::from(ENTRY)),
    ] {
        put(&mut f, at, len, value);
    }
    f[NOTE + 12..NOTE + 15].copy_from_slice(b"Xen");
    f[NOTE + 0x20..NOTE + 0x23].copy_from_slice(b"Xen");
    f.extend(code());
    f
}
