//! Scheduling context (spec 2.3): priority and budget, bound to an EC, donated along calls.

use super::{account::Account, ec::Ec, kernel_object};
use crate::arch::time;
use crate::mem::refs::{Header, Object, Ref, Room};
use crate::{remote, schedule};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::*};
use ipc::Queued;
use sched::{Budget, Link, Node};

/// Scheduling context. Its cells are touched by its CPU only; the clock may be read by all.
#[repr(C, align(32))]
pub struct Sc {
    header: Header,
    /// Whom it is bound to, and whom it runs.
    pub ipc: ipc::Payer<Sc>,
    budget: Cell<Budget>,
    /// Ticks consumed in all, and since when it runs; 0: it does not.
    consumed: AtomicU64,
    running: AtomicU64,
    charges: AtomicU64,
}
kernel_object!(Sc, Sc);

impl Node<Queued> for Sc {
    fn link(&self) -> &Link<Sc> {
        &self.ipc.link
    }
}

impl ipc::Sc for Sc {
    type Ec = Ec;
    type Ref = Ref<Sc>;

    fn ipc(&self) -> &ipc::Payer<Sc> {
        &self.ipc
    }

    #[inline(always)]
    fn switch(from: Option<&'static Sc>, to: Option<&'static Sc>) {
        match (from, to) {
            (Some(from), Some(to)) => schedule::change_payer(from, to),
            _ => schedule::switch(from, to),
        }
    }
}

impl Sc {
    /// A new SC with a budget in ticks; not yet scheduled.
    pub fn create(a: &'static Account, ec: Ref<Ec>, prio: u8, budget: u64) -> Option<Ref<Sc>> {
        let sc = Room::new(a)?.fill(Sc {
            header: Header::new(Self::KIND),
            ipc: ipc::Payer::new(ec, prio),
            budget: Cell::new(Budget::new(budget)),
            consumed: AtomicU64::new(0),
            running: AtomicU64::new(0),
            charges: AtomicU64::new(0),
        });
        sc.ipc.activate(sc.clone());
        Some(sc)
    }

    /// It is destroyed: its EC, and who works for that, run no more until there is another.
    pub fn end(&'static self) {
        // It may still be among the new ones.
        remote::open_mail();
        if self.ipc.is_active() {
            ipc::stop(self);
            self.ipc.ec.bound.store(false, Release);
        }
    }

    /// Ticks left in this turn.
    pub fn left(&self) -> u64 {
        self.budget.get().left()
    }

    /// Ticks consumed in all, up to now.
    pub fn consumed(&self) -> u64 {
        loop {
            let charges = self.charges.load(Acquire);
            let (sum, since) = (self.consumed.load(Acquire), self.running.load(Acquire));
            // Charged meanwhile? Then the two do not belong together.
            if charges & 1 == 0 && self.charges.load(Acquire) == charges {
                return sum + if since == 0 { 0 } else { time::now().saturating_sub(since) };
            }
            core::hint::spin_loop();
        }
    }

    /// It runs from `t` on, or no more (0).
    pub fn clock(&self, t: u64) {
        self.running.store(t, Release);
    }

    /// Charges ticks up to `t`, and goes on if it was running; `true`: the turn is over.
    pub fn charge(&self, ticks: u64, t: u64) -> bool {
        let (runs, mut over) = (self.running.load(Relaxed) != 0, false);
        self.charge_and_clock(ticks, if runs { t } else { 0 }, || over = true);
        over
    }

    /// Charges ticks; from `t` on it runs, or no more (0). `over` is called if the turn is over.
    #[inline(always)]
    pub fn charge_and_clock(&self, ticks: u64, t: u64, over: impl FnOnce()) {
        let mut b = self.budget.get();
        if b.charge(ticks) {
            over();
        }
        self.budget.set(b);
        let consumed = self.consumed.load(Relaxed).wrapping_add(ticks);
        // Odd while sum and start do not belong together. x86 keeps the order of stores.
        self.charges.store(self.charges.load(Relaxed).wrapping_add(1), Release);
        self.consumed.store(consumed, Release);
        self.running.store(t, Release);
        self.charges.store(self.charges.load(Relaxed).wrapping_add(1), Release);
    }
}
