//! The tables of guest and DMA spaces as one format ([`Foreign`]): which it is shows when the machine is known. So the engine
//! is there twice and not once for each: for these, and for host spaces, whose tables are changed most.

use crate::{Dma, Ept, Format, Hpt, Leaf};

/// Tables that are no host space's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Of a guest on VT-x.
    Ept(Ept),
    /// Of a guest on SVM.
    Npt(Hpt),
    /// Of devices.
    Dma(Dma),
}

/// The same of whichever it is.
macro_rules! of {
    ($self:ident, $f:ident => $value:expr) => {
        match $self {
            Foreign::Ept($f) => $value,
            Foreign::Npt($f) => $value,
            Foreign::Dma($f) => $value,
        }
    };
}

impl Format for Foreign {
    fn levels(&self) -> u32 {
        of!(self, f => f.levels())
    }

    fn max_order(&self) -> u32 {
        of!(self, f => f.max_order())
    }

    fn leaf(&self, l: Leaf) -> u64 {
        of!(self, f => f.leaf(l))
    }

    fn table(&self, phys: u64, level: u32) -> u64 {
        of!(self, f => f.table(phys, level))
    }

    fn present(&self, e: u64) -> bool {
        of!(self, f => f.present(e))
    }

    fn is_leaf(&self, e: u64, level: u32) -> bool {
        of!(self, f => f.is_leaf(e, level))
    }

    fn decode(&self, e: u64, level: u32) -> Leaf {
        of!(self, f => f.decode(e, level))
    }
}
