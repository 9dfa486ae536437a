//! Packets between two protection domains: a source, a sink, a buffer that both see, and memory that the peer can write at any
//! time.
//!
//! The source cuts packets out of the buffer, fills them, and *submits* their descriptors; the sink reads or fills them and
//! *acknowledges* each, in any order; then the source has it back. Bytes are never moved by this crate's queues: a packet stays
//! where it is. This crate holds the logic only; the memory is behind [`PacketMemory`].
//!
//! Two queues, submissions and acknowledgements, each of `slots` descriptors, a power of two:
//!
//! | Offset | Size | Content |
//! |---|---|---|
//! | [`layout::HEAD`] = 0 | 4 | descriptors taken out so far, modulo 2^32; only the consumer writes it |
//! | [`layout::TAIL`] = 64 | 4 | descriptors put in so far, modulo 2^32; only the producer writes it |
//! | [`layout::SLOTS`] = 128 | 16 each | descriptor n is in slot n % `slots`: offset in the buffer (4 bytes), length (4), tag (8) |
//!
//! Memory that is for a ring alone begins with the submissions; then come the acknowledgements ([`layout::acknowledge_at`]) and
//! the buffer ([`layout::buffer_at`]), which reaches to its end.
//!
//! All is little endian, and zero at the start. What a tag says is up to the session: an operation, a block's number; with the
//! acknowledgement, how it went.
//!
//! **Back-pressure.** The source has at most `slots` packets out: a further one is refused ([`Refused::Full`]) until it has one
//! back. So neither queue is ever full, and nobody waits for room in it: the only things to wait for are a submission and
//! an acknowledgement. A sink that is slow holds its source, and no memory grows.
//!
//! **Signals.** An operation returns whether the peer may be asleep over it: it is, if it had taken all that was there
//! before. A side sleeps only after [`Sink::take`] or [`Source::take_back`] has come back empty. Each side publishes its counter
//! before it looks at the peer's, with a full fence in between, so one of the two always sees the other.
//!
//! **Trust.** Neither side believes the other. A descriptor is read once; one that is not in the buffer, or that the source has
//! not out, is an error that names it, and is left out: what comes behind it is served. Counters that are impossible break
//! the ring for good, and so does a source that has more packets out than it may: its sink takes no more. The bytes of a packet can change at any time: who
//! decides by them copies them first.
//!
//! Key types: [`Source`], [`Sink`], [`Packet`], [`PacketMemory`], [`Error`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod buffer;
pub mod layout;
mod queue;
mod sink;
mod source;
#[cfg(test)]
mod tests;

pub use queue::Queue;
pub use sink::Sink;
pub use source::{Refused, Source};

/// What a queue's slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Where the packet begins in the buffer, in bytes.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
    /// What the session makes of it.
    pub tag: u64,
}

/// The memory of one pair of queues and their buffer, as one side sees it.
///
/// Methods take `&self` because the peer changes the memory anyway. All accesses that this crate makes are in bounds: slots
/// below `slots()`, bytes below `buffer_len()`.
pub trait PacketMemory {
    /// Slots of each queue: a power of two of at most 2^31, the same at each call.
    fn slots(&self) -> usize;
    /// Bytes of the buffer, the same at each call; less than 2^32.
    fn buffer_len(&self) -> usize;
    /// Loads the consumer's counter of a queue with `Acquire`.
    fn load_head(&self, queue: Queue) -> u32;
    /// Stores it with `Release`.
    fn store_head(&self, queue: Queue, value: u32);
    /// Loads the producer's counter of a queue with `Acquire`.
    fn load_tail(&self, queue: Queue) -> u32;
    /// Stores it with `Release`.
    fn store_tail(&self, queue: Queue, value: u32);
    /// Reads a descriptor.
    fn load_slot(&self, queue: Queue, slot: usize) -> Descriptor;
    /// Writes a descriptor.
    fn store_slot(&self, queue: Queue, slot: usize, descriptor: Descriptor);
    /// Copies out of the buffer, from `offset` on.
    fn read_bytes(&self, offset: usize, into: &mut [u8]);
    /// Copies into the buffer, from `offset` on.
    fn write_bytes(&self, offset: usize, from: &[u8]);
}

impl<M: PacketMemory> PacketMemory for &M {
    fn slots(&self) -> usize {
        (**self).slots()
    }
    fn buffer_len(&self) -> usize {
        (**self).buffer_len()
    }
    fn load_head(&self, queue: Queue) -> u32 {
        (**self).load_head(queue)
    }
    fn store_head(&self, queue: Queue, value: u32) {
        (**self).store_head(queue, value);
    }
    fn load_tail(&self, queue: Queue) -> u32 {
        (**self).load_tail(queue)
    }
    fn store_tail(&self, queue: Queue, value: u32) {
        (**self).store_tail(queue, value);
    }
    fn load_slot(&self, queue: Queue, slot: usize) -> Descriptor {
        (**self).load_slot(queue, slot)
    }
    fn store_slot(&self, queue: Queue, slot: usize, descriptor: Descriptor) {
        (**self).store_slot(queue, slot, descriptor);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        (**self).read_bytes(offset, into);
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        (**self).write_bytes(offset, from);
    }
}

/// A packet that this side has: a part of the buffer that nobody else touches, if the peer keeps the rules.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is dropped is lost to the buffer"]
pub struct Packet {
    offset: u32,
    len: u32,
}

impl Packet {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has no bytes; there are none such.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it begins in the buffer, in bytes.
    pub fn offset(&self) -> usize {
        self.offset as usize
    }

    /// Copies bytes out, from `at` on; as many as there are: how many.
    pub fn read(&self, memory: &impl PacketMemory, at: usize, into: &mut [u8]) -> usize {
        let len = into.len().min(self.len().saturating_sub(at));
        if len > 0 {
            memory.read_bytes(self.offset() + at, &mut into[..len]);
        }
        len
    }

    /// Copies bytes in, from `at` on; as many as find room: how many.
    pub fn write(&self, memory: &impl PacketMemory, at: usize, from: &[u8]) -> usize {
        let len = from.len().min(self.len().saturating_sub(at));
        if len > 0 {
            memory.write_bytes(self.offset() + at, &from[..len]);
        }
        len
    }
}

/// What came out of a queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// The packet, which is this side's now.
    pub packet: Packet,
    /// What the peer says of it.
    pub tag: u64,
}

/// What a peer did that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Counters are impossible; the ring cannot be used any more.
    #[error("the peer broke the ring: it claims {claimed} descriptors in a queue of {slots}")]
    Broken {
        /// Descriptors in the queue according to the peer's counter.
        claimed: u32,
        /// How many it has room for.
        slots: u32,
    },
    /// The source has more packets out than it may; the ring cannot be used any more.
    #[error("the source broke the ring: it has more than {slots} packets out")]
    TooMany {
        /// How many it may.
        slots: u32,
    },
    /// A submitted packet has no bytes or is not in the buffer. It was left out.
    #[error("the source submitted {} bytes at {:#x} of a buffer of {buffer_len} (tag {:#x})", .descriptor.len, .descriptor.offset, .descriptor.tag)]
    Outside {
        /// What the source submitted.
        descriptor: Descriptor,
        /// Bytes of the buffer.
        buffer_len: usize,
    },
    /// An acknowledged packet is not out. It was left out.
    #[error("the sink acknowledged {} bytes at {:#x} (tag {:#x}), which are not out", .descriptor.len, .descriptor.offset, .descriptor.tag)]
    NotOut {
        /// What the sink acknowledged.
        descriptor: Descriptor,
    },
}

/// The memory cannot hold a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a ring has a power of two of slots, and a buffer of 1 to 2^32 - 1 bytes; this one has {slots} and {buffer_len}"
)]
pub struct BadLayout {
    /// Slots that the memory reports.
    pub slots: usize,
    /// Bytes of the buffer that it reports.
    pub buffer_len: usize,
}
