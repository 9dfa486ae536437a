//! State of a vCPU at its start: the Linux 64-bit entry (boot protocol, "64-bit boot protocol").
//!
//! Paging is on with the first 4 GiB mapped one to one, CS = 0x10 and DS = 0x18 are flat, RSI points to the boot
//! parameters, interrupts are off. [`prepare`] writes the tables that this needs into guest RAM.

use abi::{ArchState, Mtd, Segment};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::layout;
use crate::loader::Boot;
use crate::spec::bits::*;

/// Code segment: 64-bit, execute/read, accessed.
const CODE: u64 = 0x00af_9b00_0000_ffff;
/// Data segment: read/write, accessed.
const DATA: u64 = 0x00cf_9300_0000_ffff;
const GDT: [u64; 4] = [0, 0, CODE, DATA];
const SEL_CODE: u16 = 0x10;
const SEL_DATA: u16 = 0x18;
/// Access rights of the same segments in the UTCB's format.
const AR_CODE: u16 = 0xa9b;
const AR_DATA: u16 = 0xc93;
/// Busy 64-bit TSS; VM entry requires one.
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

/// State that [`initial`] sets.
pub const STARTUP: Mtd = Mtd::GPR_0_7
    .union(Mtd::GPR_8_15)
    .union(Mtd::RFLAGS)
    .union(Mtd::RIP)
    .union(Mtd::STA)
    .union(Mtd::INJ)
    .union(Mtd::CS_SS)
    .union(Mtd::DS_ES)
    .union(Mtd::FS_GS)
    .union(Mtd::TR)
    .union(Mtd::LDTR)
    .union(Mtd::GDTR)
    .union(Mtd::IDTR)
    .union(Mtd::CR)
    .union(Mtd::DR)
    .union(Mtd::XSAVE)
    .union(Mtd::SYSCALL)
    .union(Mtd::SYSENTER)
    .union(Mtd::PAT)
    .union(Mtd::EFER)
    .union(Mtd::KERNEL_GS)
    .union(Mtd::TSC)
    .union(Mtd::SPACES);

/// Writes GDT and page tables.
pub fn prepare(mem: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    write_words(mem, layout::GDT, GDT.into_iter())?;
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

/// State at the kernel's entry, without the selectors of the spaces.
pub fn initial(boot: &Boot) -> ArchState {
    let data = Segment { sel: SEL_DATA, ar: AR_DATA, limit: u32::MAX, base: 0 };
    let mut s = ArchState {
        rip: boot.entry,
        rflags: RFLAGS_FIXED,
        cs: Segment { sel: SEL_CODE, ar: AR_CODE, limit: u32::MAX, base: 0 },
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        tr: Segment { sel: 0, ar: AR_TSS, limit: 0x67, base: 0 },
        ldtr: Segment { ar: AR_UNUSABLE, ..Default::default() },
        gdtr: Segment { limit: size_of_val(&GDT) as u32 - 1, base: layout::GDT, ..Default::default() },
        cr0: CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG,
        cr3: layout::PAGE_TABLES,
        cr4: CR4_PAE,
        dr7: DR7_RESET,
        xcr0: 1,
        pat: PAT_RESET,
        efer: EFER_LME | EFER_LMA,
        ..Default::default()
    };
    s.gpr[ArchState::RSI] = boot.boot_params;
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;
    use crate::paging::{Access, Paging};

    const BOOT: Boot = Boot { entry: 0x100_0200, boot_params: 0x7000, kernel: 0x100_0000, initrd: (0, 0) };

    #[test]
    fn descriptors_agree_with_the_loaded_segments() {
        for (descriptor, ar) in [(CODE, AR_CODE), (DATA, AR_DATA)] {
            // Descriptor bits 47:40 are access-rights bits 7:0, bits 55:52 are 11:8.
            let from_table = (descriptor >> 40 & 0xff) | (descriptor >> 52 & 0xf) << 8;
            assert_eq!(from_table, u64::from(ar));
        }
    }

    #[test]
    fn the_first_four_gigabytes_are_mapped_one_to_one() {
        let m = mem::allocate(16 << 20, 32 << 20).unwrap();
        prepare(&m).unwrap();
        let s = initial(&BOOT);
        for a in [0, 0x7000, 0x100_0200, 0x4000_0000, 0xfee0_0010, 0xffff_ffff] {
            assert_eq!(Paging::of(&s).translate(&m, a, Access::READ), Ok(a));
        }
        assert!(Paging::of(&s).translate(&m, 1 << 32, Access::READ).is_err());
    }

    #[test]
    fn entry_state_is_that_of_the_boot_protocol() {
        let s = initial(&BOOT);
        assert_eq!((s.cs.sel, s.ds.sel, s.ss.sel), (0x10, 0x18, 0x18));
        assert_eq!((s.rip, s.gpr[ArchState::RSI], s.rflags & RFLAGS_IF), (0x100_0200, 0x7000, 0));
        assert!(STARTUP.contains(Mtd::SPACES | Mtd::GPR_0_7 | Mtd::EFER));
    }
}
