//! Semaphore (spec 2.5): a counter and a FIFO of blocked ECs. Interrupt semaphores are how interrupts are delivered.

use super::{account::Account, ec::Ec, ec::Waiting, kernel_object};
use crate::arch::{cpu::cpu, interrupt};
use crate::mem::refs::{Header, Object, Ref};
use crate::remote;
use abi::Status;
use sched::Queue;
use spin::Mutex;

/// Semaphore.
#[repr(C, align(32))]
pub struct Sm {
    header: Header,
    state: Mutex<State>,
    /// Pin (global system interrupt) or message-signalled interrupt that ups it, if any.
    pub gsi: Option<u16>,
}
kernel_object!(Sm, Sm);

struct State {
    count: u64,
    waiting: Queue<Ec>,
}

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
        let state = Mutex::new(State { count, waiting: Queue::new() });
        Ref::new(a, Sm { header: Header::new(Self::KIND), state, gsi })
    }

    /// Releases the first blocked EC, or increments the counter.
    pub fn up(&self) -> Result<(), Status> {
        let mut s = self.state.lock();
        let Some(ec) = s.waiting.pop_front::<Waiting>() else {
            s.count = s.count.checked_add(1).ok_or(Status::Ovrflow)?;
            return Ok(());
        };
        drop(s);
        if ec.cpu == cpu().id.get() {
            ec.unblock(Status::Success);
        } else {
            remote::release(ec);
        }
        Ok(())
    }

    /// Decrements the counter (or zeroes it), or queues `ec`.
    pub fn down(&self, ec: &'static Ec, zero: bool) -> Down {
        if let Some(gsi) = self.gsi {
            interrupt::unmask(gsi);
        }
        let mut s = self.state.lock();
        if s.count > 0 {
            s.count = if zero { 0 } else { s.count - 1 };
            return Down::Taken;
        }
        s.waiting.push_back::<Waiting>(ec);
        Down::Queued
    }

    /// Takes `ec` out of the queue, because its timeout came first; `false` if it was released meanwhile.
    pub fn forget(&self, ec: &'static Ec) -> bool {
        self.state.lock().waiting.remove::<Waiting>(ec)
    }
}
