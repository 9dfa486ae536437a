//! DMA space (spec 2.1.4): the memory that devices assigned to it reach.
//!
//! It does not own its devices, nor they it: when it goes they are blocked, and then its tables go.

use super::tables::Tables;
use super::{account::Account, kernel_object};
use crate::iommu::{Machine, Target};
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, Ref, account_of};
use ptab::{Dma, Full, Leaf, PageTable};
use spin::Mutex;

/// DMA space.
#[repr(C, align(32))]
pub struct DmaSpace {
    header: Header,
    table: Mutex<PageTable<Dma>>,
    /// `None` once a unit that does not answer may still walk it.
    top: Option<Page>,
    domain: u16,
    units: &'static Machine,
}
kernel_object!(DmaSpace, Dma);

impl DmaSpace {
    /// An empty one.
    pub fn create(a: &'static Account, units: &'static Machine) -> Option<Ref<DmaSpace>> {
        let top = Page::new(a)?;
        units.prepare(top.phys());
        let table = Mutex::new(PageTable::new(top.phys(), units.format));
        let domain = units.take_domain()?;
        Ref::new(a, DmaSpace { header: Header::new(Self::KIND), table, top: Some(top), domain, units })
    }

    /// End of what devices can name, as a page number.
    pub fn end_page(&self) -> u64 {
        1 << (ptab::spec::INDEX_BITS * self.units.format.levels)
    }

    /// What a unit has to know.
    pub fn target(&self) -> Target {
        let t = self.table.lock();
        Target { root: t.root(), levels: t.format().levels, domain: self.domain }
    }

    /// Frames for changes.
    pub fn tables(&self) -> Tables {
        Tables::of_device(account_of(self), self.units.flush)
    }

    /// Maps or revokes 2^order pages. [`DmaSpace::settle`] has to follow.
    pub fn change(&self, mem: &mut Tables, page: u64, order: u32, target: Leaf) -> Result<(), Full> {
        let r = self.table.lock().update(mem, page, order, Dma::request(target));
        mem.note(r)
    }

    /// Has the units forget what changes have outdated.
    pub fn settle(&self, mem: Tables) {
        if !(mem.stale || self.units.invalidate_always) || self.units.invalidate(self.domain) {
            mem.flushed();
        }
        // Else a unit may still walk the frames: they are never used again.
    }
}

impl Drop for DmaSpace {
    fn drop(&mut self) {
        if !self.units.release(self.domain) {
            self.top.take().map(Page::into_phys);
            return;
        }
        let mut mem = Tables::none();
        self.table.lock().clear(&mut mem, ptab::spec::ENTRIES);
        mem.flushed();
    }
}
