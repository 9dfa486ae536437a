//! The domain that may perish: a protection domain below ours, with what any component has, and nothing of ours.
//!
//! Key types: [`Domain`]; [`Slot`].

use abi::{CreatePdOp, Mad, PAGE_SIZE, Sel, Status, event, perm};
use fuzz_logic::fixed;
use parent::sel;
use rt::hypercall as hc;

const PAGE: u64 = PAGE_SIZE as u64;
/// Selectors below are emptied when a domain ends: all that is usually filled, in blocks of this order.
const USUAL: (u64, u32) = (0x4000, 12);

/// A selector of our own; null again when it goes.
#[derive(Debug)]
pub struct Slot(pub Sel);

impl Slot {
    /// A null one.
    pub fn new() -> Result<Slot, Status> {
        rt::sel::alloc().map(Slot).ok_or(Status::MemCap)
    }

    fn pd(op: CreatePdOp, owner: Sel) -> Result<Slot, Status> {
        let s = Slot::new()?;
        hc::create_pd(op, s.0, owner)?;
        Ok(s)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        rt::sel::free(self.0);
    }
}

/// What the supervisor has for all domains: portals for events and echoes, on each CPU, and a semaphore.
pub struct Common {
    /// Event portals: 34 from each of these.
    pub events: Vec<Sel>,
    /// A portal to a thread that echoes.
    pub echoes: Vec<Sel>,
    /// A semaphore.
    pub sm: Sel,
}

/// Portals of a thread's events.
pub const EVENTS: u64 = event::HST_ARCH + event::HST_NOVA;

/// A protection domain with its spaces.
pub struct Domain {
    /// The domain.
    pub pd: Slot,
    obj: Slot,
    hst: Slot,
    pio: Slot,
}

impl Domain {
    /// With our code and nothing else.
    pub fn new() -> Result<Domain, Status> {
        let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
        let (obj, hst, pio) =
            (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?, Slot::pd(CreatePdOp::Pio, pd.0)?);
        let d = Domain { pd, obj, hst, pio };
        d.show_code()?;
        Ok(d)
    }

    /// Maps pages of ours where they are with us.
    pub fn show(&self, address: u64, pages: u64, perms: perm::Mem) -> Result<(), Status> {
        for p in rtlogic::orders(address / PAGE, address / PAGE, pages) {
            // SAFETY: the destination is another space, and code there uses it in raw or atomic ways.
            unsafe { hc::ctrl_pd(sel::HST, self.hst.0, p.src, p.dst, p.order, perms.bits(), Mad::WB)? };
        }
        Ok(())
    }

    /// Maps code and constants.
    pub fn show_code(&self) -> Result<(), Status> {
        unsafe extern "C" {
            static __executable_start: u8;
            static __bss_start: u8;
        }
        let (start, end) = (&raw const __executable_start as u64, &raw const __bss_start as u64);
        self.show(start, end.div_ceil(PAGE) - start / PAGE, perm::Mem::R | perm::Mem::XU)
    }

    /// Copies a capability of ours into it.
    pub fn give(&self, from: Sel, to: Sel, order: u32, perms: u8) -> Result<(), Status> {
        // SAFETY: an object space holds no memory.
        unsafe { hc::ctrl_pd(sel::OBJ, self.obj.0, from, to, order, perms, Mad::WB) }
    }

    /// Gives it what a component has, again: it may have lost it.
    pub fn endow(&self, common: &Common) -> Result<(), Status> {
        for (own, to) in [
            (&self.pd, fixed::PD),
            (&self.obj, fixed::OBJ),
            (&self.hst, fixed::HST),
            (&self.pio, fixed::PIO),
            (&Slot(common.sm).keep(), fixed::SM),
        ] {
            self.give(own.0, to, 0, perm::ALL)?;
        }
        for (cpu, (&events, &echo)) in common.events.iter().zip(&common.echoes).enumerate() {
            let to = fixed::EVENTS + cpu as u64 * 64;
            let event = (perm::Pt::EVENT | perm::Pt::CALL).bits();
            for n in 0..EVENTS {
                self.give(events + n, to + n, 0, event)?;
            }
            self.give(echo, fixed::ECHO + cpu as u64, 0, event)?;
        }
        Ok(())
    }

    /// Takes everything away: what it raises then kills it.
    pub fn strip(&self) {
        for i in 0..USUAL.0 >> USUAL.1 {
            let _ = self.give(0, i << USUAL.1, USUAL.1, 0);
        }
    }

    /// Whether PD and spaces are there.
    pub fn is_whole(&self) -> bool {
        // SAFETY: the destination is another space.
        let there = |own, space: &Slot| unsafe { hc::ctrl_pd(own, space.0, 0, 0, 0, 0, Mad::WB) }.is_ok();
        let sm = Slot::new().map(|s| hc::create_sm(s.0, self.pd.0, 0));
        there(sel::OBJ, &self.obj) && there(sel::HST, &self.hst) && sm != Ok(Err(Status::BadCap))
    }

    /// Destroys it, with the domains that its workers have made.
    pub fn end(self) {
        // SAFETY: none of ours. A worker may have done so.
        let _ = unsafe { hc::destroy(self.pd.0) };
    }
}

impl Slot {
    /// Nothing happens to the selector when it goes.
    pub fn keep(self) -> std::mem::ManuallyDrop<Slot> {
        std::mem::ManuallyDrop::new(self)
    }
}
