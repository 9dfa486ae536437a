//! IOMMUs (docs/design/0011): all devices are blocked from boot on, until `assign_dev` lets one reach a DMA space.
//!
//! Firmware's tables are read by [`found_vtd`] and [`found_amdvi`], [`init`] turns the units on, all of them or none. Above
//! this file nothing knows which kind they are. Which device is in which domain stands in the units' own tables only.
//! Layouts, decoding and the rate limit are the crate `iommu`.

mod amdvi;
mod faults;
mod mmio;
mod queue;
mod vtd;

use crate::arch::interrupt;
use crate::boot::memory;
use crate::mem::{pool::Page, tags::Tags};
use crate::object::account::Account;
use crate::say;
use ::iommu::{Damage, Fault, Requester, dmar, ivrs};
use abi::{Features, PAGE_BITS};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
pub use faults::{interrupt, resume, resume_at};
pub use mmio::{flush_table, store};
use ptab::Dma;
use spin::{Mutex, Once};

const MAX_UNITS: usize = 16;
/// Pages of registers that a unit has at most.
const MAX_PAGES: u64 = 16;
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
    /// AMD-Vi: the unit as a device, the last of its devices, and how it is connected.
    own: Option<Requester>,
    last: Requester,
    flags: u8,
}

/// What the units of a machine do: VT-d's, or AMD-Vi's. `false`: one does not answer, and may do as before.
pub trait Units: Sync {
    /// Lets a device of a unit reach what the target translates, and nothing else.
    fn assign(&self, unit: usize, device: Requester, to: Target) -> Result<(), Refusal>;
    /// Forgets the translations of a domain.
    fn invalidate(&self, domain: u16) -> bool;
    /// Blocks all devices of a domain.
    fn release(&self, domain: u16) -> bool;
    /// What an interrupt does, and who may raise it.
    fn set_interrupt(&self, n: u16, to: Option<::iommu::Target>, source: Option<Requester>) -> bool;
    /// Address and data of a message-signalled interrupt.
    fn message(&self, n: u16) -> (u32, u32);
    /// Takes out what they have recorded. Returns whether something was lost.
    fn drain(&self, report: &mut dyn FnMut(Fault)) -> bool;
    /// Keeps them from interrupting, or not.
    fn silence(&self, yes: bool);
}

/// Which interrupts go through the units' tables.
#[derive(PartialEq)]
enum Remap {
    Nothing,
    Messages,
    All,
}

/// The units, all of which are on, and what they have in common.
pub struct Machine {
    found: [Option<Found>; MAX_UNITS],
    /// Which kind they are.
    pub units: &'static dyn Units,
    /// Format of page tables.
    pub format: Dma,
    /// So many domains are there.
    domains: u32,
    remap: Remap,
    /// Local APICs are named in 32 bits.
    pub wide: bool,
    /// Entries that were not present have to be invalidated, too.
    pub invalidate_always: bool,
    /// What the units read has to be flushed from the cache.
    pub flush: bool,
    /// They do not interrupt.
    polled: bool,
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

/// Whether an IOAPIC appears so.
fn is_ioapic(r: Requester) -> bool {
    IOAPICS.lock().iter().flatten().any(|(_, appears)| *appears == r)
}

fn note_ioapic(id: u8, appears: Requester) {
    let mut list = IOAPICS.lock();
    // AMD-Vi: a unit may be described more than once.
    if let Some(slot) = list.iter_mut().find(|i| i.is_none_or(|(i, _)| i == id)) {
        *slot = Some((id, appears));
    }
}

fn note(f: Found) {
    match FOUND.lock().iter_mut().find(|s| s.is_none_or(|s| s.base == f.base)) {
        Some(slot) => *slot = Some(Found { last: slot.map_or(f.last, |s| s.last.max(f.last)), ..f }),
        None => TOO_MANY.store(true, Relaxed),
    }
}

fn note_reserved(device: Requester, base: u64, limit: u64) {
    say!("firmware wants DMA of {device} to {base:#x}-{limit:#x}: blocked");
}

/// Takes note of what a DMAR table names.
pub fn found_vtd(table: &[u8]) -> Result<(), Damage> {
    for s in dmar::structures(table)? {
        match s {
            dmar::Structure::Unit { segment, base, pages, scopes } => {
                for s in scopes.filter(|s| s.direct) {
                    s.ioapic.into_iter().for_each(|id| note_ioapic(id, s.first));
                }
                note(Found { base, pages, segment, own: None, last: Requester(0), flags: 0 });
            }
            dmar::Structure::Reserved { base, limit, scopes, .. } => {
                scopes.for_each(|s| note_reserved(s.first, base, limit));
            }
        }
    }
    Ok(())
}

/// Takes note of what an IVRS table names.
pub fn found_amdvi(table: &[u8]) -> Result<(), Damage> {
    for b in ivrs::blocks(table)? {
        match b {
            ivrs::Block::Unit(u) => {
                u.ioapics().for_each(|(id, appears)| note_ioapic(id, appears));
                let pages = ::iommu::amdvi::spec::REGISTERS >> PAGE_BITS;
                note(Found {
                    base: u.base,
                    pages,
                    segment: u.segment,
                    own: Some(u.device),
                    last: u.last(),
                    flags: u.flags,
                });
            }
            ivrs::Block::Reserved { device, base, len } => note_reserved(device, base, base.saturating_add(len)),
        }
    }
    Ok(())
}

/// Turns all units on. From then on no device reaches memory.
pub fn init() {
    let found = *FOUND.lock();
    let all = || found.iter().flatten();
    let amd = all().filter(|f| f.own.is_some()).count();
    let result = match all().count() {
        0 => return,
        _ if TOO_MANY.load(Relaxed) => Err("there are too many"),
        _ if all().any(|f| f.pages > MAX_PAGES || !memory::can_be_device(f.base)) => {
            Err("one is at an address at which none can be")
        }
        n => {
            all().for_each(|f| memory::protect(f.base, f.base + (f.pages << PAGE_BITS)));
            match amd {
                0 => vtd::build(&found),
                _ if amd == n => amdvi::build(&found),
                _ => Err("they are of two kinds"),
            }
        }
    };
    match result {
        Ok(m) => {
            let kind = if amd == 0 { "VT-d" } else { "AMD-Vi" };
            let interrupts = if m.remap == Remap::Nothing { "" } else { ", interrupts are remapped" };
            say!("{kind}: {} levels, IOMMUs: {}{interrupts}; all devices are blocked", m.format.levels, all().count());
            faults::start(MACHINE.call_once(|| m));
        }
        Err(why) => say!("no IOMMU is used: {why}"),
    }
}

impl Machine {
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
        let mut found = self.found.iter().flatten();
        let unit = found.position(|f| f.base == base && f.segment == segment).ok_or(Refusal::Absent)?;
        self.units.assign(unit, device, to)
    }

    /// Whether an interrupt goes through the units' tables.
    pub fn remaps(&self, n: u16) -> bool {
        self.remap == Remap::All || self.remap == Remap::Messages && n >= interrupt::FIRST_MESSAGE
    }

    /// Blocks all devices of a domain, which then is nobody's. `false`: a unit does not answer, and
    /// the domain is not used again.
    pub fn release(&self, domain: u16) -> bool {
        let ok = self.units.release(domain);
        if ok {
            DOMAINS.give(domain);
        }
        ok
    }
}

/// A zeroed table of a unit, which stays.
fn table(a: &'static Account, flush: bool) -> Option<u64> {
    let t = Page::new(a)?.into_phys();
    if flush {
        flush_table(t);
    }
    Some(t)
}
