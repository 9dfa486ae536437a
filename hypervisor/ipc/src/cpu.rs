//! Who runs next on a CPU.

use crate::{Cont, Ec, Queued, Sc, payer};
use core::cell::Cell;
use sched::{Queue, ReadyQueue};

/// The SCs of a CPU.
pub struct Cpu<E: Ec> {
    /// Who pays.
    payer: Cell<Option<&'static E::Sc>>,
    pub(crate) ready: ReadyQueue<E::Sc>,
    /// Those that are parked at somebody else than their leaf.
    pub(crate) helpers: Queue<E::Sc>,
    /// The turn of the current SC is over.
    pub turn_over: Cell<bool>,
}

/// How a kernel entry goes on.
#[must_use = "somebody has to go on"]
pub enum Next<E: Ec> {
    /// This EC, paid by the current SC.
    Run(&'static E),
    /// The current SC, if there is one, stays ready, but somebody else may be first.
    Resched,
}

/// What comes of a [`Next`].
pub enum Step<E: Ec> {
    /// This EC does this.
    Do(&'static E, Cont),
    /// Another step.
    Then(Next<E>),
    /// Nobody is ready.
    Idle,
}

impl<E: Ec> Cpu<E> {
    /// Nobody is ready.
    #[allow(clippy::new_without_default, reason = "that of a CPU is not made by default")]
    pub const fn new() -> Self {
        Cpu { payer: Cell::new(None), ready: ReadyQueue::new(), helpers: Queue::new(), turn_over: Cell::new(false) }
    }

    /// The SC that pays.
    pub fn payer(&self) -> Option<&'static E::Sc> {
        self.payer.get()
    }

    /// Whether somebody with a higher priority is ready, or the turn is over and an equal is; or nobody pays.
    pub fn preempted(&self) -> bool {
        let Some(sc) = self.payer.get() else { return true };
        let prio = sc.ipc().prio;
        self.ready.highest().is_some_and(|p| p > prio || (p == prio && self.turn_over.get()))
    }

    /// On with whatever the current SC has to run.
    pub fn next(&self) -> Next<E> {
        self.payer.get().map_or(Next::Resched, |sc| Next::Run(sc.ipc().leaf.get()))
    }

    /// Puts the current SC back: in front while its turn lasts, else behind its equals.
    pub fn requeue(&self) {
        if let Some(sc) = self.put_away() {
            self.put_back(sc);
        }
    }

    #[inline(always)]
    fn put_back(&self, sc: &'static E::Sc) {
        if self.turn_over.get() {
            self.put_behind(sc);
        } else {
            self.ready.push_front::<Queued>(sc, sc.ipc().prio);
        }
    }

    #[cold]
    fn put_behind(&self, sc: &'static E::Sc) {
        self.turn_over.set(false);
        self.ready.push_back::<Queued>(sc, sc.ipc().prio);
    }

    /// `to`, which comes before the current SC, `from`, and all that are ready, pays from now on.
    #[inline(always)]
    pub(crate) fn pass_to(&self, from: &'static E::Sc, to: &'static E::Sc) {
        self.payer.set(Some(to));
        E::Sc::switch(Some(from), Some(to));
        self.put_back(from);
    }

    /// The current SC pays no more.
    pub(crate) fn put_away(&self) -> Option<&'static E::Sc> {
        let sc = self.payer.take()?;
        E::Sc::switch(Some(sc), None);
        Some(sc)
    }

    fn pick(&self) -> Option<&'static E> {
        self.turn_over.set(false);
        let sc = self.ready.pop::<Queued>()?;
        self.payer.set(Some(sc));
        E::Sc::switch(None, Some(sc));
        Some(sc.ipc().leaf.get())
    }

    /// Has all that help look again whom they wait for: it may be gone.
    pub(crate) fn look_again(&self) {
        self.requeue();
        self.wake_helpers(|_| true);
    }

    /// Has those that help, and are parked at such ECs, look again.
    pub(crate) fn wake_helpers(&self, at: impl Fn(&'static E) -> bool) {
        let mut next = self.helpers.head();
        while let Some(sc) = next {
            next = self.helpers.next::<Queued>(sc);
            if sc.ipc().parked.get().is_some_and(&at) {
                payer::wake(sc);
            }
        }
    }
}

/// One step towards leaving the kernel. Helping can be long or circular, so somebody has to count.
#[inline]
pub fn step<E: Ec>(next: Next<E>) -> Step<E> {
    let c = E::cpu();
    let ec = match next {
        Next::Run(ec) => ec,
        Next::Resched => {
            c.requeue();
            match c.pick() {
                Some(ec) => ec,
                None => return Step::Idle,
            }
        }
    };
    if ec.ipc().blocked() {
        if let Some(sc) = c.put_away() {
            payer::park(sc, ec);
        }
        return Step::Then(Next::Resched);
    }
    match ec.ipc().cont.get() {
        // It would only raise an event or call, which is for who pays to do.
        cont @ (Cont::Startup | Cont::Event | Cont::Call) => Step::Do(ec, cont),
        _ if c.preempted() => Step::Then(Next::Resched),
        // It does not go on as it was about to.
        Cont::Receive | Cont::Reply | Cont::Dead => Step::Then(c.next()),
        cont => Step::Do(ec, cont),
    }
}
