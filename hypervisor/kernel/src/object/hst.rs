//! Host space (spec 2.1.2): virtual memory of a protection domain.
//!
//! The user half is one page table, its top level the *master*. Each CPU has a root of its own, because the kernel
//! half differs; it is made for the first EC on that CPU, and copies the master's top-level entries when a fault shows that one is missing. Tables below the
//! top level are shared and never unlinked while the space lives.
//!
//! Where the CPU has PCIDs each space has one, and a switch flushes only if the space was changed since it was last in
//! use on that CPU.

use super::member::Member;
use super::tables::{self, Tables};
use super::{account::Account, kernel_object};
use crate::arch::cpu::cpu;
use crate::arch::{guest, paging};
use crate::boot::cpus_online;
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, PORTION, Part, Progress, Ref, account_of};
use crate::mem::tags::Tags;
use crate::remote;
use abi::{Mad, perm::Mem};
use ptab::{Full, Hole, Hpt, Leaf, PageTable};
use sched::{CpuSet, MAX_CPUS};
use smp::Root;
use spin::Mutex;
use switches::Switches;

/// Top-level entries of the user half.
const USER_ENTRIES: usize = 256;
/// End of what can be delegated, as a page number: the last user page is the information page's, or empty. So no
/// instruction ends at the end of user memory, and no return address lies beyond it.
pub const END_PAGE: u64 = (crate::mem::layout::USER_END >> abi::PAGE_BITS) - 1;

static PCIDS: Tags<4096> = Tags::new();

/// Host space.
#[repr(C, align(32))]
pub struct HstSpace {
    header: Header,
    table: Mutex<PageTable<Hpt>>,
    master: Part<Page>,
    /// For each CPU its [`Root`].
    roots: Page,
    pcid: u64,
    /// The NOVA host space: not a page table but all physical memory that may be delegated.
    pub nova: bool,
    member: Member,
}
kernel_object!(HstSpace, Hst, member);

/// A root for a CPU that has none.
pub struct NewRoot(Option<Page>);

const _: () = assert!(MAX_CPUS * 8 <= abi::PAGE_SIZE);

impl HstSpace {
    /// An empty one.
    pub fn create(a: &'static Account, nova: bool) -> Option<Ref<HstSpace>> {
        let (master, roots) = (Page::new(a)?, Page::new(a)?);
        let format = Hpt::host(cpu().uses(Switches::GIANT_PAGES));
        let table = Mutex::new(PageTable::new(master.phys(), format));
        // Without one of its own the space has PCID 0, which is flushed at every switch.
        let pcid = if cpu().uses(Switches::PCID) { PCIDS.take().unwrap_or(0) as u64 } else { 0 };
        let (header, master) = (Header::new(Self::KIND), Part::new(Some(master)));
        Ref::new(a, HstSpace { header, table, master, roots, pcid, nova, member: Member::new() })
    }

    fn roots(&self) -> &[Root; MAX_CPUS] {
        // SAFETY: a zeroed frame that belongs to the space.
        unsafe { self.roots.at().as_ref() }
    }

    fn slot(&self) -> &Root {
        &self.roots()[cpu().id.get() as usize]
    }

    /// A root for a CPU, if that has none yet. `None`: no memory.
    pub fn new_root(&self, cpu: u16) -> Option<NewRoot> {
        if self.roots()[cpu as usize].get().is_some() {
            return Some(NewRoot(None));
        }
        let root = paging::new_root(account_of(self), remote::pdpt_of(cpu))?;
        self.copy_top(root.phys());
        Some(NewRoot(Some(root)))
    }

    /// Gives a CPU its root, unless another one was faster.
    pub fn set_root(&self, cpu: u16, root: NewRoot) {
        let Some(root) = root.0 else { return };
        if self.roots()[cpu as usize].make(root.phys()) {
            root.into_phys();
        }
    }

    /// CR3 for a CPU: its root, the PCID, and that this keeps its translations. `None`: no EC of that CPU was created in
    /// the space.
    pub fn cr3_of(&self, cpu: u16) -> Option<u64> {
        let keep = if self.pcid == 0 { 0 } else { paging::NO_FLUSH };
        self.roots()[cpu as usize].get().map(|r| r | self.pcid | keep)
    }

    /// The mark that a CPU's translations are old; stays where it is as long as the space's memory.
    pub fn root_of(&self, cpu: u16) -> *const Root {
        &raw const self.roots()[cpu as usize]
    }

    /// Switches this CPU to the space, whose root here has that CR3. `false`: it is destroyed, or there is none (0).
    pub fn enter(&self, cr3: u64) -> bool {
        let c = cpu();
        if cr3 == 0 {
            return false;
        }
        if self.header.doomed() {
            if c.cr3.get() == cr3 {
                paging::enter_bare();
            }
            return false;
        }
        let moves = c.cr3.replace(cr3) != cr3;
        if moves {
            // Before the mark is looked at: who sets it sees that this CPU is in the space, or this CPU sees the mark.
            remote::presence().enter(cr3);
            guest::leave_space();
        }
        let stale = (moves || self.slot().is_stale()) && self.slot().take_stale();
        if moves || stale {
            // SAFETY: a root of this CPU.
            unsafe { paging::set_cr3(if stale { cr3 & !paging::NO_FLUSH } else { cr3 }) };
            remote::presence().entered();
        }
        true
    }

    /// Switches this CPU to the space, of which `root` is the mark here, as the fast path does. `false`: that is to be gone
    /// about in the usual way, as it was changed or is destroyed.
    #[inline(always)]
    pub fn enter_at_once(cr3: u64, root: *const Root) -> bool {
        let c = cpu();
        if c.cr3.get() == cr3 {
            return true;
        }
        remote::presence().enter(cr3);
        // SAFETY: a root of this CPU.
        unsafe { paging::set_cr3(cr3) };
        remote::presence().entered();
        c.cr3.set(cr3);
        // SAFETY: it stays as long as somebody names the space. CR3 was a fence: see `smp`.
        !unsafe { &*root }.is_stale()
    }

    /// Translations were changed or removed: has all CPUs flush at their next switch to the space, and those that are in
    /// it leave it now.
    fn outdate(&self) {
        Root::outdate(self.roots().iter().take(cpus_online().into()));
        self.expel();
    }

    /// Has all CPUs leave the space.
    fn expel(&self) {
        let inside = CpuSet::new();
        for (i, r) in self.roots().iter().enumerate() {
            if r.get().is_some_and(|r| remote::is_in(i, r)) {
                inside.insert(i);
            }
        }
        if inside.contains(cpu().id.get().into()) {
            paging::enter_bare();
        }
        remote::shoot(&inside, remote::HOST);
    }

    fn copy_top(&self, root: u64) {
        let Some(master) = self.master.as_ref().map(Page::phys) else { return };
        for i in 0..USER_ENTRIES {
            // SAFETY: entries of the master lead to tables that stay.
            unsafe { paging::write(root, i, paging::read(master, i)) };
        }
    }

    /// Whether a fault at `addr` was only for a top-level entry that this CPU had not copied yet.
    pub fn sync(&self, addr: u64) -> bool {
        let user = addr < crate::mem::layout::USER_END && !self.header.doomed();
        let Some(root) = self.slot().get().filter(|_| user) else { return false };
        let (i, Some(master)) = (ptab::top_index(addr >> abi::PAGE_BITS), self.master.as_ref()) else { return false };
        let e = paging::read(master.phys(), i);
        let missing = e != 0 && paging::read(root, i) == 0;
        if missing {
            // SAFETY: as in `copy_top`.
            unsafe { paging::write(root, i, e) };
        }
        missing
    }

    /// What is mapped at a page.
    pub fn lookup(&self, page: u64) -> Result<Leaf, Hole> {
        self.table.lock().lookup(&Tables::none(), page)
    }

    /// Maps or revokes 2^order pages; see [`PageTable::update`]. [`HstSpace::settle`] has to follow.
    pub fn change(&self, mem: &mut Tables, page: u64, order: u32, target: Leaf) -> Result<(), Full> {
        let mut t = self.table.lock();
        let at_once = if order == 0 { t.update_page(mem, page, target) } else { None };
        let r = at_once.map_or_else(|| t.update(mem, page, order, target), Ok);
        mem.note(r)
    }

    /// Flushes what changes have outdated. May wait for other CPUs: no lock may be held.
    pub fn settle(&self, mem: Tables) {
        if mem.stale {
            self.outdate();
        }
        mem.flushed();
    }

    /// Maps a frame of the kernel for user mode to read and write. `None`: no memory, and nothing has changed.
    pub fn map_page(&self, page: u64, phys: u64) -> Option<()> {
        self.update(page, 0, Leaf { phys, order: 0, perms: Mem::R | Mem::W, mad: Mad::WB }).ok()
    }

    /// Takes it out again if it is still there.
    pub fn unmap_page(&self, page: u64, phys: u64) {
        if !self.header.doomed() && self.lookup(page).is_ok_and(|l| l.phys == phys) {
            // Revoking a single page that is mapped as such needs no memory.
            let _ = self.update(page, 0, Leaf { phys: 0, order: 0, perms: Mem::empty(), mad: Mad::WB });
        }
    }

    /// Both, for one change.
    pub fn update(&self, page: u64, order: u32, target: Leaf) -> Result<(), Full> {
        let mut mem = Tables::of(account_of(self));
        let r = self.change(&mut mem, page, order, target);
        self.settle(mem);
        r
    }

    /// It is destroyed: who enters it looks at its mark, and goes on from there.
    pub fn close(&self) {
        self.outdate();
    }

    /// Gives back a portion of its tables, or at last the uppermost. Roots stay, empty, for as long as ECs name them.
    pub fn strip(&'static self) -> Progress {
        if self.master.as_ref().is_none() {
            return Progress::Done;
        }
        self.expel();
        let mut mem = Tables::none();
        let empty = self.table.lock().prune(&mut mem, USER_ENTRIES, PORTION);
        mem.flushed();
        if !empty {
            return Progress::More;
        }
        for root in self.roots().iter().filter_map(Root::get) {
            // SAFETY: no CPU is in the space; one that tries to enter it touches no user memory.
            (0..USER_ENTRIES).for_each(|i| unsafe { paging::write(root, i, 0) });
        }
        // SAFETY: as above.
        drop(unsafe { self.master.take() });
        self.member.leave();
        Progress::Done
    }
}

impl Drop for HstSpace {
    /// No EC is bound to it any more.
    fn drop(&mut self) {
        self.expel();
        self.roots().iter().filter_map(Root::get).for_each(tables::free);
        // The next owner of the PCID starts stale on every CPU.
        PCIDS.give(self.pcid as u16);
    }
}
