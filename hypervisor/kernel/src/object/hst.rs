//! Host space (spec 2.1.2): virtual memory of a protection domain.
//!
//! The user half is one page table, its top level the *master*. Each CPU has a root of its own, because the kernel
//! half differs; it copies the master's top-level entries when a fault shows that one is missing. Tables below the
//! top level are shared and never unlinked while the space lives.

use super::kernel_object;
use super::tables::{self, Tables};
use crate::arch::cpu::{MAX_CPUS, cpu};
use crate::arch::paging;
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, Ref};
use core::sync::atomic::{AtomicU64, Ordering::*};
use ptab::{Change, Full, Hole, Hpt, Leaf, PageTable};
use spin::Mutex;

/// Top-level entries of the user half.
const USER_ENTRIES: usize = 256;
/// End of what can be delegated, as a page number: the last user page is the information page's, or empty. So no
/// instruction ends at the end of user memory, and no return address lies beyond it.
pub const END_PAGE: u64 = (crate::mem::layout::USER_END >> abi::PAGE_BITS) - 1;

/// Host space.
#[repr(C, align(32))]
pub struct HstSpace {
    header: Header,
    table: Mutex<PageTable<Hpt>>,
    master: Page,
    roots: Page,
    /// The NOVA host space: not a page table but all physical memory that may be delegated.
    pub nova: bool,
}
kernel_object!(HstSpace, Hst);

const _: () = assert!(MAX_CPUS * 8 <= abi::PAGE_SIZE);

impl HstSpace {
    /// An empty one.
    pub fn create(nova: bool) -> Option<Ref<HstSpace>> {
        let (master, roots) = (Page::new()?, Page::new()?);
        let format = Hpt { giant: cpu().features.get().giant, nx: true };
        let table = Mutex::new(PageTable::new(master.phys(), format));
        Ref::new(HstSpace { header: Header::new(Self::KIND), table, master, roots, nova })
    }

    fn roots(&self) -> &[AtomicU64; MAX_CPUS] {
        // SAFETY: a zeroed frame that belongs to the space.
        unsafe { self.roots.at().as_ref() }
    }

    /// The root for this CPU, made at first use. `None`: no memory.
    pub fn root(&self) -> Option<u64> {
        let slot = &self.roots()[cpu().id.get() as usize];
        let r = slot.load(Relaxed);
        if r != 0 {
            return Some(r);
        }
        let r = paging::new_root(cpu().pdpt.get())?;
        self.copy_top(r);
        slot.store(r, Relaxed);
        Some(r)
    }

    fn copy_top(&self, root: u64) {
        let master = self.master.phys();
        for i in 0..USER_ENTRIES {
            // SAFETY: entries of the master lead to tables that stay.
            unsafe { paging::write(root, i, paging::read(master, i)) };
        }
    }

    /// Whether a fault at `addr` was only for a top-level entry that this CPU had not copied yet.
    pub fn sync(&self, addr: u64) -> bool {
        let Some(root) = self.root().filter(|_| addr < crate::mem::layout::USER_END) else { return false };
        let i = ptab::top_index(addr >> abi::PAGE_BITS);
        let e = paging::read(self.master.phys(), i);
        let missing = e != 0 && paging::read(root, i) == 0;
        if missing {
            // SAFETY: as in `copy_top`.
            unsafe { paging::write(root, i, e) };
        }
        missing
    }

    /// What is mapped at a page.
    pub fn lookup(&self, page: u64) -> Result<Leaf, Hole> {
        self.table.lock().lookup(&Tables::new(), page)
    }

    /// Maps or revokes 2^order pages; see [`PageTable::update`]. Flushes what this CPU may know.
    pub fn update(&self, page: u64, order: u32, target: Leaf) -> Result<(), Full> {
        let mut mem = Tables::new();
        let r = self.table.lock().update(&mut mem, page, order, target);
        let stale = match &r {
            Ok(c) => matches!(c, Change::Stale),
            Err(f) => f.stale,
        };
        if stale && self.roots()[cpu().id.get() as usize].load(Relaxed) == cpu().cr3.get() {
            // SAFETY: reloading the root that is in use.
            unsafe { paging::set_cr3(cpu().cr3.get()) };
        }
        mem.flushed();
        r.map(|_| ())
    }
}

impl Drop for HstSpace {
    fn drop(&mut self) {
        for r in self.roots() {
            let root = r.load(Relaxed);
            if root == 0 {
                continue;
            }
            if cpu().cr3.get() == root {
                cpu().cr3.set(cpu().bare_root.get());
                // SAFETY: the root without user half.
                unsafe { paging::set_cr3(cpu().bare_root.get()) };
            }
            tables::free(root);
        }
        let mut mem = Tables::new();
        self.table.lock().clear(&mut mem, USER_ENTRIES);
        mem.flushed();
    }
}
