//! What a worker believes to be in the object space of its protection domain, and how it picks from that.

use crate::calls::Call;
use crate::random::Random;
use abi::{CreatePdOp, Hypercall, SEL_NUM, Sel};

/// Slots of each worker.
pub const SLOTS: usize = 64;

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing.
    Null,
    /// A protection domain.
    Pd,
    /// An object space.
    Obj,
    /// A host space.
    Hst,
    /// A guest space.
    Gst,
    /// A DMA space.
    Dma,
    /// A PIO space.
    Pio,
    /// An MSR space.
    Msr,
    /// A thread that portals can be bound to.
    Local,
    /// A thread or virtual CPU with a scheduling context of its own.
    Global,
    /// A scheduling context.
    Sc,
    /// A portal.
    Pt,
    /// A semaphore.
    Sm,
}

/// Selectors that the supervisor fills.
pub mod fixed {
    use abi::Sel;
    /// The domain itself.
    pub const PD: Sel = 1;
    /// Its object space.
    pub const OBJ: Sel = 2;
    /// Its host space.
    pub const HST: Sel = 3;
    /// Its PIO space.
    pub const PIO: Sel = 4;
    /// A semaphore that the supervisor has, too.
    pub const SM: Sel = 5;
    /// Number of the fixed ones above, and 1.
    pub const END: Sel = 6;
    /// ECs of the workers.
    pub const WORKERS: Sel = 0x20;
    /// SCs of the workers that have one.
    pub const SCS: Sel = 0x40;
    /// A portal to a thread of the supervisor on each CPU.
    pub const ECHO: Sel = 0x60;
    /// Slots of the first worker, then those of the others.
    pub const SLOTS: Sel = 0x200;
    /// Event base of the threads on CPU 0; others 64 further each.
    pub const EVENTS: Sel = 0x1000;
}

/// Most workers of a domain.
pub const WORKERS: u64 = 8;

/// The slots of one worker.
#[derive(Clone, Debug)]
pub struct Slots {
    first: Sel,
    kinds: [Kind; SLOTS],
    worker: u16,
}

impl Slots {
    /// All empty.
    pub fn new(worker: u16) -> Slots {
        let first = fixed::SLOTS + u64::from(worker) * SLOTS as u64;
        Slots { first, kinds: [Kind::Null; SLOTS], worker }
    }

    fn index(&self, sel: Sel) -> Option<usize> {
        let i = sel.checked_sub(self.first)?;
        (i < SLOTS as u64).then_some(i as usize)
    }

    /// What is believed to be there.
    pub fn kind(&self, sel: Sel) -> Kind {
        match self.index(sel) {
            Some(i) => self.kinds[i],
            None => match sel {
                fixed::PD => Kind::Pd,
                fixed::OBJ => Kind::Obj,
                fixed::HST => Kind::Hst,
                fixed::PIO => Kind::Pio,
                fixed::SM => Kind::Sm,
                _ => Kind::Null,
            },
        }
    }

    /// One of the own slots that is believed to hold that kind.
    fn own(&self, r: &mut Random, kind: Kind) -> Option<Sel> {
        let start = r.below(SLOTS as u64) as usize;
        (0..SLOTS).map(|i| (start + i) % SLOTS).find(|&i| self.kinds[i] == kind).map(|i| self.first + i as u64)
    }

    /// One that the supervisor has filled.
    fn given(&self, r: &mut Random, kind: Kind) -> Option<Sel> {
        match kind {
            Kind::Pd => Some(fixed::PD),
            Kind::Obj => Some(fixed::OBJ),
            Kind::Hst => Some(fixed::HST),
            Kind::Pio => Some(fixed::PIO),
            Kind::Sm => Some(fixed::SM),
            Kind::Local | Kind::Global => {
                Some(fixed::WORKERS + if r.one_in(2) { r.below(WORKERS) } else { self.worker.into() })
            }
            Kind::Sc => Some(fixed::SCS + r.below(WORKERS)),
            Kind::Pt => Some(fixed::ECHO + r.below(4)),
            _ => None,
        }
    }

    /// A selector for a parameter of that kind: mostly a right one, else something near, else anything.
    pub fn pick(&self, r: &mut Random, kind: Kind) -> Sel {
        let right = match r.below(100) {
            0..60 => self.own(r, kind).or_else(|| self.given(r, kind)),
            60..75 => self.given(r, kind).or_else(|| self.own(r, kind)),
            _ => None,
        };
        right.unwrap_or_else(|| self.anything(r))
    }

    /// A slot for something new: mostly an empty one.
    pub fn pick_free(&self, r: &mut Random) -> Sel {
        let free = if r.below(100) < 90 { self.own(r, Kind::Null) } else { None };
        free.unwrap_or_else(|| self.anything(r))
    }

    /// Any selector, of this worker most often.
    pub fn anything(&self, r: &mut Random) -> Sel {
        match r.below(16) {
            0..8 => self.first + r.below(SLOTS as u64),
            8 => fixed::SLOTS + r.below(WORKERS * SLOTS as u64),
            9 => r.below(0x80),
            10 => fixed::EVENTS + r.below(256),
            11 => r.below(SEL_NUM),
            12 => SEL_NUM - 1 + r.below(3),
            13 => r.boundary(),
            _ => r.any(),
        }
    }

    /// A call that succeeded.
    pub fn learn(&mut self, c: &Call) {
        let (sel, flags) = (c.rdi >> 8, (c.rdi >> 4) as u8 & 0xf);
        let new = match Hypercall::from_number(c.rdi as u8 & 0xf) {
            Some(Hypercall::CreatePd) => match CreatePdOp::from_flags(flags) {
                Some(CreatePdOp::Pd | CreatePdOp::Account) | None => Kind::Pd,
                Some(CreatePdOp::Obj) => Kind::Obj,
                Some(CreatePdOp::Hst) => Kind::Hst,
                Some(CreatePdOp::Gst) => Kind::Gst,
                Some(CreatePdOp::Dma) => Kind::Dma,
                Some(CreatePdOp::Pio) => Kind::Pio,
                Some(CreatePdOp::Msr) => Kind::Msr,
            },
            Some(Hypercall::CreateEc) if flags & 3 == 0 => Kind::Local,
            Some(Hypercall::CreateEc) => Kind::Global,
            Some(Hypercall::CreateSc) => Kind::Sc,
            Some(Hypercall::CreatePt) => Kind::Pt,
            Some(Hypercall::CreateSm) => Kind::Sm,
            Some(Hypercall::CtrlPd) => return self.learn_delegation(c),
            _ => return,
        };
        if let Some(i) = self.index(sel) {
            self.kinds[i] = new;
        }
    }

    fn learn_delegation(&mut self, c: &Call) {
        // Through another object space nothing of ours changes, and only objects are looked after.
        if c.rsi != fixed::OBJ {
            return;
        }
        let (from, to, count) = (c.rdx >> 12, c.rax >> 12, 1u64 << (c.rdx & 0x1f));
        let kept = c.rax & 0x1f != 0;
        for i in 0..count.min(SLOTS as u64) {
            let kind = if kept && c.rdi >> 8 == fixed::OBJ { self.kind(from.wrapping_add(i)) } else { Kind::Null };
            if let Some(slot) = self.index(to.wrapping_add(i)) {
                self.kinds[slot] = kind;
            }
        }
        if count > SLOTS as u64 && !kept {
            self.kinds = [Kind::Null; SLOTS];
        }
    }
}
