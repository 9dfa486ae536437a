//! Entry format of DMA spaces ([`Dma`]): second-level tables of VT-d, v1 tables of AMD-Vi.
//!
//! Devices read and write, no more: other permissions and memory attributes are not stored, because a DMA space is never
//! a source. [`Dma::request`] takes them off, so that what is stored compares equal to what was asked for.

use crate::format::{bit_if, leaf_phys};
use crate::spec::{ADDRESS, INDEX_BITS, PAGE_SIZE, amdvi, vtd};
use crate::{Format, Leaf};
use abi::Mad;
use abi::perm::Mem;

/// What walks the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walker {
    /// VT-d.
    Vtd,
    /// AMD-Vi.
    AmdVi,
}

/// Tables for devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dma {
    /// Who walks them.
    pub walker: Walker,
    /// Levels: 3, 4 or 5.
    pub levels: u32,
    /// log2 pages of the largest leaf: 0, 9 or 18.
    pub max_order: u32,
}

impl Dma {
    /// What a DMA space stores of a leaf.
    pub fn request(l: Leaf) -> Leaf {
        Leaf { perms: l.perms & (Mem::R | Mem::W), mad: Mad::WB, ..l }
    }

    /// Bits for reading, for writing, and for an entry that is there.
    const fn bits(&self) -> (u64, u64, u64) {
        match self.walker {
            Walker::Vtd => (vtd::R, vtd::W, vtd::R | vtd::W),
            Walker::AmdVi => (amdvi::IR, amdvi::IW, amdvi::PR),
        }
    }
}

impl Format for Dma {
    #[inline]
    fn levels(&self) -> u32 {
        self.levels
    }

    #[inline]
    fn max_order(&self) -> u32 {
        self.max_order
    }

    fn leaf(&self, l: Leaf) -> u64 {
        let (r, w, _) = self.bits();
        let access = bit_if(l.perms.contains(Mem::R), r) | bit_if(l.perms.contains(Mem::W), w);
        let kind = match self.walker {
            Walker::Vtd => bit_if(l.order > 0, PAGE_SIZE),
            Walker::AmdVi => amdvi::PR | amdvi::FC,
        };
        l.phys & ADDRESS | access | kind
    }

    fn table(&self, phys: u64, level: u32) -> u64 {
        let (r, w, _) = self.bits();
        let kind = match self.walker {
            Walker::Vtd => 0,
            Walker::AmdVi => amdvi::PR | u64::from(level) << amdvi::NEXT_LEVEL_SHIFT,
        };
        phys & ADDRESS | r | w | kind
    }

    #[inline]
    fn present(&self, e: u64) -> bool {
        e & self.bits().2 != 0
    }

    #[inline]
    fn is_leaf(&self, e: u64, level: u32) -> bool {
        match self.walker {
            Walker::Vtd => level == 0 || e & PAGE_SIZE != 0,
            Walker::AmdVi => e & amdvi::NEXT_LEVEL == 0,
        }
    }

    fn decode(&self, e: u64, level: u32) -> Leaf {
        let (r, w, _) = self.bits();
        let mut perms = Mem::empty();
        perms.set(Mem::R, e & r != 0);
        perms.set(Mem::W, e & w != 0);
        Leaf { phys: leaf_phys(e, level), order: INDEX_BITS * level, perms, mad: Mad::WB }
    }
}
