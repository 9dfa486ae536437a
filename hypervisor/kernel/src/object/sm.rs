//! Semaphore (spec 2.5): a counter and a FIFO of blocked ECs. Interrupt semaphores are how interrupts are delivered.

use super::{account::Account, ec::Ec, ec::Waiting, kernel_object};
use crate::arch::{cpu::cpu, interrupt};
use crate::mem::refs::{Header, Object, Ref};
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
}

impl Sm {
    /// A semaphore with an initial counter.
    pub fn create(a: &'static Account, count: u64, gsi: Option<u16>) -> Option<Ref<Sm>> {
        let state = Semaphore::new(count, Queue::new());
        Ref::new(a, Sm { header: Header::new(Self::KIND), state, gsi })
    }

    /// Releases the first blocked EC, or increments the counter.
    pub fn up(&self) -> Result<(), Status> {
        match self.state.up(|q| q.pop_front::<Waiting>()).map_err(|smp::Overflow| Status::Ovrflow)? {
            Some(ec) if ec.cpu == cpu().id.get() => ec.unblock(Status::Success),
            Some(ec) => remote::release(ec),
            None => {}
        }
        Ok(())
    }

    /// Decrements the counter (or zeroes it), or queues `ec`.
    pub fn down(&self, ec: &'static Ec, zero: bool) -> Down {
        if let Some(gsi) = self.gsi {
            interrupt::unmask(gsi);
        }
        if self.state.down(zero, |q| q.push_back::<Waiting>(ec)) { Down::Taken } else { Down::Queued }
    }

    /// Takes `ec` out of the queue, because its timeout came first; `false` if it was released meanwhile.
    pub fn forget(&self, ec: &'static Ec) -> bool {
        self.state.forget(|q| q.remove::<Waiting>(ec))
    }
}
