//! The ring in which a unit finds what it is to forget: VT-d's invalidation queue, AMD-Vi's command buffer.

use super::mmio::{Registers, store, wait_for};
use super::table;
use crate::mem::layout;
use crate::object::account::KERNEL;
use crate::say;
use ::iommu::Pair;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use spin::Mutex;

/// Entries, a frame of them.
const ENTRIES: u64 = 256;

/// What differs between the kinds of units.
pub struct Kind {
    /// Register for the end of what is in the ring.
    pub tail: u64,
    /// Register that says what is wrong.
    pub status: u64,
    /// What has a unit write a number to an address.
    pub wait: fn(u64, u32) -> Pair,
}

/// The ring. It is empty whenever its lock is free.
pub struct Queue {
    kind: &'static Kind,
    regs: Registers,
    /// Its frame.
    pub at: u64,
    tail: u64,
    flush: bool,
    /// The unit has not answered in time, and is not asked again.
    dead: bool,
    /// Where the unit writes what it is told to when it has come so far.
    done: &'static AtomicU64,
}

/// Status words, one a unit.
static DONE: [AtomicU64; super::MAX_UNITS] = [const { AtomicU64::new(0) }; super::MAX_UNITS];
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Queue {
    /// An empty one.
    pub fn new(kind: &'static Kind, regs: Registers, flush: bool) -> Option<Mutex<Queue>> {
        let at = table(&KERNEL, flush)?;
        let done = &DONE[NEXT.fetch_add(1, SeqCst) as usize % DONE.len()];
        Some(Mutex::new(Queue { kind, regs, at, tail: 0, flush, dead: false, done }))
    }

    fn put(&mut self, d: Pair) {
        for (i, word) in d.into_iter().enumerate() {
            store(self.at, (2 * self.tail) as usize + i, word, self.flush);
        }
        self.tail = (self.tail + 1) % ENTRIES;
    }

    /// Has the unit perform these, and waits until it has. `false`: it does not answer.
    pub fn perform(&mut self, what: &[Pair]) -> bool {
        if self.dead {
            return false;
        }
        let status = layout::phys(self.done as *const _ as u64);
        let token = (self.done.load(SeqCst) as u32).wrapping_add(1);
        what.iter().for_each(|w| self.put(*w));
        self.put((self.kind.wait)(status, token));
        self.regs.write64(self.kind.tail, self.tail << 4);
        self.dead = !wait_for(|| self.done.load(SeqCst) as u32 == token);
        if self.dead {
            say!("an IOMMU does not answer: status {:#x}", self.regs.read32(self.kind.status));
        }
        !self.dead
    }
}
