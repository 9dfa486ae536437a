//! Modes of the CPU: set up by the VMM, and by a guest itself.

use crate::guest::{CODE, DATA, Guest, Machine, Outcome, equal, holds};
use crate::reason;
use abi::{ArchState, Mtd, Segment};

tests! {
    real: "real mode";
    protected: "protected mode without paging", "abi-32 abi-33 abi-34";
    paging32: "32-bit paging";
    paging_large: "32-bit paging with pages of 4 MiB";
    pae: "PAE paging", "abi-39 abi-78";
    four_levels: "long mode, 4 levels", "abi-40 abi-47";
    compatibility: "compatibility mode", "abi-14";
    by_itself: "a guest goes from real to long mode by itself", "abi-40 abi-47";
}

/// Tables: GDT, IDT, page tables, task-state segments.
const GDT: u64 = 0x9000;
const IDT: u64 = 0xa000;
const TABLES: u64 = 0x10000;
const TSS: u64 = 0xb000;
const SECOND_TSS: u64 = 0xb800;

/// Where paging modes have the data page besides.
pub const ALIAS: u64 = 0x20_0000;
/// An address, below 4 GiB, that no mode maps.
pub const UNMAPPED: u64 = 0x4000_0000;

const PE: u64 = 1;
const NE: u64 = 1 << 5;
const PG: u64 = 1 << 31;
const PSE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;

/// Selectors: null, code, data, 64-bit code, TSS, second TSS.
const DESCRIPTORS: [u64; 4] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00af_9b00_0000_ffff];
const CODE32: u16 = 0x08;
const DATA32: u16 = 0x10;
const CODE64: u16 = 0x18;

fn tss_descriptor(base: u64, busy: u64) -> u64 {
    0x67 | base << 16 | (0x89 | busy << 1) << 40
}

/// Protected mode, flat segments, no paging, tables in place.
pub fn flat(g: &mut Guest) {
    for (i, d) in DESCRIPTORS.iter().enumerate() {
        g.poke(GDT + 8 * i as u64, *d);
    }
    g.poke(GDT + 0x20, tss_descriptor(TSS, 1));
    g.poke(GDT + 0x28, tss_descriptor(SECOND_TSS, 0));
    let s = &mut g.s;
    s.cs = Segment { sel: CODE32, ar: 0xc9b, limit: !0, base: 0 };
    let data = Segment { sel: DATA32, ar: 0xc93, limit: !0, base: 0 };
    (s.ss, s.ds, s.es, s.fs, s.gs) = (data, data, data, data, data);
    s.tr = Segment { sel: 0x20, ar: 0x8b, limit: 0x67, base: TSS };
    s.ldtr = Segment { sel: 0, ar: 0x1000, limit: 0, base: 0 };
    s.gdtr = Segment { limit: 0x2f, base: GDT, ..Segment::default() };
    s.idtr = Segment { limit: 0xfff, base: IDT, ..Segment::default() };
    s.cr0 = PE | NE | 1 << 4;
    g.write(Mtd::CS_SS | Mtd::DS_ES | Mtd::FS_GS | Mtd::TR | Mtd::LDTR | Mtd::GDTR | Mtd::IDTR | Mtd::CR);
}

/// Paging on, tables as written.
fn paging(g: &mut Guest, cr4: u64) {
    flat(g);
    (g.s.cr0, g.s.cr3, g.s.cr4) = (PE | NE | 1 << 4 | PG, TABLES, cr4);
}

/// Long mode: identity for the RAM, the data page at [`ALIAS`] besides.
pub fn long(g: &mut Guest) {
    tables64(g);
    paging(g, PAE);
    g.s.cs = Segment { sel: CODE64, ar: 0xa9b, limit: !0, base: 0 };
    g.s.efer = LME | LMA;
    g.write(Mtd::EFER);
}

fn tables64(g: &mut Guest) {
    g.poke(TABLES, TABLES + 0x1003);
    g.poke(TABLES + 0x1000, TABLES + 0x2003);
    g.poke(TABLES + 0x2000, 0x83);
    g.poke(TABLES + 0x2008, TABLES + 0x3003);
    g.poke(TABLES + 0x3000, DATA | 3);
}

/// Another frame at [`ALIAS`] in long mode.
pub fn alias(g: &mut Guest, frame: u64) {
    g.poke(TABLES + 0x3000, frame | 3);
}

/// A gate for a vector in long mode: its handler.
pub fn gate64(g: &mut Guest, vector: u8, handler: u64) {
    let at = IDT + 16 * u64::from(vector);
    g.poke(at, handler & 0xffff | u64::from(CODE64) << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48);
    g.poke(at + 8, 0);
}

/// A gate in 32-bit mode.
pub fn gate32(g: &mut Guest, vector: u8, handler: u64) {
    let at = IDT + 8 * u64::from(vector);
    g.poke(at, handler & 0xffff | u64::from(CODE32) << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48);
}

/// Fills the second task-state segment: a task that runs `code`. Returns where that is.
pub fn second_task(g: &mut Guest, code: &[u8]) -> u64 {
    const PLACE: u64 = 0x2000;
    g.vm.write(PLACE, code);
    let mut tss = [0u32; 26];
    (tss[8], tss[9], tss[14]) = (PLACE as u32, 2, 0x7800);
    // ES, CS, SS, DS, FS, GS.
    tss[18..24].fill(DATA32.into());
    tss[19] = CODE32.into();
    let bytes: Vec<u8> = tss.iter().flat_map(|w| w.to_le_bytes()).collect();
    g.vm.write(SECOND_TSS, &bytes);
    PLACE
}

const SEEN: u32 = 0x5a17_c0de;

/// The guest reads the word at RBX into RAX and stops.
fn reads(g: &mut Guest, at: u64) -> Outcome {
    g.vm.write(DATA + 0x10, &SEEN.to_le_bytes());
    g.set_gpr(ArchState::RBX, at);
    g.until(reason::HLT)?;
    equal("word read", g.rax() as u32, SEEN)
}

fn real(m: &dyn Machine) -> Outcome {
    // DS 0x600: segments are selectors times 16.
    let mut g = Guest::new(m, code!(16: "mov ax, 0x600", "mov ds, ax", "mov eax, [bx]", "hlt"))?;
    reads(&mut g, 0x10)?;
    equal("DS", (g.s.ds.sel, g.s.ds.base), (0x600, DATA))?;
    equal("CR0.PE", g.s.cr0 & PE, 0)
}

fn protected(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov eax, [ebx]", "hlt"))?;
    flat(&mut g);
    reads(&mut g, DATA + 0x10)
}

fn paging32(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov eax, [ebx]", "hlt"))?;
    g.vm.write(TABLES, &(TABLES as u32 + 0x1003).to_le_bytes());
    for page in 0..64u32 {
        g.vm.write(TABLES + 0x1000 + 4 * u64::from(page), &(page << 12 | 3).to_le_bytes());
    }
    g.vm.write(TABLES + 0x1000 + 4 * (ALIAS >> 12), &(DATA as u32 | 3).to_le_bytes());
    paging(&mut g, 0);
    reads(&mut g, ALIAS + 0x10)
}

fn paging_large(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov eax, [ebx]", "hlt"))?;
    for i in 0..2 {
        g.vm.write(TABLES + 4 * i, &0x83u32.to_le_bytes());
    }
    paging(&mut g, PSE);
    reads(&mut g, (4 << 20) + DATA + 0x10)
}

fn pae(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov eax, [ebx]", "hlt"))?;
    g.poke(TABLES, TABLES + 0x2001);
    g.poke(TABLES + 0x2000, 0x83);
    g.poke(TABLES + 0x2008, TABLES + 0x3003);
    g.poke(TABLES + 0x3000, DATA | 3);
    paging(&mut g, PAE);
    g.s.pdpte = [TABLES + 0x2001, 0, 0, 0];
    g.write(Mtd::PDPTE);
    reads(&mut g, ALIAS + 0x10)
}

fn four_levels(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "mov r9d, [rbx]", "mov rax, 0x1234567800000000", "or rax, r9", "hlt"))?;
    long(&mut g);
    reads(&mut g, ALIAS + 0x10)?;
    equal("upper half of RAX", g.rax() >> 32, 0x1234_5678)?;
    equal("EFER", g.s.efer & 0xfff, LME | LMA)
}

fn compatibility(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov eax, [ebx]", "hlt"))?;
    long(&mut g);
    g.s.cs = Segment { sel: CODE32, ar: 0xc9b, limit: !0, base: 0 };
    reads(&mut g, ALIAS + 0x10)
}

fn by_itself(m: &dyn Machine) -> Outcome {
    const AT64: u64 = CODE + 0x200;
    let enter = code!(16:
        "lgdt [0x9800]",
        "mov eax, 0x20", "mov cr4, eax",
        "mov eax, 0x10000", "mov cr3, eax",
        "mov ecx, 0xc0000080", "rdmsr",
        "mov eax, cr0", "or eax, 0x80000001", "mov cr0, eax",
        // ljmp 0x18:0x1200
        ".byte 0x66, 0xea", ".long 0x1200", ".short 0x18",
    );
    let inside = code!(64: "mov eax, [rbx]", "mov r15, -1", "hlt");
    let mut g = Guest::new(m, enter)?;
    g.vm.write(AT64, inside);
    tables64(&mut g);
    for (i, d) in DESCRIPTORS.iter().enumerate() {
        g.poke(GDT + 8 * i as u64, *d);
    }
    g.poke(0x9800, 0x1f | GDT << 16);
    g.vm.write(DATA + 0x10, &SEEN.to_le_bytes());
    g.set_gpr(ArchState::RBX, ALIAS + 0x10);
    (g.s.cr0, g.s.cr4) = (0x30, 0);
    g.write(Mtd::CR);
    // Its own EFER is written where its VMM sees it: that is the answer to the read.
    g.until(reason::RDMSR)?;
    g.s.efer = LME;
    g.write(Mtd::EFER);
    g.skip(2)?;
    g.run()?;
    if g.event == reason::CR {
        // VT-x fixes some bits of CR0; the guest may change the others alone.
        g.s.cr0 = g.rax();
        g.write(Mtd::CR | Mtd::EFER);
        g.skip(3)?;
        g.run()?;
    }
    g.at(reason::HLT)?;
    equal("word read", g.rax() as u32, SEEN)?;
    equal("R15", g.s.gpr[15], !0)?;
    holds("EFER.LMA", g.s.efer & LMA != 0)
}
