//! Which fields of an [`ArchState`] each bit of an [`Mtd`] moves for a guest (NOVA 8.7.4), as a table.
//!
//! Back ends check their own tables against it; documentation is generated from it.

use abi::{ArchState, Mtd};
use core::mem::{offset_of, size_of};

/// In which direction a field may travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// vCPU to UTCB only.
    R,
    /// UTCB to vCPU only.
    W,
    /// Both.
    RW,
}

impl Access {
    /// Whether an event message carries the field.
    pub const fn reads(self) -> bool {
        matches!(self, Access::R | Access::RW)
    }

    /// Whether a reply changes the vCPU.
    pub const fn writes(self) -> bool {
        matches!(self, Access::W | Access::RW)
    }
}

/// A field of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The bit.
    pub mtd: Mtd,
    /// Name of the field in [`ArchState`].
    pub name: &'static str,
    /// Offset in the UTCB in bytes.
    pub offset: usize,
    /// Width in bytes.
    pub width: usize,
    /// Directions.
    pub access: Access,
}

/// Size of the field that a projection leads to.
const fn width<T>(_: fn(&ArchState) -> &T) -> usize {
    size_of::<T>()
}

/// Bytes of eight general-purpose registers.
const GPR_HALF: usize = size_of::<[u64; 8]>();

macro_rules! groups {
    ($($mtd:ident: $($access:ident $field:ident),*;)*) => {
        &[
            Item { mtd: Mtd::GPR_0_7, name: "gpr", offset: 0, width: GPR_HALF, access: Access::RW },
            Item { mtd: Mtd::GPR_8_15, name: "gpr", offset: GPR_HALF, width: GPR_HALF, access: Access::RW },
            $($(Item {
                mtd: Mtd::$mtd,
                name: stringify!($field),
                offset: offset_of!(ArchState, $field),
                width: width(|s: &ArchState| &s.$field),
                access: Access::$access,
            },)*)*
        ]
    };
}

/// All items, by ascending bit. `POISON` and `TLB` are commands and carry nothing.
pub const GROUPS: &[Item] = groups! {
    RFLAGS: RW rflags;
    RIP: RW rip, R inst_len, R inst_info;
    STA: RW intr_state, RW actv_state;
    QUAL: R qual;
    CTRL: W ctrl, W ctrl3, W intcpt_cr0, W intcpt_cr4, W intcpt_exc, W pfe_mask, W pfe_match;
    TPR: W tpr_threshold;
    INJ: RW inj_info, RW inj_error, R vect_info, R vect_error;
    CS_SS: RW cs, RW ss;
    DS_ES: RW ds, RW es;
    FS_GS: RW fs, RW gs;
    TR: RW tr;
    LDTR: RW ldtr;
    GDTR: RW gdtr;
    IDTR: RW idtr;
    PDPTE: RW pdpte;
    CR: RW cr0, RW cr2, RW cr3, RW cr4, RW cr8;
    DR: RW dr7;
    XSAVE: RW xcr0, RW xss;
    APIC: W apic_base;
    SYSCALL: RW star, RW lstar, RW fmask;
    SYSENTER: RW sysenter_cs, RW sysenter_esp, RW sysenter_eip;
    PAT: RW pat;
    EFER: RW efer;
    KERNEL_GS: RW kernel_gs_base;
    TSC: RW tsc_aux;
    SPACES: W sel_gst, W sel_pio, W sel_msr;
};

/// The items of one group.
pub fn items(mtd: Mtd) -> impl Iterator<Item = &'static Item> {
    GROUPS.iter().filter(move |i| mtd.contains(i.mtd))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: Mtd = Mtd::POISON.union(Mtd::TLB);

    #[test]
    fn every_defined_bit_has_a_group_or_is_a_command() {
        for (name, bit) in Mtd::all().iter_names() {
            assert_eq!(items(bit).count() == 0, COMMANDS.contains(bit), "{name}");
        }
        assert!(GROUPS.iter().all(|i| i.mtd.bits().is_power_of_two()));
        assert!(GROUPS.is_sorted_by_key(|i| i.mtd.bits()));
    }

    #[test]
    fn every_byte_of_the_utcb_belongs_to_exactly_one_item() {
        let mut owner = [0u8; size_of::<ArchState>()];
        for item in GROUPS {
            owner[item.offset..][..item.width].iter_mut().for_each(|n| *n += 1);
        }
        let reserved = offset_of!(ArchState, _r0)..offset_of!(ArchState, _r0) + 8;
        for (offset, n) in owner.iter().enumerate() {
            assert_eq!(*n, u8::from(!reserved.contains(&offset)), "byte {offset:#x}");
        }
    }

    #[test]
    fn directions_are_those_of_the_specification() {
        let write_only = Mtd::CTRL | Mtd::TPR | Mtd::APIC | Mtd::SPACES;
        for item in GROUPS {
            assert_eq!(!item.access.reads(), write_only.contains(item.mtd), "{}", item.name);
        }
        let read_only: Vec<_> = GROUPS.iter().filter(|i| !i.access.writes()).map(|i| i.name).collect();
        assert_eq!(read_only, ["inst_len", "inst_info", "qual", "vect_info", "vect_error"]);
    }
}
