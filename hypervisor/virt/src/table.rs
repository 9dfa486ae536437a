//! Which fields of an [`ArchState`] each bit of an [`Mtd`] moves for a guest (NOVA 8.7.4), and where each back end has
//! them: one table.
//!
//! [`transfer_table`] hands it to a macro. [`GROUPS`] is made of it here, for tests and documentation; the back ends make
//! `save`, `load` and `rows` of their column.

use abi::{ArchState, Mtd};
use core::mem::{offset_of, size_of_val};

/// The table: a group for each bit of the descriptor; in each group for each field of the UTCB its direction, its name
/// (of arrays also the first element and the number), its slot in VT-x and its slot in SVM.
///
/// What the words of a slot mean is said in `state` of each back end. `frequent` groups come first on the path of an
/// exit; of `rare` ones one test skips all; `kernel` groups concern what no back end holds.
///
/// Order counts: RFLAGS and RIP come before INJ, which may move RIP and looks at RFLAGS.IF.
#[macro_export]
macro_rules! transfer_table {
    ($generate:ident) => {
        $generate! {
            frequent {
                GPR_0_7 { RW gpr[0, 8]: (composite gpr_0_7) (composite gpr_0_7); }
                GPR_8_15 { RW gpr[8, 8]: (composite gpr_8_15) (composite gpr_8_15); }
                RFLAGS { RW rflags: (vmcs GUEST_RFLAGS clean_rflags) (vmcb rflags UNCACHED clean_rflags); }
                RIP {
                    RW rip: (vmcs GUEST_RIP) (vmcb rip UNCACHED);
                    R inst_len: (vmcs VM_EXIT_INSTRUCTION_LENGTH) (composite instruction);
                    R inst_info: (vmcs VM_EXIT_INSTRUCTION_INFO) (part_of instruction);
                }
                STA {
                    RW intr_state: (vmcs GUEST_INTERRUPTIBILITY_STATE clean_interruptibility) (composite interruptible);
                    RW actv_state: (vmcs GUEST_ACTIVITY_STATE clean_activity) (composite activity);
                }
                QUAL {
                    R qual: (composite qualifications) (composite qualifications);
                    R exc_info: (composite exception) (composite exception);
                    R exc_error: (part_of exception) (part_of exception);
                }
                INJ {
                    RW inj_info: (composite injection) (composite injection);
                    RW inj_error: (part_of injection) (part_of injection);
                    R vect_info: (part_of injection) (part_of injection);
                    R vect_error: (part_of injection) (part_of injection);
                }
            }
            rare {
                CTRL {
                    W ctrl: (composite controls) (composite intercepts);
                    W ctrl3: (part_of controls) (part_of intercepts);
                    W intcpt_cr0: (part_of controls) (part_of intercepts);
                    W intcpt_cr4: (part_of controls) (part_of intercepts);
                    W intcpt_exc: (vmcs EXCEPTION_BITMAP with_forced) (part_of intercepts);
                    W pfe_mask: (vmcs PAGE_FAULT_ERROR_CODE_MASK) (part_of intercepts);
                    W pfe_match: (vmcs PAGE_FAULT_ERROR_CODE_MATCH) (part_of intercepts);
                }
                TPR { W tpr_threshold: (composite tpr) (composite tpr); }
                CS_SS { RW cs: (segment CS) (segment cs SEG); RW ss: (segment SS) (composite stack_segment); }
                DS_ES { RW ds: (segment DS) (segment ds SEG); RW es: (segment ES) (segment es SEG); }
                FS_GS { RW fs: (segment FS) (segment fs UNCACHED); RW gs: (segment GS) (segment gs UNCACHED); }
                TR { RW tr: (segment TR) (segment tr UNCACHED); }
                LDTR { RW ldtr: (segment LDTR) (segment ldtr UNCACHED); }
                GDTR { RW gdtr: (composite gdtr) (composite gdtr); }
                IDTR { RW idtr: (composite idtr) (composite idtr); }
                PDPTE { RW pdpte: (composite pdptes) (composite pdptes); }
                CR {
                    RW cr0: (composite cr0) (vmcb cr0 CRX);
                    RW cr2: (register cr2) (vmcb cr2 CR2);
                    RW cr3: (vmcs GUEST_CR3) (vmcb cr3 CRX);
                    RW cr4: (composite cr4) (vmcb cr4 CRX clean_cr4);
                    RW cr8: (composite cr8) (composite cr8);
                }
                DR { RW dr7: (vmcs GUEST_DR7 clean_dr7) (vmcb dr7 DRX clean_dr7); }
                XSAVE { RW xcr0: (composite xsave) (composite xsave); RW xss: (part_of xsave) (part_of xsave); }
                SYSCALL {
                    RW star: (msr star set_star) (vmcb star UNCACHED);
                    RW lstar: (msr lstar set_lstar) (vmcb lstar UNCACHED);
                    RW fmask: (msr fmask set_fmask) (vmcb sfmask UNCACHED);
                }
                SYSENTER {
                    RW sysenter_cs: (vmcs GUEST_IA32_SYSENTER_CS clean_sysenter_cs) (vmcb sysenter_cs UNCACHED);
                    RW sysenter_esp: (vmcs GUEST_IA32_SYSENTER_ESP) (vmcb sysenter_esp UNCACHED);
                    RW sysenter_eip: (vmcs GUEST_IA32_SYSENTER_EIP) (vmcb sysenter_eip UNCACHED);
                }
                PAT { RW pat: (vmcs GUEST_IA32_PAT) (vmcb g_pat NP); }
                EFER { RW efer: (vmcs GUEST_IA32_EFER clean_efer) (composite efer); }
                KERNEL_GS { RW kernel_gs_base: (msr kernel_gs_base set_kernel_gs_base) (vmcb kernel_gs_base UNCACHED); }
                TSC { RW tsc_aux: (msr tsc_aux set_tsc_aux) (msr tsc_aux set_tsc_aux); }
            }
            kernel {
                APIC { W apic_base: () (); }
                SPACES { W sel_gst: () (); W sel_pio: () (); W sel_msr: () (); }
            }
        }
    };
}

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

/// For widths.
const STATE: ArchState = ArchState::ZERO;

/// Offset and width of a field, or of some elements of an array of words.
macro_rules! extent {
    ($field:ident) => {
        (offset_of!(ArchState, $field), size_of_val(&STATE.$field))
    };
    ($field:ident $first:literal $count:literal) => {
        (offset_of!(ArchState, $field) + $first * size_of::<u64>(), $count * size_of::<u64>())
    };
}

macro_rules! groups {
    ($($speed:ident {
        $($mtd:ident { $($access:ident $field:ident $([$first:literal, $count:literal])?: $vmx:tt $svm:tt;)* })*
    })*) => {
        /// All items. `POISON` and `TLB` are commands and carry nothing.
        pub const GROUPS: &[Item] = &[$($($(Item {
            mtd: Mtd::$mtd,
            name: stringify!($field),
            offset: extent!($field $($first $count)?).0,
            width: extent!($field $($first $count)?).1,
            access: Access::$access,
        },)*)*)*];

        /// The groups that no back end moves.
        pub const KERNEL_GROUPS: Mtd = kernel_groups!($($speed { $($mtd)* })*);
    };
}

macro_rules! kernel_groups {
    (kernel { $($mtd:ident)* }) => { Mtd::empty()$(.union(Mtd::$mtd))* };
    ($speed:ident $mtds:tt $($rest:tt)+) => { kernel_groups!($($rest)+) };
}

transfer_table!(groups);

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
        assert_eq!(KERNEL_GROUPS, Mtd::APIC | Mtd::SPACES);
    }

    #[test]
    fn every_byte_of_the_utcb_belongs_to_exactly_one_item() {
        let mut owner = [0u8; size_of::<ArchState>()];
        for item in GROUPS {
            owner[item.offset..][..item.width].iter_mut().for_each(|n| *n += 1);
        }
        for (offset, n) in owner.iter().enumerate() {
            assert_eq!(*n, 1, "byte {offset:#x}");
        }
    }

    #[test]
    fn directions_are_those_of_the_specification() {
        let write_only = Mtd::CTRL | Mtd::TPR | Mtd::APIC | Mtd::SPACES;
        for item in GROUPS {
            assert_eq!(!item.access.reads(), write_only.contains(item.mtd), "{}", item.name);
        }
        let read_only: Vec<_> = GROUPS.iter().filter(|i| !i.access.writes()).map(|i| i.name).collect();
        assert_eq!(read_only, ["inst_len", "inst_info", "qual", "exc_info", "exc_error", "vect_info", "vect_error"]);
    }
}
