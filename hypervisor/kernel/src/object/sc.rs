//! Scheduling context (spec 2.3): priority and budget, bound to an EC, donated along calls.

use super::{account::Account, ec::Ec, kernel_object};
use crate::arch::{cpu::cpu, time};
use crate::mem::refs::{Header, Object, Ref, Room};
use crate::{remote, schedule};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::*};
use sched::{Budget, Link, Node};

/// Scheduling context. Its cells are touched by its CPU only; the clock may be read by all.
#[repr(C, align(32))]
pub struct Sc {
    header: Header,
    /// The EC it is bound to.
    pub ec: Ref<Ec>,
    /// Priority.
    pub prio: u8,
    budget: Cell<Budget>,
    /// Ticks consumed in all, and since when it runs; 0: it does not.
    consumed: AtomicU64,
    running: AtomicU64,
    charges: AtomicU64,
    /// The EC at the end of the call chain that starts at `ec`: the one that runs.
    pub leaf: Cell<&'static Ec>,
    /// The blocked EC that it waits for.
    parked: Cell<Option<&'static Ec>>,
    /// While `ec` lives, the SC counts on itself.
    active: Cell<Option<Ref<Sc>>>,
    ready: Link<Sc>,
    blocked: Link<Sc>,
}
kernel_object!(Sc, Sc);

/// In the ready queue.
pub struct Ready;
/// Waiting for a blocked EC.
pub struct Blocked;

impl Node<Ready> for Sc {
    fn link(&self) -> &Link<Sc> {
        &self.ready
    }
}

impl Node<Blocked> for Sc {
    fn link(&self) -> &Link<Sc> {
        &self.blocked
    }
}

impl Sc {
    /// A new SC with a budget in ticks; not yet scheduled.
    pub fn create(a: &'static Account, ec: Ref<Ec>, prio: u8, budget: u64) -> Option<Ref<Sc>> {
        let sc = Room::new(a)?.fill(Sc {
            header: Header::new(Self::KIND),
            leaf: Cell::new(ec.found()),
            ec,
            prio,
            budget: Cell::new(Budget::new(budget)),
            consumed: AtomicU64::new(0),
            running: AtomicU64::new(0),
            charges: AtomicU64::new(0),
            parked: Cell::new(None),
            active: Cell::new(None),
            ready: Link::new(),
            blocked: Link::new(),
        });
        sc.active.set(Some(sc.clone()));
        Some(sc)
    }

    /// Waits until `ec` is released.
    pub fn park(&'static self, ec: &'static Ec) {
        self.parked.set(Some(ec));
        ec.waiters.push_back::<Blocked>(self);
    }

    /// Stops waiting; `false` if it did not wait.
    pub fn unpark(&'static self) -> bool {
        let Some(ec) = self.parked.take() else { return false };
        ec.waiters.remove::<Blocked>(self);
        true
    }

    /// It runs no more: nothing but capabilities keep it, and nothing refers to another EC.
    pub fn retire(&'static self) {
        let c = cpu();
        c.ready.remove::<Ready>(self, self.prio);
        if c.sc.get().is_some_and(|s| core::ptr::eq(s, self)) {
            schedule::charge();
            c.sc.set(None);
            self.clock(0);
        }
        self.unpark();
        self.leaf.set(self.ec.found());
        self.active.take();
    }

    /// The call is over that it was in. If its EC was killed meanwhile, so is the SC.
    pub fn finish(&'static self) {
        if self.ec.dead() {
            self.ec.callee.take();
            self.retire();
        }
    }

    /// It is destroyed: its EC, and who works for that, run no more until there is another.
    pub fn end(&'static self) {
        // It may still be among the new ones.
        remote::open_mail();
        if !self.is_active() {
            return;
        }
        // From its end: its own EC may be dead, and cut off.
        let mut member = Some(self.leaf.get());
        while let Some(ec) = member {
            ec.chain.set(None);
            member = ec.caller();
        }
        if self.ec.dead() {
            self.ec.callee.take();
        }
        self.retire();
        self.ec.bound.store(false, Release);
    }

    /// Whether its EC lives.
    pub fn is_active(&self) -> bool {
        let a = self.active.take();
        let yes = a.is_some();
        self.active.set(a);
        yes
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
        let mut b = self.budget.get();
        let over = b.charge(ticks);
        self.budget.set(b);
        // Odd while sum and start do not belong together. x86 keeps the order of stores.
        self.charges.store(self.charges.load(Relaxed).wrapping_add(1), Release);
        self.consumed.store(b.consumed(), Release);
        if self.running.load(Relaxed) != 0 {
            self.running.store(t, Release);
        }
        self.charges.store(self.charges.load(Relaxed).wrapping_add(1), Release);
        over
    }

    /// Schedules a new SC, on its own CPU.
    pub fn start(&'static self) {
        let ec = self.ec.found();
        if ec.dead() || !self.is_active() {
            return self.retire();
        }
        // It may be in the middle of a call, if there was another SC before.
        self.leaf.set(ec.pay(Some(self)));
        schedule::ready(self);
    }
}
