//! Scheduling contexts.

use crate::{Ec, Queued, Sc, same};
use core::cell::Cell;
use sched::Link;

/// The relations of an SC.
pub struct Payer<S: Sc> {
    /// The EC it is bound to.
    pub ec: <S::Ec as Ec>::Ref,
    /// Priority.
    pub prio: u8,
    /// The EC at the end of the call chain that starts at `ec`: the one that runs.
    pub(crate) leaf: Cell<&'static S::Ec>,
    /// The blocked EC that it waits for.
    pub(crate) parked: Cell<Option<&'static S::Ec>>,
    /// Until it is retired the SC counts on itself.
    active: Cell<Option<S::Ref>>,
    /// In the ready queue or among the helpers.
    pub link: Link<S>,
}

impl<S: Sc> Payer<S> {
    /// For an EC, with a priority; not yet [started](start).
    pub fn new(ec: <S::Ec as Ec>::Ref, prio: u8) -> Self {
        Payer {
            leaf: Cell::new(S::Ec::found(&ec)),
            ec,
            prio,
            parked: Cell::new(None),
            active: Cell::new(None),
            link: Link::new(),
        }
    }

    /// It counts on itself.
    pub fn activate(&self, own: S::Ref) {
        self.active.set(Some(own));
    }

    /// Whether it does.
    pub fn is_active(&self) -> bool {
        let own = self.active.take();
        let active = own.is_some();
        self.active.set(own);
        active
    }

    /// The end of its call chain.
    pub fn leaf(&self) -> &'static S::Ec {
        self.leaf.get()
    }

    /// The blocked EC that it is parked at.
    pub fn parked(&self) -> Option<&'static S::Ec> {
        self.parked.get()
    }

    fn owner(&self) -> &'static S::Ec {
        S::Ec::found(&self.ec)
    }
}

/// Schedules a new SC. Its EC may be in the middle of a call, if there was another SC before.
pub fn start<S: Sc>(sc: &'static S) {
    let p = sc.ipc();
    if p.owner().ipc().dead() || !p.is_active() {
        return retire(sc);
    }
    p.leaf.set(pay(p.owner(), Some(sc)));
    make_ready(sc);
}

/// Its EC, and who works for that, run no more until there is another SC.
pub fn stop<S: Sc>(sc: &'static S) {
    // From the end: its own EC may be dead, and cut off.
    let mut member = Some(sc.ipc().leaf.get());
    while let Some(ec) = member {
        ec.ipc().chain.set(None);
        member = ec.ipc().caller.get();
        ec.unlinked();
    }
    retire(sc);
}

/// It runs no more: nothing but capabilities keep it, and it refers to nobody but its EC. It is in no call chain.
pub fn retire<S: Sc>(sc: &'static S) {
    let (p, c) = (sc.ipc(), S::Ec::cpu());
    match p.parked.get() {
        Some(_) => unpark(sc),
        None => drop(c.ready.remove::<Queued>(sc, p.prio)),
    }
    if c.payer().is_some_and(|payer| same(payer, sc)) {
        c.put_away();
    }
    p.leaf.set(p.owner());
    p.active.take();
}

/// `ec`, and who serves it, are paid by that SC from now on, or by none. Returns the end of the chain.
pub(crate) fn pay<E: Ec>(ec: &'static E, sc: Option<&'static E::Sc>) -> &'static E {
    let mut end = ec;
    end.ipc().chain.set(sc);
    while let Some(next) = end.ipc().callee.get() {
        end = next;
        end.ipc().chain.set(sc);
    }
    end
}

/// The end of the call chain that `ec` is part of.
pub(crate) fn end_of<E: Ec>(ec: &'static E) -> &'static E {
    match ec.ipc().chain.get() {
        Some(sc) => sc.ipc().leaf.get(),
        None => pay(ec, None),
    }
}

/// The chain of `sc` has moved on to `leaf`. If a helper has moved it, the SC may be parked at who no longer matters.
#[inline]
pub(crate) fn moved<S: Sc>(sc: &'static S, leaf: &'static S::Ec) {
    sc.ipc().leaf.set(leaf);
    wake(sc);
}

/// It is parked no more.
#[inline]
pub(crate) fn wake<S: Sc>(sc: &'static S) {
    if sc.ipc().parked.get().is_some() {
        unpark(sc);
        make_ready(sc);
    }
}

/// Stops paying until `ec`, which is blocked, is released.
pub(crate) fn park<S: Sc>(sc: &'static S, ec: &'static S::Ec) {
    sc.ipc().parked.set(Some(ec));
    // If it is its leaf, it is found there.
    if !same(ec, sc.ipc().leaf.get()) {
        S::Ec::cpu().helpers.push_back::<Queued>(sc);
    }
}

fn unpark<S: Sc>(sc: &'static S) {
    sc.ipc().parked.set(None);
    S::Ec::cpu().helpers.remove::<Queued>(sc);
}

fn make_ready<S: Sc>(sc: &'static S) {
    S::Ec::cpu().ready.push_back::<Queued>(sc, sc.ipc().prio);
}
