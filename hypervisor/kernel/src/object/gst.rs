//! Guest space (spec 2.1.3): guest-physical memory.

use super::member::Member;
use super::tables::Tables;
use super::{account::Account, kernel_object};
use crate::arch::{cpu::cpu, guest, svm, vmx};
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, PORTION, Part, Progress, Ref};
use crate::remote;
use core::sync::atomic::{AtomicU32, Ordering::*};
use ptab::{Ept, Foreign, Full, Hpt, Leaf, PageTable, spec::ENTRIES};
use sched::CpuSet;
use spin::Mutex;
use switches::Switches;

/// End of guest-physical memory, as a page number: 48 bits, four levels.
pub const END_PAGE: u64 = 1 << (48 - abi::PAGE_BITS);

/// The format of the CPU's vendor.
fn format() -> Foreign {
    if svm::active() {
        Foreign::Npt(Hpt::nested(cpu().uses(Switches::GIANT_PAGES)))
    } else {
        Foreign::Ept(Ept { giant: vmx::ept_giant() })
    }
}

/// Guest space.
#[repr(C, align(32))]
pub struct GstSpace {
    header: Header,
    table: Mutex<PageTable<Foreign>>,
    top: Part<Page>,
    /// Counts the changes after which vCPUs flush (SVM).
    epoch: AtomicU32,
    /// CPUs on which a vCPU has run in the space.
    users: CpuSet,
    member: Member,
}
kernel_object!(GstSpace, Gst, member);

impl GstSpace {
    /// An empty one.
    pub fn create(a: &'static Account) -> Option<Ref<GstSpace>> {
        let top = Page::new(a)?;
        let table = Mutex::new(PageTable::new(top.phys(), format()));
        let (header, top, epoch) = (Header::new(Self::KIND), Part::new(Some(top)), AtomicU32::new(0));
        Ref::new(a, GstSpace { header, table, top, epoch, users: CpuSet::new(), member: Member::new() })
    }

    /// Physical address of the top-level table.
    pub fn root(&self) -> u64 {
        self.top.as_ref().map_or(0, Page::phys)
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
        guest::note_remapped();
        guest::flush_all();
        remote::shoot(&self.users, remote::GUEST);
    }

    /// Gives back a portion of its tables, or at last the rest.
    pub fn strip(&'static self) -> Progress {
        if self.top.as_ref().is_none() {
            return Progress::Done;
        }
        self.flush();
        let mut mem = Tables::none();
        let empty = self.table.lock().prune(&mut mem, ENTRIES, PORTION);
        mem.flushed();
        if !empty {
            return Progress::More;
        }
        // SAFETY: no vCPU runs in the space, and none will.
        drop(unsafe { self.top.take() });
        self.member.leave();
        Progress::Done
    }
}
