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
use crate::say;
use ::iommu::{Requester, dmar, vtd::choose_levels};
use abi::Features;
pub use faults::{interrupt, resume, resume_at};
pub use mmio::{flush_table, store};
use ptab::{Dma, Walker};
use spin::{Mutex, Once};

const MAX_UNITS: usize = 8;
/// Numbers of domains; 0 is nobody's.
static DOMAINS: Tags<4096> = Tags::new();
static FOUND: Mutex<[Option<Found>; MAX_UNITS]> = Mutex::new([const { None }; MAX_UNITS]);
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

/// What the information page says.
pub fn features() -> Features {
    if machine().is_some() { Features::IOMMU } else { Features::empty() }
}

/// Takes note of what a DMAR table names.
pub fn found_vtd(table: &[u8]) {
    for s in dmar::structures(table) {
        match s {
            dmar::Structure::Unit { segment, base, pages, .. } => {
                memory::protect(base, base + (pages << abi::PAGE_BITS));
                match FOUND.lock().iter_mut().find(|f| f.is_none()) {
                    Some(free) => *free = Some(Found { base, pages, segment }),
                    None => say!("IOMMU at {base:#x} left out: there are too many"),
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
    match build(&found) {
        Ok(m) => {
            let n = m.units.iter().flatten().count();
            say!("VT-d: {} levels, IOMMUs: {n}; all devices are blocked", m.format.levels);
            MACHINE.call_once(|| m);
        }
        Err(why) => say!("no IOMMU is used: {why}"),
    }
}

fn build(found: &[Option<Found>; MAX_UNITS]) -> Result<Machine, &'static str> {
    let mut units = [const { None }; MAX_UNITS];
    let (mut levels, mut max_order, mut domains) = (u32::MAX, 18, 1 << 16);
    let (mut invalidate_always, mut flush) = (false, false);
    for (i, f) in found.iter().enumerate() {
        let Some(f) = f else { continue };
        let hw = vtd::Unit::examine(f.base, f.pages)?;
        let a = hw.abilities;
        levels &= a.levels();
        max_order = max_order.min(a.max_order());
        domains = domains.min(a.domains());
        invalidate_always |= a.invalidate_always();
        flush |= !a.coherent();
        units[i] = Some(Unit { base: f.base, segment: f.segment, hw });
    }
    let levels = choose_levels(levels).ok_or("they have no table format in common")?;
    let all = || units.iter().flatten().map(|u: &Unit| &u.hw);
    let line = interrupt::fault_message();
    if let Err(why) = all().try_for_each(|u| u.enable(line)) {
        all().for_each(vtd::Unit::disable);
        return Err(why);
    }
    let format = Dma { walker: Walker::Vtd, levels, max_order };
    Ok(Machine { units, format, domains, invalidate_always, flush })
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
