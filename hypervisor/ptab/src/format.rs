//! Entry formats: x86-64 host tables ([`Hpt`]), which are SVM's nested ones too, and extended page tables ([`Ept`]).
//!
//! Permissions are stored twice: as hardware enforces them, and in ignored bits as they were given, so that
//! [`Format::decode`] loses nothing where hardware is coarser (XU and XS, or writable without readable).
//! Accessed and dirty flags are preset: hardware never writes to an entry, so an entry can be compared whole.
//! Key identifiers of a MAD are not encoded (the HIP announces KIMAX 0).

use crate::Leaf;
use crate::spec::{ADDRESS, INDEX_BITS, PAGE_SIZE, SOFT_PERMS, SOFT_PERMS_SHIFT, ept, host, memory_type};
use abi::Mad;
use abi::perm::Mem;

/// How leaves and table references are laid out in 64-bit entries. An entry of 0 is not present.
pub trait Format: Copy {
    /// Levels of the tree; level 0 holds 4 KiB leaves.
    #[inline]
    fn levels(&self) -> u32 {
        LEVELS
    }
    /// log2 pages of the largest leaf: 0, 9 or 18.
    fn max_order(&self) -> u32;
    /// The entry for a leaf, whose permissions are not empty.
    fn leaf(&self, l: Leaf) -> u64;
    /// The entry of a table at `level` that refers to a table below.
    fn table(&self, phys: u64, level: u32) -> u64;
    /// Whether hardware uses the entry.
    fn present(&self, e: u64) -> bool;
    /// Whether a present entry of a table at `level` is a leaf. Always true at level 0.
    #[inline]
    fn is_leaf(&self, e: u64, level: u32) -> bool {
        level == 0 || e & PAGE_SIZE != 0
    }
    /// The leaf that [`Format::leaf`] encoded.
    fn decode(&self, e: u64, level: u32) -> Leaf;
    /// The table that [`Format::table`] encoded.
    #[inline]
    fn table_phys(&self, e: u64) -> u64 {
        e & ADDRESS
    }
}

/// Levels of the formats of this file.
const LEVELS: u32 = 4;

/// PAT indices by [`Mad`] cacheability (WB, WT, WC, UC, WP), with [`IA32_PAT`].
const PAT_INDEX: [u8; 5] = [0, 1, 4, 3, 5];
/// [`Mad`] cacheability by PAT index; the aliases 2, 6 and 7 are never encoded.
const FROM_PAT: [Mad; 8] = [Mad::WB, Mad::WT, Mad::UC, Mad::UC, Mad::WC, Mad::WP, Mad::UC, Mad::UC];

/// Value of IA32_PAT that [`Hpt`] counts on.
///
/// Index 0 WB, 1 WT, 2 UC-, 3 UC as after reset; 4 WC, 5 WP; 6 UC- and 7 UC as after reset.
pub const IA32_PAT: u64 = {
    use memory_type::{UC, UC_MINUS, WB, WC, WP, WT};
    let types = [WB, WT, UC_MINUS, UC, WC, WP, UC_MINUS, UC];
    let (mut pat, mut i) = (0, 0);
    while i < types.len() {
        pat |= types[i] << (8 * i);
        i += 1;
    }
    pat
};

/// Memory types by [`Mad`] cacheability.
const EPT_TYPE: [u64; 5] = {
    use memory_type::{UC, WB, WC, WP, WT};
    [WB, WT, WC, UC, WP]
};
/// [`Mad`] cacheability by memory type; the others are reserved.
const FROM_EPT: [Mad; 8] = [Mad::UC, Mad::WC, Mad::UC, Mad::UC, Mad::WT, Mad::WP, Mad::WB, Mad::UC];

/// Entry of `table` for the cacheability of a MAD. Reserved encodings act as strong uncacheable.
fn by_cacheability<T: Copy>(table: &[T; 5], mad: Mad) -> T {
    table.get(mad.cacheability() as usize).copied().unwrap_or(table[Mad::UC.0 as usize])
}

/// `bit` where `set`.
#[inline]
pub(crate) const fn bit_if(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

/// The part that both formats share: address, size and the copy of the permissions.
#[inline]
fn shared_bits(l: &Leaf) -> u64 {
    l.phys & ADDRESS | bit_if(l.order > 0, PAGE_SIZE) | u64::from(l.perms.bits() & SOFT_PERMS) << SOFT_PERMS_SHIFT
}

#[inline]
fn soft_perms(e: u64) -> Mem {
    Mem::from_bits_retain((e >> SOFT_PERMS_SHIFT) as u8 & SOFT_PERMS)
}

/// Physical address of a leaf: bits below its size are attributes.
#[inline]
pub(crate) fn leaf_phys(e: u64, level: u32) -> u64 {
    e & ADDRESS & (u64::MAX << (abi::PAGE_BITS + INDEX_BITS * level))
}

/// Host page tables for pages of user mode, and what SVM has for guests. IA32_EFER.NXE is set.
///
/// Anything present is readable: hardware has no way to express less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hpt {
    giant: bool,
    /// Any of these makes a page executable.
    executable: Mem,
}

impl Hpt {
    /// Tables of a host space. `giant`: 1 GiB leaves are supported (CPUID 8000_0001h, EDX bit 26).
    pub const fn host(giant: bool) -> Hpt {
        Hpt { giant, executable: Mem::XU }
    }

    /// Nested page tables of SVM (AMD APM vol. 2, 15.25): those of the host, walked as user accesses, but that a page is
    /// executable for guests if it is for either mode.
    pub const fn nested(giant: bool) -> Hpt {
        Hpt { giant, executable: Mem::XU.union(Mem::XS) }
    }
}

impl Format for Hpt {
    #[inline]
    fn max_order(&self) -> u32 {
        if self.giant { 18 } else { 9 }
    }

    #[inline]
    fn leaf(&self, l: Leaf) -> u64 {
        let pat = by_cacheability(&PAT_INDEX, l.mad);
        let pat_2 = if l.order > 0 { host::PAT_LARGE } else { host::PAT };
        let nx = !l.perms.intersects(self.executable);
        shared_bits(&l)
            | (host::P | host::US | host::A)
            | bit_if(l.perms.contains(Mem::W), host::RW | host::D)
            | bit_if(nx, host::NX)
            | bit_if(pat & 1 != 0, host::PWT)
            | bit_if(pat & 2 != 0, host::PCD)
            | bit_if(pat & 4 != 0, pat_2)
    }

    #[inline]
    fn table(&self, phys: u64, _: u32) -> u64 {
        phys & ADDRESS | host::P | host::RW | host::US | host::A
    }

    #[inline]
    fn present(&self, e: u64) -> bool {
        e & host::P != 0
    }

    #[inline]
    fn decode(&self, e: u64, level: u32) -> Leaf {
        let pat_2 = if level > 0 { host::PAT_LARGE } else { host::PAT };
        let pat = (e >> 3 & 3) as usize | usize::from(e & pat_2 != 0) << 2;
        Leaf { phys: leaf_phys(e, level), order: INDEX_BITS * level, perms: soft_perms(e), mad: FROM_PAT[pat] }
    }
}

/// Extended page tables. The guest's PAT is honoured (ignore-PAT 0).
///
/// Anything present is readable: writable without readable is a misconfiguration, and execute-only is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ept {
    /// 1 GiB leaves are supported (IA32_VMX_EPT_VPID_CAP bit 17).
    pub giant: bool,
}

impl Format for Ept {
    #[inline]
    fn max_order(&self) -> u32 {
        if self.giant { 18 } else { 9 }
    }

    #[inline]
    fn leaf(&self, l: Leaf) -> u64 {
        shared_bits(&l)
            | (ept::R | ept::A)
            | bit_if(l.perms.contains(Mem::W), ept::W | ept::D)
            | bit_if(l.perms.intersects(Mem::XU.union(Mem::XS)), ept::X)
            | by_cacheability(&EPT_TYPE, l.mad) << ept::TYPE_SHIFT
    }

    #[inline]
    fn table(&self, phys: u64, _: u32) -> u64 {
        phys & ADDRESS | ept::R | ept::W | ept::X | ept::A
    }

    #[inline]
    fn present(&self, e: u64) -> bool {
        e & (ept::R | ept::W | ept::X) != 0
    }

    #[inline]
    fn decode(&self, e: u64, level: u32) -> Leaf {
        let mad = FROM_EPT[(e >> ept::TYPE_SHIFT & 7) as usize];
        Leaf { phys: leaf_phys(e, level), order: INDEX_BITS * level, perms: soft_perms(e), mad }
    }
}
