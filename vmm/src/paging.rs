//! Guest page tables: from linear to guest-physical addresses (SDM volume 3, chapter 4).
//!
//! Knows the modes a guest can be in: none, 32-bit, PAE and 4-level paging. Used when an instruction is emulated, so it
//! checks what the CPU would check, and sets accessed and dirty bits. Key types: [`Paging`], [`Access`], [`PageFault`].

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use abi::ArchState;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory};

use crate::spec::bits::*;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Address bits 51:12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// SMEP and SMAP in CR4, AC in RFLAGS.
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const RFLAGS_AC: u64 = 1 << 18;
/// Page-fault error code (table 4-12): protection violation, write, user, fetch.
const PF_PROTECTION: u32 = 1 << 0;
const PF_WRITE: u32 = 1 << 1;
const PF_USER: u32 = 1 << 2;
const PF_FETCH: u32 = 1 << 4;

/// Kind of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Writes.
    pub write: bool,
    /// Fetches an instruction.
    pub fetch: bool,
}

#[allow(missing_docs, reason = "named after what they are")]
impl Access {
    pub const READ: Access = Access { write: false, fetch: false };
    pub const WRITE: Access = Access { write: true, fetch: false };
    pub const FETCH: Access = Access { write: false, fetch: true };
}

/// A page fault that the guest has to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// Linear address, for CR2.
    pub address: u64,
    /// Error code.
    pub code: u32,
}

/// How one level of a paging mode looks: bits of the linear address, bytes of an entry, whether it can map a page.
#[derive(Clone, Copy)]
struct Level {
    shift: u32,
    bits: u32,
    large: bool,
}

/// A paging mode.
struct Mode {
    levels: &'static [Level],
    entry_bytes: u64,
}

const fn level(shift: u32, bits: u32, large: bool) -> Level {
    Level { shift, bits, large }
}

const FOUR_LEVEL: Mode = Mode {
    levels: &[level(39, 9, false), level(30, 9, true), level(21, 9, true), level(12, 9, false)],
    entry_bytes: 8,
};
const PAE: Mode = Mode { levels: &[level(30, 2, false), level(21, 9, true), level(12, 9, false)], entry_bytes: 8 };
const LEGACY: Mode = Mode { levels: &[level(22, 10, true), level(12, 10, false)], entry_bytes: 4 };
const LEGACY_NO_PSE: Mode = Mode { levels: &[level(22, 10, false), level(12, 10, false)], entry_bytes: 4 };

/// What of a vCPU's state decides about translations.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    rflags: u64,
    user: bool,
}

impl Paging {
    /// Of the vCPU in that state: CR, EFER, RFLAGS and SS (whose DPL is the privilege level).
    pub fn of(s: &ArchState) -> Paging {
        Paging { cr0: s.cr0, cr3: s.cr3, cr4: s.cr4, efer: s.efer, rflags: s.rflags, user: s.ss.ar >> 5 & 3 == 3 }
    }

    fn mode(&self) -> Option<Mode> {
        match () {
            _ if self.cr0 & CR0_PG == 0 => None,
            _ if self.efer & EFER_LMA != 0 => Some(FOUR_LEVEL),
            _ if self.cr4 & CR4_PAE != 0 => Some(PAE),
            _ if self.cr4 & CR4_PSE != 0 => Some(LEGACY),
            _ => Some(LEGACY_NO_PSE),
        }
    }

    /// Guest-physical address behind a linear address.
    pub fn translate(&self, mem: &GuestMemoryMmap, linear: u64, access: Access) -> Result<u64, PageFault> {
        let long = self.efer & EFER_LMA != 0;
        let linear = if long { linear } else { linear & 0xffff_ffff };
        match self.mode() {
            None => Ok(linear),
            // An emulated access to a non-canonical address would have raised #GP; the walk finds nothing there.
            Some(mode) => loop {
                if let Some(result) = self.walk(mem, &mode, linear, access) {
                    return result;
                }
            },
        }
    }

    /// `None` if another vCPU changed an entry in the meantime.
    fn walk(&self, mem: &GuestMemoryMmap, mode: &Mode, linear: u64, access: Access) -> Option<Result<u64, PageFault>> {
        let root =
            if mode.entry_bytes == 8 && mode.levels.len() == 3 { self.cr3 & 0xffff_ffe0 } else { self.cr3 & ADDRESS };
        let (mut table, mut rights) = (root, USER | WRITABLE);
        for (i, l) in mode.levels.iter().enumerate() {
            let index = linear >> l.shift & ((1 << l.bits) - 1);
            let at = table + index * mode.entry_bytes;
            let Some(entry) = read_entry(mem, at, mode.entry_bytes).filter(|e| e & PRESENT != 0) else {
                return Some(Err(self.fault(linear, access, 0)));
            };
            let last = i + 1 == mode.levels.len() || l.large && entry & LARGE != 0;
            // Entries of the PDPT in PAE mode have no rights.
            if !(i == 0 && mode.levels.len() == 3) {
                rights = rights & (entry | NO_EXECUTE) | entry & NO_EXECUTE;
            }
            if last && let Err(fault) = self.check(rights, linear, access) {
                return Some(Err(fault));
            }
            if !mark(mem, at, mode.entry_bytes, entry, last && access.write) {
                return None;
            }
            if last {
                let offset = (1u64 << l.shift) - 1;
                return Some(Ok(frame(entry, l, mode.entry_bytes) & !offset | linear & offset));
            }
            table = entry & if mode.entry_bytes == 4 { 0xffff_f000 } else { ADDRESS };
        }
        unreachable!("the last level ends the walk")
    }

    /// Protection (volume 3, 4.6.1).
    fn check(&self, rights: u64, linear: u64, access: Access) -> Result<(), PageFault> {
        let (user_page, writable) = (rights & USER != 0, rights & WRITABLE != 0);
        let no_execute = self.efer & EFER_NXE != 0 && rights & NO_EXECUTE != 0;
        let smap = self.cr4 & CR4_SMAP != 0 && self.rflags & RFLAGS_AC == 0;
        let refused = match self.user {
            true => !user_page || access.write && !writable || access.fetch && no_execute,
            false if access.fetch => no_execute || user_page && self.cr4 & CR4_SMEP != 0,
            false => user_page && smap || access.write && !writable && self.cr0 & CR0_WP != 0,
        };
        if refused { Err(self.fault(linear, access, PF_PROTECTION)) } else { Ok(()) }
    }

    fn fault(&self, address: u64, access: Access, protection: u32) -> PageFault {
        let fetch_shows = self.efer & EFER_NXE != 0 || self.cr4 & CR4_SMEP != 0;
        let bits = [
            (protection != 0, PF_PROTECTION),
            (access.write, PF_WRITE),
            (self.user, PF_USER),
            (access.fetch && fetch_shows, PF_FETCH),
        ];
        PageFault { address, code: bits.iter().filter(|(set, _)| *set).map(|(_, b)| b).sum() }
    }
}

fn read_entry(mem: &GuestMemoryMmap, at: u64, bytes: u64) -> Option<u64> {
    if bytes == 4 {
        mem.read_obj::<u32>(GuestAddress(at)).ok().map(u64::from)
    } else {
        mem.read_obj(GuestAddress(at)).ok()
    }
}

/// Sets accessed and dirty, as the CPU does: whether the entry was still the same.
fn mark(mem: &GuestMemoryMmap, at: u64, bytes: u64, entry: u64, dirty: bool) -> bool {
    let new = entry | ACCESSED | if dirty { DIRTY } else { 0 };
    if new == entry {
        return true;
    }
    // It has just been read from there, and entries are aligned: there is a slice.
    let Ok(slice) = mem.get_slice(GuestAddress(at), bytes as usize) else { return true };
    if bytes == 4 {
        let set = |e: &AtomicU32| e.compare_exchange(entry as u32, new as u32, SeqCst, SeqCst).is_ok();
        slice.get_atomic_ref(0).map_or(true, set)
    } else {
        slice.get_atomic_ref(0).map_or(true, |e: &AtomicU64| e.compare_exchange(entry, new, SeqCst, SeqCst).is_ok())
    }
}

/// Frame address of an entry that maps a page; 4 MiB pages have address bits 39:32 in 20:13 (PSE-36).
fn frame(entry: u64, l: &Level, entry_bytes: u64) -> u64 {
    match entry_bytes {
        4 if l.shift == 22 => entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32,
        4 => entry & 0xffff_f000,
        _ => entry & ADDRESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;

    fn ram() -> GuestMemoryMmap {
        mem::alone(16 << 20).unwrap()
    }

    fn put(m: &GuestMemoryMmap, at: u64, v: u64) {
        m.write_obj(v, GuestAddress(at)).unwrap();
    }

    fn get(m: &GuestMemoryMmap, at: u64) -> u64 {
        m.read_obj(GuestAddress(at)).unwrap()
    }

    const RWX: u64 = PRESENT | WRITABLE | USER;

    /// Four levels: 0x40_0000_1000 -> 0x5000 by a 4 KiB page, with `leaf` flags; supervisor rights above.
    fn long(m: &GuestMemoryMmap, leaf: u64) -> ArchState {
        put(m, 0x1000, 0x2000 | RWX);
        put(m, 0x2000 + 8 * 256, 0x3000 | RWX);
        put(m, 0x3000, 0x4000 | RWX);
        put(m, 0x4008, 0x5000 | leaf);
        put(m, 0x2000, LARGE | PRESENT | WRITABLE);
        put(m, 0x3008, 0x40_0000 | LARGE | RWX);
        ArchState {
            cr0: CR0_PG | CR0_PE | CR0_WP,
            cr3: 0x1000,
            cr4: CR4_PAE,
            efer: EFER_LMA | EFER_LME | EFER_NXE,
            ..Default::default()
        }
    }

    fn user(mut s: ArchState) -> ArchState {
        s.ss.ar = 3 << 5;
        s
    }

    const VA: u64 = 0x40_0000_1000;

    #[test]
    fn four_levels_with_all_page_sizes() {
        let m = ram();
        let p = Paging::of(&long(&m, RWX));
        for (linear, physical) in [(VA + 0x123, 0x5123), (0x1234_5678, 0x1234_5678), (0x40_0020_0042, 0x40_0042)] {
            assert_eq!(p.translate(&m, linear, Access::READ), Ok(physical));
        }
        assert_eq!(p.translate(&m, 0x80_0000_0000, Access::READ), Err(PageFault { address: 0x80_0000_0000, code: 0 }));
        assert_eq!(p.translate(&m, VA + 0x1000, Access::WRITE), Err(PageFault { address: VA + 0x1000, code: 2 }));
    }

    #[test]
    fn accessed_and_dirty_are_set_only_by_what_succeeds() {
        let m = ram();
        let p = Paging::of(&long(&m, PRESENT));
        assert!(p.translate(&m, VA, Access::WRITE).is_err());
        assert_eq!(get(&m, 0x4008) & (ACCESSED | DIRTY), 0);
        p.translate(&m, VA, Access::READ).unwrap();
        assert_eq!(get(&m, 0x4008) & (ACCESSED | DIRTY), ACCESSED);
        let p = Paging::of(&long(&m, RWX));
        p.translate(&m, VA, Access::WRITE).unwrap();
        assert_eq!(get(&m, 0x4008) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
        assert_eq!(get(&m, 0x1000) & (ACCESSED | DIRTY), ACCESSED);
    }

    #[test]
    fn an_entry_that_has_changed_is_not_written_back() {
        let m = ram();
        for bytes in [4, 8] {
            put(&m, 0x4008, 0);
            assert!(!mark(&m, 0x4008, bytes, 0x5000 | RWX, true), "another vCPU has unmapped it");
            assert_eq!(get(&m, 0x4008), 0);
            put(&m, 0x4008, 0x5000 | RWX);
            assert!(mark(&m, 0x4008, bytes, 0x5000 | RWX, true));
            assert_eq!(get(&m, 0x4008), 0x5000 | RWX | ACCESSED | DIRTY);
        }
    }

    #[test]
    fn protection() {
        let nx = NO_EXECUTE;
        for (leaf, is_user, access, code) in [
            (RWX, true, Access::WRITE, None),
            (PRESENT | WRITABLE, true, Access::READ, Some(5)),
            (PRESENT | USER, true, Access::WRITE, Some(7)),
            (PRESENT | USER, false, Access::WRITE, Some(3)),
            (RWX | nx, false, Access::FETCH, Some(0x11)),
            (RWX | nx, true, Access::FETCH, Some(0x15)),
            (RWX, false, Access::FETCH, None),
            (RWX | nx, true, Access::READ, None),
        ] {
            let m = ram();
            let s = long(&m, leaf);
            let p = Paging::of(&if is_user { user(s) } else { s });
            assert_eq!(p.translate(&m, VA, access).err().map(|f| f.code), code, "{leaf:#x} {is_user} {access:?}");
        }
    }

    #[test]
    fn supervisor_mode_restrictions() {
        let m = ram();
        let mut s = long(&m, RWX);
        s.cr4 |= CR4_SMEP | CR4_SMAP;
        assert_eq!(Paging::of(&s).translate(&m, VA, Access::FETCH).unwrap_err().code, 0x11);
        assert_eq!(Paging::of(&s).translate(&m, VA, Access::READ).unwrap_err().code, 1);
        s.rflags |= RFLAGS_AC;
        assert_eq!(Paging::of(&s).translate(&m, VA, Access::READ), Ok(0x5000));
        s.cr0 &= !CR0_WP;
        put(&m, 0x4008, 0x5000 | PRESENT);
        assert_eq!(Paging::of(&s).translate(&m, VA, Access::WRITE), Ok(0x5000), "WP off");
    }

    #[test]
    fn no_paging_and_32_bit_paging() {
        let m = ram();
        let mut s = ArchState { cr3: 0x1000, ..Default::default() };
        assert_eq!(Paging::of(&s).translate(&m, 0x1_2345_6789, Access::WRITE), Ok(0x2345_6789));
        s.cr0 = CR0_PG | CR0_PE;
        m.write_obj(0x2000u32 | 7, GuestAddress(0x1004)).unwrap();
        m.write_obj(0x7000u32 | 7, GuestAddress(0x2008)).unwrap();
        m.write_obj(0xfec0_0000u32 | 0x87, GuestAddress(0x1008)).unwrap();
        assert_eq!(Paging::of(&s).translate(&m, 0x40_2010, Access::READ), Ok(0x7010));
        assert!(Paging::of(&s).translate(&m, 0x80_0010, Access::READ).is_err(), "no PSE: a table outside of RAM");
        s.cr4 = CR4_PSE;
        assert_eq!(Paging::of(&s).translate(&m, 0x80_0010, Access::WRITE), Ok(0xfec0_0010));
        assert_ne!(m.read_obj::<u32>(GuestAddress(0x1008)).unwrap() as u64 & DIRTY, 0);
    }

    #[test]
    fn pae_paging() {
        let m = ram();
        let s = ArchState { cr0: CR0_PG | CR0_PE, cr3: 0x1020, cr4: CR4_PAE, efer: EFER_NXE, ..Default::default() };
        put(&m, 0x1020 + 8 * 3, 0x2000 | PRESENT);
        put(&m, 0x2000, 0x3000 | RWX);
        put(&m, 0x3000, 0x1_fec0_0000 | RWX);
        put(&m, 0x2008, 0x20_0000 | LARGE | RWX);
        assert_eq!(Paging::of(&user(s)).translate(&m, 0xc000_0ff0, Access::WRITE), Ok(0x1_fec0_0ff0));
        assert_eq!(Paging::of(&s).translate(&m, 0xc020_0001, Access::READ), Ok(0x20_0001));
        assert!(Paging::of(&s).translate(&m, 0x1000, Access::READ).is_err());
    }

    #[test]
    fn tables_outside_of_ram_are_not_present() {
        let m = ram();
        let s = ArchState { cr3: 0x7f00_0000_0000, ..long(&m, RWX) };
        assert_eq!(Paging::of(&s).translate(&m, 0, Access::READ).unwrap_err().code, 0);
    }
}
