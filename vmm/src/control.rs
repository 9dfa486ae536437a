//! Writes to control registers that exit, because they change bits which the guest does not own (SDM volume 3, 25.1.3).
//!
//! The kernel lets a guest read back what it wrote and keeps in force what VMX needs; so the answer is to check the
//! value as the CPU would (volume 3, 2.5) and to put it into the vCPU state.

use abi::{ArchState, Mtd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::inject::Exception;
use crate::spec::bits::*;

/// Exit qualification for control-register accesses (table 28-3): register, access type, general-purpose register.
pub const QUAL_CR: u64 = 0xf;
const QUAL_TYPE_SHIFT: u32 = 4;
const QUAL_GPR_SHIFT: u32 = 8;
const MOV_TO_CR: u64 = 0;
/// Bits that exist in CR0.
const CR0_BITS: u64 = 0xe005_003f;

/// Executes the access that `s.qual` describes. `None`: not a MOV to CR0 or CR4. Otherwise what to write back, or the
/// exception that the guest gets; RIP is not moved. `cr4_bits`: what CPUID lets the guest set in CR4.
pub fn write(s: &mut ArchState, mem: &GuestMemoryMmap, cr4_bits: u64) -> Option<Result<Mtd, Exception>> {
    let qual = s.qual[0];
    if qual >> QUAL_TYPE_SHIFT & 3 != MOV_TO_CR {
        return None;
    }
    let value = s.gpr[(qual >> QUAL_GPR_SHIFT & 0xf) as usize];
    let valid = match qual & QUAL_CR {
        0 => cr0_valid(value, s),
        4 => value & !cr4_bits == 0 && !(s.efer & EFER_LMA != 0 && value & CR4_PAE == 0),
        _ => return None,
    };
    if !valid {
        return Some(Err(Exception::GP));
    }
    if qual & QUAL_CR == 0 {
        s.cr0 = value | CR0_ET
    } else {
        s.cr4 = value
    }
    Some(Ok(Mtd::CR | Mtd::TLB | load_pdptes(s, mem)))
}

fn cr0_valid(v: u64, s: &ArchState) -> bool {
    let paging_starts = v & !s.cr0 & CR0_PG != 0;
    v >> 32 == 0
        && v & !CR0_BITS == 0
        && !(v & CR0_PG != 0 && v & CR0_PE == 0)
        && !(v & CR0_NW != 0 && v & CR0_CD == 0)
        && !(paging_starts && s.efer & EFER_LME != 0 && s.cr4 & CR4_PAE == 0)
}

/// With PAE paging outside of long mode the CPU loads the page-directory pointers at such a write (volume 3, 4.4.1).
fn load_pdptes(s: &mut ArchState, mem: &GuestMemoryMmap) -> Mtd {
    if s.cr0 & CR0_PG == 0 || s.cr4 & CR4_PAE == 0 || s.efer & EFER_LME != 0 {
        return Mtd::empty();
    }
    let at = s.cr3 & 0xffff_ffe0;
    s.pdpte = std::array::from_fn(|i| mem.read_obj(GuestAddress(at + 8 * i as u64)).unwrap_or(0));
    Mtd::PDPTE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;

    /// MOV to CR`cr` from RCX of `value` in long mode with paging.
    fn mov(cr: u64, value: u64, change: impl Fn(&mut ArchState)) -> (ArchState, Option<Result<Mtd, Exception>>) {
        let m = mem::alone(16 << 20).unwrap();
        m.write_obj(0x5001u64, GuestAddress(0x1028)).unwrap();
        let mut s = ArchState {
            qual: [cr | 1 << QUAL_GPR_SHIFT, 0, 0],
            cr0: CR0_PE | CR0_PG | CR0_NE | CR0_ET,
            cr3: 0x1020,
            cr4: CR4_PAE,
            efer: EFER_LME | EFER_LMA,
            ..Default::default()
        };
        s.gpr[ArchState::RCX] = value;
        change(&mut s);
        let result = write(&mut s, &m, CR4_PAE | CR4_PSE);
        (s, result)
    }

    const WRITTEN: Option<Result<Mtd, Exception>> = Some(Ok(Mtd::CR.union(Mtd::TLB)));
    const GP: Option<Result<Mtd, Exception>> = Some(Err(Exception::GP));

    #[test]
    fn cache_disable_is_the_guests_to_set() {
        let value = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_CD;
        let (s, r) = mov(0, value, |_| ());
        assert_eq!((s.cr0, r), (value, WRITTEN));
    }

    #[test]
    fn invalid_values_fault_and_change_nothing() {
        let on = CR0_PE | CR0_PG;
        for (cr, value) in [
            (0, CR0_PG),
            (0, on | CR0_NW),
            (0, on | 1 << 32),
            (0, on | 1 << 10),
            (4, CR4_PAE | CR4_VMXE),
            (4, CR4_PAE | 1 << 63),
            (4, 0),
        ] {
            let (s, r) = mov(cr, value, |_| ());
            assert_eq!((s.cr0 & CR0_NE, s.cr4, r), (CR0_NE, CR4_PAE, GP), "CR{cr} := {value:#x}");
        }
        let (_, r) = mov(0, on, |s| (s.cr0, s.cr4, s.efer) = (CR0_PE, 0, EFER_LME));
        assert_eq!(r, GP, "long mode without PAE");
    }

    #[test]
    fn pae_paging_loads_its_pointers() {
        let (s, r) = mov(0, CR0_PE | CR0_PG, |s| (s.cr0, s.efer) = (CR0_PE, 0));
        assert_eq!(r, Some(Ok(Mtd::CR | Mtd::TLB | Mtd::PDPTE)));
        assert_eq!(s.pdpte, [0, 0x5001, 0, 0]);
    }

    #[test]
    fn other_accesses_are_not_answered() {
        for qual in [3, 8, 1 << 4, 3 << 4] {
            assert_eq!(mov(0, 0, |s| s.qual[0] = qual).1, None);
        }
    }
}
