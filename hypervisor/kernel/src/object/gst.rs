//! Guest space (spec 2.1.3): guest-physical memory.

use super::kernel_object;
use super::tables::Tables;
use crate::arch::vmx;
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, Ref};
use ptab::{Change, Ept, Full, Leaf, PageTable};
use spin::Mutex;

/// End of guest-physical memory, as a page number: 48 bits, four levels.
pub const END_PAGE: u64 = 1 << (48 - abi::PAGE_BITS);

/// Guest space.
#[repr(C, align(32))]
pub struct GstSpace {
    header: Header,
    table: Mutex<PageTable<Ept>>,
    top: Page,
}
kernel_object!(GstSpace, Gst);

impl GstSpace {
    /// An empty one.
    pub fn create() -> Option<Ref<GstSpace>> {
        let top = Page::new()?;
        let table = Mutex::new(PageTable::new(top.phys(), Ept { giant: vmx::ept_giant() }));
        Ref::new(GstSpace { header: Header::new(Self::KIND), table, top })
    }

    /// Physical address of the top-level table.
    pub fn root(&self) -> u64 {
        self.top.phys()
    }

    /// Maps or revokes 2^order pages and flushes.
    pub fn update(&self, page: u64, order: u32, target: Leaf) -> Result<(), Full> {
        let mut mem = Tables::new();
        let r = self.table.lock().update(&mut mem, page, order, target);
        let stale = match &r {
            Ok(c) => matches!(c, Change::Stale),
            Err(f) => f.stale,
        };
        if stale {
            vmx::flush_guest_space(self.root());
        }
        mem.flushed();
        r.map(|_| ())
    }
}

impl Drop for GstSpace {
    fn drop(&mut self) {
        vmx::flush_guest_space(self.root());
        let mut mem = Tables::new();
        self.table.lock().clear(&mut mem, 512);
        mem.flushed();
    }
}
