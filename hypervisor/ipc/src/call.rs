//! Calls and replies; waiting for semaphores.

use crate::payer::{self, end_of};
use crate::{Cont, Ec, Expect, Next, Sc, same};
use core::cell::Cell;

/// The relations of an EC. The first 8 bytes say, in one comparison, whether it can be called, or be replied to, at once.
#[repr(C, align(8))]
pub struct State<E: Ec> {
    /// How it goes on. [`Cont::Receive`], [`Cont::Reply`] and [`Cont::Dead`] are for this crate to set.
    pub cont: Cell<Cont>,
    /// What it waits for in [`Cont::Reply`].
    pub expect: Cell<Expect>,
    pub(crate) blocked: Cell<bool>,
    _pad: u8,
    /// The kernel's.
    pub tag: E::Tag,
    /// Whom it serves: the EC that its next reply goes to.
    pub caller: Cell<Option<&'static E>>,
    /// Who serves it.
    pub callee: Cell<Option<&'static E>>,
    /// The SC of the call chain that it is part of.
    pub chain: Cell<Option<&'static E::Sc>>,
    /// What the caller has come by; 0: that is gone.
    pub entrance: Cell<usize>,
    /// The number of the event in [`Cont::Event`].
    pub event: Cell<u16>,
}

impl<E: Ec> State<E> {
    /// In no relation to anybody.
    pub const fn new(cont: Cont, tag: E::Tag) -> Self {
        State {
            cont: Cell::new(cont),
            expect: Cell::new(Expect::Words),
            blocked: Cell::new(false),
            _pad: 0,
            tag,
            caller: Cell::new(None),
            callee: Cell::new(None),
            chain: Cell::new(None),
            entrance: Cell::new(0),
            event: Cell::new(0),
        }
    }

    /// Whether anybody is linked to it: whom it serves, who serves it, or an SC that runs it.
    pub fn linked(&self) -> bool {
        self.caller.get().is_some() || self.callee.get().is_some() || self.chain.get().is_some()
    }

    /// Whether it is dead.
    pub fn dead(&self) -> bool {
        self.cont.get() == Cont::Dead
    }

    /// Whether it is blocked.
    pub fn blocked(&self) -> bool {
        self.blocked.get()
    }

    /// It is blocked from now on, until [`unblock`].
    pub fn block(&self) {
        self.blocked.set(true);
    }

    /// What has that key can be used again for something else.
    pub fn forget_entrance(&self, key: usize) {
        if self.entrance.get() == key {
            self.entrance.set(0);
        }
    }
}

/// Whether an EC can call another.
pub enum Way<E: Ec> {
    /// At once: [`enter`].
    Free,
    /// When the chain that keeps it busy has moved on, which ends there.
    Busy(&'static E),
    /// Never: it waits for the caller itself.
    Circle,
    /// Never: it is dead.
    Dead,
}

/// Whether `ec` can call `callee`.
#[inline]
pub fn way<E: Ec>(ec: &'static E, callee: &'static E) -> Way<E> {
    match callee.ipc().cont.get() {
        Cont::Receive => Way::Free,
        Cont::Dead => Way::Dead,
        _ => match end_of(callee) {
            end if same(end, ec) => Way::Circle,
            end => Way::Busy(end),
        },
    }
}

/// Lets `caller` wait, and `callee`, which receives, serve it. `entrance` is for [`expel`](crate::expel).
#[inline]
pub fn enter<E: Ec>(caller: &'static E, callee: &'static E, entrance: usize) -> Next<E> {
    let (from, to) = (caller.ipc(), callee.ipc());
    let chain = from.chain.get();
    if let Some(sc) = chain {
        payer::moved(sc, callee);
    }
    from.callee.set(Some(callee));
    from.cont.set(Cont::Reply);
    to.caller.set(Some(caller));
    to.entrance.set(entrance);
    to.chain.set(chain);
    to.cont.set(Cont::Sysret);
    Next::Run(callee)
}

/// [`enter`], where the SC of `caller` pays and so is parked nowhere, and [`is_leaf`] says later who is the end of its chain.
/// The states of both read as compared before.
#[inline(always)]
pub fn enter_at_once<E: Ec>(caller: &'static E, callee: &'static E, entrance: usize, expect: Expect) {
    let (from, to) = (caller.ipc(), callee.ipc());
    from.callee.set(Some(callee));
    from.cont.set(Cont::Reply);
    from.expect.set(expect);
    to.caller.set(Some(caller));
    to.entrance.set(entrance);
    to.chain.set(from.chain.get());
    to.cont.set(Cont::Sysret);
}

/// [`reply`] to `caller` and [`resume`], in the same case, where nobody waits to destroy `callee`.
#[inline(always)]
pub fn return_at_once<E: Ec>(callee: &'static E, caller: &'static E, cont: Cont) {
    let (from, to) = (callee.ipc(), caller.ipc());
    from.caller.set(None);
    from.chain.set(None);
    from.cont.set(Cont::Receive);
    from.expect.set(Expect::Words);
    to.callee.set(None);
    to.cont.set(cont);
}

/// `ec` calls nobody, and returns. If it has waited to call somebody, who has helped it does not any more.
pub fn give_up<E: Ec>(ec: &'static E) -> Next<E> {
    if ec.ipc().cont.replace(Cont::Sysret) == Cont::Call {
        E::cpu().look_again();
        return E::cpu().next();
    }
    Next::Run(ec)
}

/// `callee` has done its work, and receives. Its caller, if there is one, is to be told and then to [`resume`], or is
/// [refused](crate::refuse).
#[inline]
pub fn reply<E: Ec>(callee: &'static E) -> Option<&'static E> {
    let c = callee.ipc();
    c.cont.set(Cont::Receive);
    let chain = c.chain.take();
    let caller = c.caller.take();
    if caller.is_none()
        && let Some(sc) = chain
    {
        // That of a client that has died.
        payer::retire(sc);
    }
    callee.unlinked();
    caller
}

/// `ec` has its reply. The current SC goes on with it if that is its leaf now, else with whatever that was about to do.
#[inline]
pub fn resume<E: Ec>(ec: &'static E, cont: Cont) -> Next<E> {
    let s = ec.ipc();
    s.callee.take();
    s.cont.set(cont);
    match s.chain.get() {
        Some(sc) => payer::moved(sc, ec),
        None => ec.unlinked(),
    }
    E::cpu().next()
}

/// `ec` has run: it is the end of its call chain. For a kernel that does not say so at each [`enter`] and [`resume`].
#[inline]
pub fn is_leaf<E: Ec>(ec: &'static E) {
    if let Some(sc) = ec.ipc().chain.get() {
        sc.ipc().leaf.set(ec);
    }
}

/// `ec` is released from its semaphore: whoever is parked at it becomes ready. `false`: it was not blocked.
pub fn unblock<E: Ec>(ec: &'static E) -> bool {
    let s = ec.ipc();
    if !s.blocked.replace(false) {
        return false;
    }
    if let Some(sc) = s.chain.get() {
        payer::wake(sc);
    }
    E::cpu().wake_helpers(|at| same(at, ec));
    true
}

/// [`unblock`], if it is by that what runs next: by an SC of its own, which is before that of `current` and all that are ready,
/// and pays from now on. `ec` is blocked; `current` runs, paid by the SC of its own chain. `false`: nothing has happened.
#[inline(always)]
pub fn unblock_to_run<E: Ec>(ec: &'static E, current: &'static E) -> bool {
    let (s, c) = (ec.ipc(), E::cpu());
    let (Some(sc), Some(payer)) = (s.chain.get(), current.ipc().chain.get()) else { return false };
    let p = sc.ipc();
    let first = p.prio > payer.ipc().prio && c.ready.is_below(p.prio);
    // Nobody helps, so where it is parked is the end of its own chain.
    if !first || !c.helpers.is_empty() || !p.parked().is_some_and(|at| same(at, ec)) {
        return false;
    }
    s.blocked.set(false);
    p.parked.set(None);
    payer.ipc().leaf.set(current);
    c.pass_to(payer, sc);
    true
}
