//! DMA space (spec 2.1.4): the memory that devices assigned to it reach.
//!
//! It does not own its devices, nor they it: when it goes they are blocked, and then its tables go.

use super::member::Member;
use super::tables::Tables;
use super::{account::Account, kernel_object};
use crate::iommu::{Machine, Target};
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, PORTION, Part, Progress, Ref, account_of};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use ptab::{Dma, Foreign, Format, Full, Leaf, PageTable};
use spin::Mutex;

/// DMA space.
#[repr(C, align(32))]
pub struct DmaSpace {
    header: Header,
    table: Mutex<PageTable<Foreign>>,
    top: Part<Page>,
    domain: u16,
    /// Whether the domain was given back.
    released: AtomicBool,
    machine: &'static Machine,
    member: Member,
}
kernel_object!(DmaSpace, Dma, member);

impl DmaSpace {
    /// An empty one.
    pub fn create(a: &'static Account, machine: &'static Machine) -> Option<Ref<DmaSpace>> {
        let top = Page::new(a)?;
        machine.prepare(top.phys());
        let table = Mutex::new(PageTable::new(top.phys(), Foreign::Dma(machine.format)));
        let domain = machine.take_domain()?;
        let (header, top, released) = (Header::new(Self::KIND), Part::new(Some(top)), AtomicBool::new(false));
        Ref::new(a, DmaSpace { header, table, top, domain, released, machine, member: Member::new() })
    }

    /// End of what devices can name, as a page number.
    pub fn end_page(&self) -> u64 {
        1 << (ptab::spec::INDEX_BITS * self.machine.format.levels)
    }

    /// What a unit has to know.
    pub fn target(&self) -> Target {
        let t = self.table.lock();
        Target { root: t.root(), levels: t.format().levels(), domain: self.domain }
    }

    /// Frames for changes.
    pub fn tables(&self) -> Tables {
        Tables::of_device(account_of(self), self.machine.flush)
    }

    /// Maps or revokes 2^order pages. [`DmaSpace::settle`] has to follow.
    pub fn change(&self, mem: &mut Tables, page: u64, order: u32, target: Leaf) -> Result<(), Full> {
        let r = self.table.lock().update(mem, page, order, Dma::request(target));
        mem.note(r)
    }

    /// Has the units forget what changes have outdated.
    pub fn settle(&self, mem: Tables) {
        if !(mem.stale || self.machine.invalidate_always) || self.machine.units.invalidate(self.domain) {
            mem.flushed();
        }
        // Else a unit may still walk the frames: they are never used again.
    }

    /// Blocks its devices; then gives back a portion of its tables, or at last the rest.
    pub fn strip(&'static self) -> Progress {
        if self.top.as_ref().is_none() {
            return Progress::Done;
        }
        let silent = !self.released.swap(true, Relaxed) && !self.machine.release(self.domain);
        let mut mem = Tables::none();
        if !silent && !self.table.lock().prune(&mut mem, ptab::spec::ENTRIES, PORTION) {
            mem.flushed();
            return Progress::More;
        }
        mem.flushed();
        // SAFETY: no capability leads to the space, and none of its devices.
        let top = unsafe { self.top.take() };
        if silent {
            // A unit that does not answer may still walk the frames: they are never used again.
            top.map(Page::into_phys);
        }
        self.member.leave();
        Progress::Done
    }
}

impl Drop for DmaSpace {
    fn drop(&mut self) {
        // It was never filled in, and has no devices.
        if !*self.released.get_mut() {
            self.machine.release(self.domain);
        }
    }
}
