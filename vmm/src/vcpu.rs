//! State of a vCPU at its start: of the first one by [`Start`], of the others after a start-up IPI.
//!
//! In all of them interrupts are off. In 32-bit and 64-bit mode CS = 0x10 and DS = 0x18 are flat; in 64-bit mode paging
//! is on with the first 4 GiB mapped one to one. [`prepare`] writes the tables that this needs into guest RAM.

use abi::{ArchState, Mtd, Segment};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::layout;
use crate::spec::bits::*;

/// In which mode a guest starts, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// 64-bit mode: Linux' 64-bit boot protocol.
    Long {
        /// Entry point.
        rip: u64,
        /// RSI: address of `struct boot_params`.
        boot_params: u64,
    },
    /// 32-bit protected mode without paging: PVH and Multiboot.
    Protected {
        /// Entry point.
        eip: u32,
        /// What the protocol wants in EAX.
        eax: u32,
        /// Address of the information for the guest.
        ebx: u32,
    },
    /// Real mode, as a BIOS enters a boot sector.
    Real {
        /// Code segment.
        cs: u16,
        /// Entry point in it.
        ip: u16,
    },
}

/// Code segment: 64-bit, execute/read, accessed.
const CODE64: u64 = 0x00af_9b00_0000_ffff;
/// The same for 32 bits.
const CODE32: u64 = 0x00cf_9b00_0000_ffff;
/// Data segment: read/write, accessed.
const DATA: u64 = 0x00cf_9300_0000_ffff;
/// Size of the GDT in bytes.
pub const GDT_LEN: u64 = 32;
const SEL_CODE: u16 = 0x10;
const SEL_DATA: u16 = 0x18;
/// Access rights of the same segments in the UTCB's format.
const AR_CODE64: u16 = 0xa9b;
const AR_CODE32: u16 = 0xc9b;
const AR_DATA: u16 = 0xc93;
/// In real mode: 16-bit, 64 KiB.
const AR_REAL: u16 = 0x93;
/// Busy TSS, 32-bit or 64-bit by the mode; VM entry requires one.
const AR_TSS: u16 = 0x8b;
/// Page-table entry: present, writable, accessed; page directory entry of a 2 MiB page: also dirty and PS.
const PTE_TABLE: u64 = 0x23;
const PTE_2M: u64 = 0xe3;
/// Page directories, 1 GiB each.
const DIRECTORIES: u64 = 4;
/// IA32_PAT after reset (SDM volume 3, 12.12.4).
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// DR7 after reset.
const DR7_RESET: u64 = 0x400;

/// State that [`initial`] sets. Translations of the guest before are to be gone too: also INIT flushes the TLBs.
pub const STARTUP: Mtd =
    Mtd::GUEST_STATE.difference(Mtd::QUAL.union(Mtd::PDPTE)).union(Mtd::CTRL).union(Mtd::SPACES).union(Mtd::TLB);

/// State that INIT sets; XCR0 and MSRs other than EFER keep their values (SDM volume 3, table 10-1).
pub const INIT: Mtd = STARTUP.difference(
    Mtd::XSAVE
        .union(Mtd::SYSCALL)
        .union(Mtd::SYSENTER)
        .union(Mtd::PAT)
        .union(Mtd::KERNEL_GS)
        .union(Mtd::TSC)
        .union(Mtd::SPACES),
);

/// Writes GDT and page tables, as far as the start needs them.
pub fn prepare(mem: &GuestMemoryMmap, start: &Start) -> Result<(), GuestMemoryError> {
    match start {
        Start::Long { .. } => {
            write_words(mem, layout::GDT, [0, 0, CODE64, DATA].into_iter())?;
            write_page_tables(mem)
        }
        Start::Protected { .. } => write_words(mem, layout::GDT, [0, 0, CODE32, DATA].into_iter()),
        Start::Real { .. } => Ok(()),
    }
}

fn write_page_tables(mem: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    let table = |n: u64| layout::PAGE_TABLES + n * 0x1000;
    write_words(mem, table(0), [table(1) | PTE_TABLE].into_iter())?;
    write_words(mem, table(1), (0..DIRECTORIES).map(|n| table(2 + n) | PTE_TABLE))?;
    write_words(mem, table(2), (0..DIRECTORIES * 512).map(|n| n << 21 | PTE_2M))
}

fn write_words(mem: &GuestMemoryMmap, at: u64, words: impl Iterator<Item = u64>) -> Result<(), GuestMemoryError> {
    for (i, w) in words.enumerate() {
        mem.write_obj(w, GuestAddress(at + 8 * i as u64))?;
    }
    Ok(())
}

/// State at the guest's entry, without the selectors of the spaces.
pub fn initial(start: &Start) -> ArchState {
    match *start {
        Start::Long { rip, boot_params } => long(rip, boot_params),
        Start::Protected { eip, eax, ebx } => protected(eip, eax, ebx),
        Start::Real { cs, ip } => real(cs, ip),
    }
}

fn long(rip: u64, boot_params: u64) -> ArchState {
    let mut s = ArchState {
        rip,
        cr0: CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG,
        cr3: layout::PAGE_TABLES,
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA,
        ..flat(AR_CODE64)
    };
    s.gpr[ArchState::RSI] = boot_params;
    s
}

fn protected(eip: u32, eax: u32, ebx: u32) -> ArchState {
    let mut s = ArchState { rip: eip.into(), cr0: CR0_PE | CR0_ET, ..flat(AR_CODE32) };
    s.gpr[ArchState::RAX] = eax.into();
    s.gpr[ArchState::RBX] = ebx.into();
    s
}

fn real(cs: u16, ip: u16) -> ArchState {
    let data = Segment { sel: 0, ar: AR_REAL, limit: 0xffff, base: 0 };
    ArchState {
        rip: ip.into(),
        cr0: CR0_ET,
        cs: Segment { sel: cs, base: u64::from(cs) << 4, ..data },
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        idtr: Segment { limit: 0x3ff, ..Default::default() },
        ..reset()
    }
}

/// State of another vCPU after a start-up IPI (SDM volume 3, 9.4.4 and table 10-1): real mode at the start of a page
/// below 1 MiB, caches off, and the CPU's `signature` from CPUID in EDX.
pub fn application(page: u8, signature: u32) -> ArchState {
    let mut s = real(u16::from(page) << 8, 0);
    s.cr0 |= CR0_NW | CR0_CD;
    s.gpr[ArchState::RDX] = signature.into();
    s
}

/// Flat segments, and the GDT that they are from.
fn flat(ar_code: u16) -> ArchState {
    let data = Segment { sel: SEL_DATA, ar: AR_DATA, limit: u32::MAX, base: 0 };
    ArchState {
        cs: Segment { sel: SEL_CODE, ar: ar_code, limit: u32::MAX, base: 0 },
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        gdtr: Segment { limit: GDT_LEN as u32 - 1, base: layout::GDT, ..Default::default() },
        ..reset()
    }
}

/// Primary processor-based controls (SDM volume 3, table 25-6): accesses to CR8 exit, as it is the local APIC's.
const CR8_EXITING: u32 = 1 << 19 | 1 << 20;

/// What is the same in all modes.
fn reset() -> ArchState {
    ArchState {
        ctrl: [CR8_EXITING, 0],
        rflags: RFLAGS_FIXED,
        tr: Segment { sel: 0, ar: AR_TSS, limit: 0x67, base: 0 },
        ldtr: Segment { ar: AR_UNUSABLE, ..Default::default() },
        dr7: DR7_RESET,
        xcr0: 1,
        pat: PAT_RESET,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;
    use crate::paging::{Access, Paging};

    const LONG: Start = Start::Long { rip: 0x100_0200, boot_params: 0x7000 };
    const PROTECTED: Start = Start::Protected { eip: 0x10_000c, eax: 0x2bad_b002, ebx: 0x7000 };
    const REAL: Start = Start::Real { cs: 0x7c0, ip: 4 };

    #[test]
    fn descriptors_agree_with_the_loaded_segments() {
        for (descriptor, ar) in [(CODE64, AR_CODE64), (CODE32, AR_CODE32), (DATA, AR_DATA)] {
            // Descriptor bits 47:40 are access-rights bits 7:0, bits 55:52 are 11:8.
            let from_table = (descriptor >> 40 & 0xff) | (descriptor >> 52 & 0xf) << 8;
            assert_eq!(from_table, u64::from(ar));
        }
    }

    #[test]
    fn the_first_four_gigabytes_are_mapped_one_to_one() {
        let m = mem::alone(16 << 20).unwrap();
        prepare(&m, &LONG).unwrap();
        let s = initial(&LONG);
        for a in [0, 0x7000, 0x100_0200, 0x4000_0000, 0xfee0_0010, 0xffff_ffff] {
            assert_eq!(Paging::of(&s).translate(&m, a, Access::READ), Ok(a));
        }
        assert!(Paging::of(&s).translate(&m, 1 << 32, Access::READ).is_err());
    }

    #[test]
    fn entry_state_is_that_of_the_boot_protocol() {
        let s = initial(&LONG);
        assert_eq!((s.cs.sel, s.ds.sel, s.ss.sel), (0x10, 0x18, 0x18));
        assert_eq!((s.rip, s.gpr[ArchState::RSI], s.rflags & RFLAGS_IF), (0x100_0200, 0x7000, 0));
        assert!(STARTUP.contains(Mtd::SPACES | Mtd::GPR_0_7 | Mtd::EFER | Mtd::TLB));
        assert!(INIT.contains(Mtd::TLB));
    }

    #[test]
    fn protected_mode_is_flat_and_without_paging() {
        let m = mem::alone(16 << 20).unwrap();
        prepare(&m, &PROTECTED).unwrap();
        let s = initial(&PROTECTED);
        assert_eq!((s.cr0 & (CR0_PE | CR0_PG), s.cr4, s.efer, s.rflags), (CR0_PE, 0, 0, 2));
        assert_eq!((s.rip, s.gpr[ArchState::RAX], s.gpr[ArchState::RBX]), (0x10_000c, 0x2bad_b002, 0x7000));
        for (segment, ar) in [(s.cs, 0xc9b), (s.ss, 0xc93), (s.ds, 0xc93), (s.es, 0xc93), (s.fs, 0xc93), (s.gs, 0xc93)]
        {
            assert_eq!((segment.ar, segment.base, segment.limit), (ar, 0, u32::MAX));
        }
        assert_eq!(m.read_obj::<u64>(GuestAddress(s.gdtr.base + u64::from(s.cs.sel))).unwrap(), CODE32);
        assert_eq!(m.read_obj::<u64>(GuestAddress(layout::PAGE_TABLES)).unwrap(), 0, "no page tables");
    }

    #[test]
    fn real_mode_has_the_segments_of_its_selectors() {
        let s = initial(&REAL);
        assert_eq!((s.cs.sel, s.cs.base, s.rip), (0x7c0, 0x7c00, 4));
        assert_eq!((s.cr0 & CR0_PE, s.cs.ar, s.cs.limit, s.ds.base), (0, 0x93, 0xffff, 0));
        assert_eq!((s.idtr.base, s.idtr.limit), (0, 0x3ff));
    }
}
