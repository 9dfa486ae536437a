//! One side's view of a queue.
//!
//! Key types: [`Queue`], which one; [`Cursor`].

use crate::{BadLayout, Descriptor, Error, PacketMemory};
use core::sync::atomic::{Ordering, fence};

/// One of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// From the source to the sink.
    Submit,
    /// From the sink to the source.
    Acknowledge,
}

/// Checks what a memory reports: its slots.
pub(crate) fn slots(memory: &impl PacketMemory) -> Result<u32, BadLayout> {
    let (slots, buffer_len) = (memory.slots(), memory.buffer_len());
    let fits = slots.is_power_of_two() && slots <= 1 << 31;
    match u32::try_from(buffer_len) {
        Ok(1..) if fits => Ok(slots as u32),
        _ => Err(BadLayout { slots, buffer_len }),
    }
}

/// The own position in a queue, and what is known of the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    queue: Queue,
    slots: u32,
    /// Own free-running counter.
    pub(crate) position: u32,
    /// Sticky: once the peer lied, it is not asked again.
    pub(crate) broken: Option<Error>,
}

impl Cursor {
    pub(crate) fn new(queue: Queue, slots: u32) -> Cursor {
        Cursor { queue, slots, position: 0, broken: None }
    }

    fn slot(&self) -> usize {
        (self.position & (self.slots - 1)) as usize
    }

    fn check(&mut self, claimed: u32) -> Result<u32, Error> {
        if self.broken.is_none() && claimed > self.slots {
            self.broken = Some(Error::Broken { claimed, slots: self.slots });
        }
        self.broken.map_or(Ok(claimed), Err)
    }

    /// Of the consumer: the next descriptor.
    pub(crate) fn take(&mut self, memory: &impl PacketMemory) -> Result<Option<Descriptor>, Error> {
        let there = memory.load_tail(self.queue).wrapping_sub(self.position);
        if self.check(there)? == 0 {
            return Ok(None);
        }
        let descriptor = memory.load_slot(self.queue, self.slot());
        self.position = self.position.wrapping_add(1);
        memory.store_head(self.queue, self.position);
        // The next load of the tail must not be older than this store: see "Signals" in the crate's documentation.
        fence(Ordering::SeqCst);
        Ok(Some(descriptor))
    }

    /// Of the producer: puts a descriptor in. Whether the consumer had taken all before.
    pub(crate) fn put(&mut self, memory: &impl PacketMemory, descriptor: Descriptor) -> Result<bool, Error> {
        let used = self.position.wrapping_sub(memory.load_head(self.queue));
        if self.check(used)? == self.slots {
            // Only a peer that has not counted well makes this of as many packets as there are slots.
            self.check(self.slots + 1)?;
        }
        memory.store_slot(self.queue, self.slot(), descriptor);
        self.position = self.position.wrapping_add(1);
        memory.store_tail(self.queue, self.position);
        // The next load of the head must not be older than this store.
        fence(Ordering::SeqCst);
        Ok(self.check(self.position.wrapping_sub(memory.load_head(self.queue))).is_ok_and(|used| used == 1))
    }
}
