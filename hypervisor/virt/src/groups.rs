//! [`transfer_table`](crate::transfer_table) as a list, for tests.

use crate::transfer_table;
use abi::{ArchState, Mtd};
use core::mem::{offset_of, size_of_val};

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
