//! Semaphore (spec 2.5): a counter and a FIFO of blocked ECs. Interrupt semaphores are how interrupts are delivered.

use super::{account::Account, ec::Ec, ec::Waiting, kernel_object};
use crate::arch::{cpu::cpu, interrupt};
use crate::mem::refs::{Header, Object, PORTION, Progress, Ref};
use crate::remote;
use abi::Status;
use sched::Queue;
use smp::Semaphore;

/// Semaphore.
#[repr(C, align(32))]
pub struct Sm {
    header: Header,
    state: Semaphore<Queue<Ec>>,
    /// Pin (global system interrupt) or message-signalled interrupt that ups it, if any.
    pub gsi: Option<u16>,
}
kernel_object!(Sm, Sm);

/// Outcome of a down operation.
pub enum Down {
    /// The counter was above zero.
    Taken,
    /// The EC is queued.
    Queued,
    /// The semaphore is destroyed.
    Closed,
}

/// Releases an EC that is in no queue any more.
pub fn release(ec: &'static Ec, s: Status) {
    if ec.home() == cpu().id.get() {
        ec.unblock(s);
    } else {
        remote::release(ec, s);
    }
}

impl Sm {
    /// A semaphore with an initial counter.
    pub fn create(a: &'static Account, count: u64, gsi: Option<u16>) -> Option<Ref<Sm>> {
        let state = Semaphore::new(count, Queue::new());
        Ref::new(a, Sm { header: Header::new(Self::KIND), state, gsi })
    }

    /// Releases the first blocked EC, or increments the counter.
    pub fn up(&self) -> Result<(), Status> {
        if let Some(ec) = self.up_for()? {
            release(ec, Status::Success);
        }
        Ok(())
    }

    /// Takes the first blocked EC, which is to be [released](release), out of the queue, or increments the counter.
    #[inline]
    pub fn up_for(&self) -> Result<Option<&'static Ec>, Status> {
        // For most there is nobody: that is seen without a call.
        self.state
            .up(|q| if q.is_empty() { None } else { q.pop_front::<Waiting>() })
            .map_err(|smp::Overflow| Status::Ovrflow)
    }

    /// [`Sm::down`], if nobody has to wait for it, and no interrupt is behind it. `false`: nothing has happened.
    #[inline]
    pub fn down_alone(&self, zero: bool) -> bool {
        self.gsi.is_none() && self.state.count_down(zero)
    }

    /// It is destroyed: releases a portion of those who wait.
    pub fn close(&self) -> Progress {
        for _ in 0..PORTION {
            let mut first = None;
            let _ = self.state.forget(|q| {
                first = q.pop_front::<Waiting>();
                first.is_some()
            });
            let Some(ec) = first else { return Progress::Done };
            release(ec, Status::Aborted);
        }
        Progress::More
    }

    /// Decrements the counter (or zeroes it), or queues `ec`.
    pub fn down(&self, ec: &'static Ec, zero: bool) -> Down {
        if let Some(gsi) = self.gsi {
            interrupt::unmask(gsi);
        }
        let mut closed = false;
        // Looked at under the lock: `close`, which takes it later, finds who is queued here.
        let taken = self.state.down(zero, |q| {
            closed = self.header.doomed();
            if !closed {
                q.push_back::<Waiting>(ec);
            }
        });
        match (taken, closed) {
            (true, _) => Down::Taken,
            (false, false) => Down::Queued,
            (false, true) => Down::Closed,
        }
    }

    /// Takes `ec` out of the queue, because its timeout came first; `false` if it was released meanwhile.
    pub fn forget(&self, ec: &'static Ec) -> bool {
        self.state.forget(|q| q.remove::<Waiting>(ec))
    }
}
