//! Guest space (spec 2.1.3): guest-physical memory.

use super::tables::Tables;
use super::{account::Account, kernel_object};
use crate::arch::{cpu::cpu, guest, svm, vmx};
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, Ref};
use crate::remote;
use core::sync::atomic::{AtomicU32, Ordering::*};
use ptab::{Change, Ept, Full, Leaf, Npt, PageTable};
use sched::CpuSet;
use spin::Mutex;

/// End of guest-physical memory, as a page number: 48 bits, four levels.
pub const END_PAGE: u64 = 1 << (48 - abi::PAGE_BITS);

/// A nested page table in the format of the CPU's vendor.
enum Nested {
    Ept(PageTable<Ept>),
    Npt(PageTable<Npt>),
}

impl Nested {
    fn new(root: u64) -> Nested {
        if svm::active() {
            Nested::Npt(PageTable::new(root, Npt { giant: cpu().features.get().giant }))
        } else {
            Nested::Ept(PageTable::new(root, Ept { giant: vmx::ept_giant() }))
        }
    }

    fn update(&mut self, mem: &mut Tables, page: u64, order: u32, target: Leaf) -> Result<Change, Full> {
        match self {
            Nested::Ept(t) => t.update(mem, page, order, target),
            Nested::Npt(t) => t.update(mem, page, order, target),
        }
    }

    fn clear(&mut self, mem: &mut Tables) {
        match self {
            Nested::Ept(t) => t.clear(mem, 512),
            Nested::Npt(t) => t.clear(mem, 512),
        }
    }
}

/// Guest space.
#[repr(C, align(32))]
pub struct GstSpace {
    header: Header,
    table: Mutex<Nested>,
    top: Page,
    /// Counts the changes after which vCPUs flush (SVM).
    epoch: AtomicU32,
    /// CPUs on which a vCPU has run in the space.
    users: CpuSet,
}
kernel_object!(GstSpace, Gst);

impl GstSpace {
    /// An empty one.
    pub fn create(a: &'static Account) -> Option<Ref<GstSpace>> {
        let top = Page::new(a)?;
        let table = Mutex::new(Nested::new(top.phys()));
        let (header, epoch, users) = (Header::new(Self::KIND), AtomicU32::new(0), CpuSet::new());
        Ref::new(a, GstSpace { header, table, top, epoch, users })
    }

    /// Physical address of the top-level table.
    pub fn root(&self) -> u64 {
        self.top.phys()
    }

    /// Number of changes that vCPUs have to flush for.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    /// This CPU is about to run a vCPU in the space.
    pub fn join(&self) {
        self.users.insert(cpu().id.get().into());
    }

    /// Maps or revokes 2^order pages. [`GstSpace::settle`] has to follow.
    pub fn change(&self, mem: &mut Tables, page: u64, order: u32, target: Leaf) -> Result<(), Full> {
        let r = self.table.lock().update(mem, page, order, target);
        mem.note(r)
    }

    /// Flushes what changes have outdated. May wait for other CPUs: no lock may be held.
    pub fn settle(&self, mem: Tables) {
        if mem.stale {
            self.flush();
        }
        mem.flushed();
    }

    fn flush(&self) {
        self.epoch.fetch_add(1, SeqCst);
        guest::flush_all();
        remote::shoot(&self.users, remote::GUEST);
    }
}

impl Drop for GstSpace {
    fn drop(&mut self) {
        self.flush();
        let mut mem = Tables::none();
        self.table.lock().clear(&mut mem);
        mem.flushed();
    }
}
