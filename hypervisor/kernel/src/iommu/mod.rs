//! IOMMUs (docs/design/0011): all devices are blocked from boot on, until `assign_dev` lets one reach a DMA space.
//!
//! Firmware's tables are read by [`found_vtd`], [`init`] turns the units on, all of them or none. Which device is in which
//! domain stands in the units' own tables only. Layouts, decoding and the rate limit are the crate `iommu`.

mod faults;
mod mmio;
mod vtd;

use crate::arch::interrupt;
use crate::boot::memory;
use crate::mem::{pool::Page, tags::Tags};
use crate::object::account::KERNEL;
use crate::say;
use ::iommu::vtd::{MASKED, choose_levels, interrupt_entry};
use ::iommu::{Requester, dmar};
use abi::Features;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
pub use faults::{interrupt, resume, resume_at};
pub use mmio::{flush_table, store};
use ptab::{Dma, Walker};
use spin::{Mutex, Once};

const MAX_UNITS: usize = 16;
/// log2 entries of the interrupt table, which is a frame.
const INTERRUPT_ORDER: u32 = 8;
/// Its entries.
pub const INTERRUPTS: usize = 1 << INTERRUPT_ORDER;
/// IOAPICs by identifier, and as what they appear.
static IOAPICS: Mutex<[Option<(u8, Requester)>; MAX_UNITS]> = Mutex::new([None; MAX_UNITS]);
/// Numbers of domains; 0 is nobody's.
static DOMAINS: Tags<4096> = Tags::new();
static FOUND: Mutex<[Option<Found>; MAX_UNITS]> = Mutex::new([const { None }; MAX_UNITS]);
static TOO_MANY: AtomicBool = AtomicBool::new(false);
static MACHINE: Once<Machine> = Once::new();

/// A unit that firmware names.
#[derive(Clone, Copy)]
struct Found {
    base: u64,
    pages: u64,
    segment: u16,
}

struct Unit {
    base: u64,
    segment: u16,
    hw: vtd::Unit,
}

/// The units, all of which are on, and what they have in common.
pub struct Machine {
    units: [Option<Unit>; MAX_UNITS],
    /// Format of page tables.
    pub format: Dma,
    /// So many domains are there.
    domains: u32,
    /// The interrupt table, where all units remap. Who writes an entry holds the lock.
    interrupts: Mutex<Option<u64>>,
    /// Its entries name local APICs in 32 bits.
    pub wide: bool,
    /// Entries that were not present have to be invalidated, too.
    pub invalidate_always: bool,
    /// What the units read has to be flushed from the cache.
    pub flush: bool,
}

/// Page table and domain that a device is to use.
#[derive(Clone, Copy)]
pub struct Target {
    /// Physical address of the top-level table.
    pub root: u64,
    /// Its levels.
    pub levels: u32,
    /// The domain.
    pub domain: u16,
}

/// Why a device was not assigned.
pub enum Refusal {
    /// There is no such unit, or no such device at it.
    Absent,
    /// No memory for the unit's tables.
    Memory,
    /// The unit does not answer. The device is blocked as far as the unit is concerned.
    Silent,
}

/// The IOMMUs, if they are on.
pub fn machine() -> Option<&'static Machine> {
    MACHINE.get()
}

/// The requester that an IOAPIC appears as; `None`: firmware does not say.
pub fn ioapic(id: u8) -> Option<Requester> {
    IOAPICS.lock().iter().flatten().find(|(i, _)| *i == id).map(|(_, r)| *r)
}

/// What the information page says.
pub fn features() -> Features {
    if machine().is_some() { Features::IOMMU } else { Features::empty() }
}

/// Takes note of what a DMAR table names.
pub fn found_vtd(table: &[u8]) {
    for s in dmar::structures(table) {
        match s {
            dmar::Structure::Unit { segment, base, pages, scopes } => {
                for s in scopes.filter(|s| s.direct) {
                    let mut list = IOAPICS.lock();
                    if let (Some(free), Some(id)) = (list.iter_mut().find(|i| i.is_none()), s.ioapic) {
                        *free = Some((id, s.first));
                    }
                }
                match FOUND.lock().iter_mut().find(|f| f.is_none()) {
                    Some(free) => *free = Some(Found { base, pages, segment }),
                    None => TOO_MANY.store(true, Relaxed),
                }
            }
            dmar::Structure::Reserved { base, limit, scopes, .. } => {
                for s in scopes {
                    say!("firmware wants DMA of {} to {base:#x}-{limit:#x}: blocked", s.first);
                }
            }
        }
    }
}

/// Turns all units on. From then on no device reaches memory.
pub fn init() {
    let found = *FOUND.lock();
    if found[0].is_none() {
        return;
    }
    if TOO_MANY.load(Relaxed) {
        return say!("no IOMMU is used: there are more than {MAX_UNITS}");
    }
    for f in found.iter().flatten() {
        memory::protect(f.base, f.base + (f.pages << abi::PAGE_BITS));
    }
    match build(&found) {
        Ok(m) => {
            let n = m.units.iter().flatten().count();
            let interrupts = if m.remaps() { ", interrupts are remapped" } else { "" };
            say!("VT-d: {} levels, IOMMUs: {n}{interrupts}; all devices are blocked", m.format.levels);
            MACHINE.call_once(|| m);
        }
        Err(why) => say!("no IOMMU is used: {why}"),
    }
}

fn build(found: &[Option<Found>; MAX_UNITS]) -> Result<Machine, &'static str> {
    let mut units = [const { None }; MAX_UNITS];
    let (mut levels, mut max_order, mut domains) = (u32::MAX, 18, 1 << 16);
    let (mut invalidate_always, mut flush) = (false, false);
    let (mut remap, mut wide) = (true, interrupt::wide_apics());
    for (i, f) in found.iter().enumerate() {
        let Some(f) = f else { continue };
        let hw = vtd::Unit::examine(f.base, f.pages)?;
        let a = hw.abilities;
        levels &= a.levels();
        max_order = max_order.min(a.max_order());
        domains = domains.min(a.domains());
        invalidate_always |= a.invalidate_always();
        flush |= !a.coherent();
        remap &= a.interrupts();
        wide &= a.wide_apics();
        units[i] = Some(Unit { base: f.base, segment: f.segment, hw });
    }
    let levels = choose_levels(levels).ok_or("they have no table format in common")?;
    let all = || units.iter().flatten().map(|u: &Unit| &u.hw);
    let line = interrupt::fault_message();
    let interrupts = match remap {
        true => Some(table(&KERNEL, flush).ok_or("there is no memory for their tables")?),
        false => None,
    };
    let register = interrupts.map(|t| ::iommu::vtd::interrupt_table(t, INTERRUPT_ORDER, wide));
    if let Err(why) = all().try_for_each(|u| u.enable(line, register)) {
        all().for_each(vtd::Unit::disable);
        return Err(why);
    }
    let format = Dma { walker: Walker::Vtd, levels, max_order };
    Ok(Machine { units, format, domains, interrupts: Mutex::new(interrupts), wide, invalidate_always, flush })
}

impl Machine {
    fn all(&self) -> impl Iterator<Item = &vtd::Unit> {
        self.units.iter().flatten().map(|u| &u.hw)
    }

    /// Whether all units have done it; all are told to.
    fn each(&self, f: impl Fn(&vtd::Unit) -> bool) -> bool {
        self.all().filter(|u| !f(u)).count() == 0
    }

    /// A zeroed frame is going to be a table.
    pub fn prepare(&self, frame: u64) {
        if self.flush {
            flush_table(frame);
        }
    }

    /// A domain that nobody uses.
    pub fn take_domain(&self) -> Option<u16> {
        let d = DOMAINS.take()?;
        if u32::from(d) < self.domains {
            return Some(d);
        }
        DOMAINS.give(d);
        None
    }

    /// Lets a device of the unit at `base` reach what the target translates, and nothing else.
    pub fn assign(&self, base: u64, segment: u16, device: Requester, to: Target) -> Result<(), Refusal> {
        let mut units = self.units.iter().flatten();
        let unit = units.find(|u| u.base == base && u.segment == segment).ok_or(Refusal::Absent)?;
        unit.hw.assign(device, to)
    }

    /// Whether interrupts are remapped.
    pub fn remaps(&self) -> bool {
        self.interrupts.lock().is_some()
    }

    /// What an interrupt does, and who may raise it. `false`: a unit does not answer, and may have it as before.
    pub fn set_interrupt(&self, index: u16, to: Option<::iommu::Target>, source: Option<Requester>) -> bool {
        let table = self.interrupts.lock();
        let Some(t) = *table else { return false };
        let new = to.map_or(MASKED, |to| interrupt_entry(to, source, self.wide));
        // Half of an entry is not to be seen.
        for (half, word) in [(0, MASKED[0]), (1, new[1]), (0, new[0])] {
            store(t, 2 * usize::from(index) + half, word, self.flush);
        }
        self.each(|u| u.forget_interrupt(index))
    }

    /// Forgets the translations of a domain. `false`: a unit does not answer, and may still use them.
    pub fn invalidate(&self, domain: u16) -> bool {
        self.each(|u| u.invalidate(domain))
    }

    /// Blocks all devices of a domain, which then is nobody's. `false`: as for [`Machine::invalidate`], and the domain is
    /// not used again.
    pub fn release(&self, domain: u16) -> bool {
        let ok = self.each(|u| u.release(domain));
        if ok {
            DOMAINS.give(domain);
        }
        ok
    }
}

/// A zeroed table of a unit, which stays.
fn table(a: &'static crate::object::account::Account, flush: bool) -> Option<u64> {
    let t = Page::new(a)?.into_phys();
    if flush {
        flush_table(t);
    }
    Some(t)
}
