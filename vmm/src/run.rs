//! Life of a virtual CPU: whether it runs, halts or waits for a start-up IPI, and who has to be told when that changes.
//!
//! A [`Run`] is part of the machine and changes under the machine's lock only. Its vCPU is in the guest, in its handler
//! (between an exit and the reply), or its handler is blocked on the vCPU's semaphore. Two decisions matter, and neither
//! blocks:
//!
//! * **The handler**: [`Run::next`] says whether the vCPU goes on, starts somewhere else, or blocks. The handler drops
//!   the lock, then downs the semaphore if it was told to block.
//! * **Everybody else** changes the devices or the vCPU's life, then asks [`Run::kick`] what its handler has to be told,
//!   drops the lock, and does it: ups the semaphore, or recalls the vCPU.
//!
//! # No wake-up is lost
//! Both decisions are made in the critical section that also looks at (or changes) what they are about. So a change
//! comes either before the handler's decision, which then takes it into account, or after it:
//!
//! * After "blocked": the presence is `Blocked`, the kick ups the semaphore. Semaphores count, so it does not matter
//!   whether the handler is at its `down` already. The presence becomes `Woken`, so that there is one up for each down,
//!   and nobody tells it again: the handler's next act is to ask [`Run::next`].
//! * After "goes on", be the vCPU in the guest or the handler still on its way to the reply: the kick recalls. The kernel
//!   keeps a recall until it is about to enter the guest and then raises RECALL instead, so a recall that comes before
//!   the reply counts as well. No second recall is made before that event has come to the lock ([`Run::recalled`]): the
//!   answer to it takes everything into account that came in the meantime.
//! * No recall is needed for an event whose window the vCPU has asked for: the exit comes by itself when the vCPU can
//!   take the event, and the request is in the same reply as the decision.
//!
//! `tests` walks through all interleavings.

use crate::dev::Pending;
use crate::inject;

/// From where a vCPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The guest's entry point: the bootstrap processor's.
    Boot,
    /// Real mode at this page: after a start-up IPI.
    Startup(u8),
}

/// What the handler does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The vCPU goes on where it is.
    Go,
    /// The vCPU starts from here. All its state is set, if it has not run since the machine's reset.
    Enter(Entry, Fresh),
    /// The handler blocks.
    Block,
}

/// Whether a vCPU starts for the first time since the machine's reset.
pub type Fresh = bool;

/// What a thread that changed something has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kick {
    /// Nothing.
    None,
    /// Up the semaphore of the blocked handler.
    Wake,
    /// Recall the vCPU.
    Recall,
}

/// What the virtual processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Activity {
    /// Executes instructions.
    Running,
    /// Executed HLT. Whether interrupts and NMIs end that.
    Halted { interrupts: bool, nmis: bool },
    /// Waits for a start-up IPI.
    WaitForSipi,
    /// Held while the machine is reset.
    Parked,
}

/// Where its handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Presence {
    /// In the guest, or between exit and reply.
    Busy,
    /// Blocked, or about to block.
    Blocked,
    /// As before, but its semaphore has been upped.
    Woken,
}

/// One vCPU's life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    activity: Activity,
    presence: Presence,
    /// It is to start from here before it does anything else.
    entry: Option<Entry>,
    fresh: Fresh,
    /// A recall is under way.
    recalled: bool,
    /// Windows that it has asked for.
    windows: u32,
}

impl Run {
    /// A vCPU after power-on, before its STARTUP event. The bootstrap processor runs, the others wait.
    pub fn new(bootstrap: bool) -> Run {
        let (activity, entry) =
            if bootstrap { (Activity::Running, Some(Entry::Boot)) } else { (Activity::WaitForSipi, None) };
        Run { activity, presence: Presence::Busy, entry, fresh: true, recalled: false, windows: 0 }
    }

    /// Whether the vCPU just goes on: nobody has changed its life since it last did.
    pub fn is_undisturbed(&self) -> bool {
        self.activity == Activity::Running && self.entry.is_none()
    }

    /// The vCPU executed HLT, and these end it.
    pub fn halt(&mut self, interrupts: bool, nmis: bool) {
        if self.is_undisturbed() {
            self.activity = Activity::Halted { interrupts, nmis };
        }
    }

    /// The vCPU gets an INIT: it waits for a start-up IPI (SDM volume 3, 9.4).
    pub fn init(&mut self) {
        if self.activity != Activity::Parked {
            (self.activity, self.entry) = (Activity::WaitForSipi, None);
        }
    }

    /// The vCPU gets a start-up IPI, which means something only while it waits for one.
    pub fn startup(&mut self, page: u8) {
        if self.activity == Activity::WaitForSipi {
            (self.activity, self.entry) = (Activity::Running, Some(Entry::Startup(page)));
        }
    }

    /// The machine is to be reset: the vCPU stops at the next opportunity.
    pub fn park(&mut self) {
        self.activity = Activity::Parked;
    }

    /// Whether it has stopped because of [`park`](Self::park).
    pub fn is_parked(&self) -> bool {
        self.activity == Activity::Parked && self.presence == Presence::Blocked
    }

    /// The handler of this one, the last to stop, resets the machine: it does not block, and asks [`next`](Self::next)
    /// afterwards.
    pub fn stay_awake(&mut self) {
        self.presence = Presence::Woken;
    }

    /// The machine was reset: as new, but the handler is where it is.
    pub fn reset(&mut self, bootstrap: bool) {
        *self = Run { presence: self.presence, recalled: self.recalled, ..Run::new(bootstrap) };
    }

    /// A RECALL event has come.
    pub fn recalled(&mut self) {
        self.recalled = false;
    }

    /// The reply asks for these windows, or no longer does.
    pub fn set_windows(&mut self, windows: u32) {
        self.windows = windows;
    }

    /// The handler asks what to do.
    pub fn next(&mut self, pending: Option<Pending>) -> Next {
        if !self.is_due(pending) {
            self.presence = Presence::Blocked;
            return Next::Block;
        }
        (self.activity, self.presence) = (Activity::Running, Presence::Busy);
        match self.entry.take() {
            Some(entry) => {
                self.windows = 0;
                Next::Enter(entry, std::mem::take(&mut self.fresh))
            }
            None => Next::Go,
        }
    }

    /// Somebody else changed something: what the handler has to be told.
    pub fn kick(&mut self, pending: Option<Pending>) -> Kick {
        match self.presence {
            Presence::Blocked if self.is_due(pending) => {
                self.presence = Presence::Woken;
                Kick::Wake
            }
            Presence::Busy if self.is_behind(pending) && !self.recalled => {
                self.recalled = true;
                Kick::Recall
            }
            _ => Kick::None,
        }
    }

    /// Whether nothing but another vCPU can make it go on.
    pub fn is_stuck(&self, pending: Option<Pending>) -> bool {
        let deaf = matches!(self.activity, Activity::Halted { interrupts: false, .. } | Activity::WaitForSipi);
        deaf && !self.is_due(pending)
    }

    /// Whether an NMI would be news to the vCPU: not while it halts with NMIs blocked, or waits for the window already.
    pub fn minds_nmis(&self) -> bool {
        match self.activity {
            Activity::Halted { nmis, .. } => nmis,
            _ => self.windows & inject::NMI_WINDOW == 0,
        }
    }

    /// Whether the vCPU has a reason to run.
    fn is_due(&self, pending: Option<Pending>) -> bool {
        match (self.activity, pending) {
            (Activity::Running, _) => true,
            (Activity::Halted { interrupts, .. }, Some(Pending::Interrupt(_))) => interrupts,
            (Activity::Halted { nmis, .. }, Some(Pending::Nmi)) => nmis,
            (Activity::Halted { .. }, None) | (Activity::WaitForSipi | Activity::Parked, _) => false,
        }
    }

    /// Whether the vCPU, which runs, does not know something that it should.
    fn is_behind(&self, pending: Option<Pending>) -> bool {
        let window = match pending {
            None => u32::MAX,
            Some(Pending::Interrupt(_)) => inject::INTERRUPT_WINDOW,
            Some(Pending::Nmi) => inject::NMI_WINDOW,
        };
        !self.is_undisturbed() || self.windows & window == 0 && pending.is_some()
    }
}

#[cfg(test)]
mod tests;
