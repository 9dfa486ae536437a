//! The side that gets packets, and gives them back.
//!
//! Key type: [`Sink`].

use crate::queue::{self, Cursor};
use crate::{BadLayout, Descriptor, Error, Packet, PacketMemory, Queue, Taken};

/// Takes packets and acknowledges them. There must be only one per ring.
#[derive(Debug)]
pub struct Sink<M> {
    memory: M,
    slots: u32,
    submit: Cursor,
    acknowledge: Cursor,
    /// Packets that were taken and not acknowledged.
    has: u32,
}

impl<M: PacketMemory> Sink<M> {
    /// The sink of a fresh ring, all of whose counters are zero.
    pub fn new(memory: M) -> Result<Sink<M>, BadLayout> {
        let slots = queue::slots(&memory)?;
        let (submit, acknowledge) = (Cursor::new(Queue::Submit, slots), Cursor::new(Queue::Acknowledge, slots));
        Ok(Sink { memory, slots, submit, acknowledge, has: 0 })
    }

    /// The memory, to read and fill packets.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// How many packets were taken and not acknowledged.
    pub fn has(&self) -> usize {
        self.has as usize
    }

    /// The next packet. [`Error::Outside`]: what the source submitted is left out, and the next call has the one behind it.
    pub fn take(&mut self) -> Result<Option<Taken>, Error> {
        if self.has == self.slots {
            // An honest source has no further one out.
            let more = self.memory.load_tail(Queue::Submit) != self.submit.position;
            if more && self.submit.broken.is_none() {
                self.submit.broken = Some(Error::TooMany { slots: self.slots });
            }
            return self.submit.broken.map_or(Ok(None), Err);
        }
        let Some(descriptor) = self.submit.take(&self.memory)? else { return Ok(None) };
        let Descriptor { offset, len, tag } = descriptor;
        let buffer_len = self.memory.buffer_len();
        let end = u64::from(offset) + u64::from(len);
        if len == 0 || end > buffer_len as u64 {
            return Err(Error::Outside { descriptor, buffer_len });
        }
        self.has += 1;
        Ok(Some(Taken { packet: Packet { offset, len }, tag }))
    }

    /// Gives a packet back. `true`: the source may be asleep over it. If the source broke the ring, the packet is forgotten.
    pub fn acknowledge(&mut self, packet: Packet, tag: u64) -> Result<bool, Error> {
        self.has = self.has.saturating_sub(1);
        let Packet { offset, len } = packet;
        self.acknowledge.put(&self.memory, Descriptor { offset, len, tag })
    }

    #[cfg(test)]
    pub(crate) fn start_at(&mut self, position: u32) {
        (self.submit.position, self.acknowledge.position) = (position, position);
    }
}
