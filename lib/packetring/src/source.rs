//! The side that has the packets.
//!
//! Key types: [`Source`], [`Refused`].

use crate::buffer::Buffer;
use crate::queue::{self, Cursor};
use crate::{BadLayout, Descriptor, Error, Packet, PacketMemory, Queue, Taken};
use alloc::collections::BTreeMap;

/// Why a packet cannot be had, or not be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many packets are out as may be: wait for an acknowledgement.
    #[error("all {0} packets that can be out are")]
    Full(u32),
    /// There is no room for so many bytes in a row: wait for an acknowledgement, or cut it smaller.
    #[error("the buffer has no room for {0} bytes in a row")]
    NoRoom(usize),
    /// A packet has at least one byte.
    #[error("a packet of 0 bytes")]
    Empty,
    /// The sink broke the ring.
    #[error(transparent)]
    Sink(#[from] Error),
}

/// Submits packets, and gets them back. There must be only one per ring.
#[derive(Debug)]
pub struct Source<M> {
    memory: M,
    slots: u32,
    submit: Cursor,
    acknowledge: Cursor,
    buffer: Buffer,
    /// Lengths of the packets that are out, by offset.
    out: BTreeMap<u32, u32>,
}

impl<M: PacketMemory> Source<M> {
    /// The source of a fresh ring, all of whose counters are zero.
    pub fn new(memory: M) -> Result<Source<M>, BadLayout> {
        let slots = queue::slots(&memory)?;
        let buffer = Buffer::new(memory.buffer_len() as u32);
        let (submit, acknowledge) = (Cursor::new(Queue::Submit, slots), Cursor::new(Queue::Acknowledge, slots));
        Ok(Source { memory, slots, submit, acknowledge, buffer, out: BTreeMap::new() })
    }

    /// The memory, to fill and read packets.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// How many packets are out.
    pub fn out(&self) -> usize {
        self.out.len()
    }

    /// Cuts a packet of `len` bytes out of the buffer. Whatever was there before still is.
    pub fn packet(&mut self, len: usize) -> Result<Packet, Refused> {
        let bytes = u32::try_from(len).map_err(|_| Refused::NoRoom(len))?;
        if bytes == 0 {
            return Err(Refused::Empty);
        }
        let offset = self.buffer.take(bytes).ok_or(Refused::NoRoom(len))?;
        Ok(Packet { offset, len: bytes })
    }

    /// Gives a packet back to the buffer.
    pub fn release(&mut self, packet: Packet) {
        self.buffer.give_back(packet.offset, packet.len);
    }

    /// Submits a packet. `true`: the sink may be asleep over it. One that is refused comes back.
    pub fn submit(&mut self, packet: Packet, tag: u64) -> Result<bool, (Refused, Packet)> {
        if self.out.len() >= self.slots as usize {
            return Err((Refused::Full(self.slots), packet));
        }
        let Packet { offset, len } = packet;
        match self.submit.put(&self.memory, Descriptor { offset, len, tag }) {
            Ok(signal) => {
                self.out.insert(offset, len);
                Ok(signal)
            }
            Err(e) => Err((e.into(), packet)),
        }
    }

    /// The next packet that comes back, with what the sink says of it. [`Error::NotOut`]: what the sink acknowledged is left
    /// out, and the next call has the one behind it.
    pub fn take_back(&mut self) -> Result<Option<Taken>, Error> {
        let Some(descriptor) = self.acknowledge.take(&self.memory)? else { return Ok(None) };
        let Descriptor { offset, len, tag } = descriptor;
        if self.out.get(&offset) != Some(&len) {
            return Err(Error::NotOut { descriptor });
        }
        self.out.remove(&offset);
        Ok(Some(Taken { packet: Packet { offset, len }, tag }))
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> u32 {
        self.buffer.free()
    }

    #[cfg(test)]
    pub(crate) fn start_at(&mut self, position: u32) {
        (self.submit.position, self.acknowledge.position) = (position, position);
    }
}
