//! Byte rings between two protection domains: one producer, one consumer, memory that the peer can write at any time.
//!
//! This crate holds the index logic only. The memory is behind [`RingMemory`]; the component runtime implements it
//! with atomics and volatile copies on the shared pages, the tests with a vector of atomics.
//!
//! Layout of a ring of `ring_len` bytes, all of it zero at the start:
//!
//! | Offset | Size | Content |
//! |---|---|---|
//! | [`layout::HEAD`] = 0 | 4 | `head`: bytes taken out so far, modulo 2^32; only the consumer writes it |
//! | [`layout::TAIL`] = 64 | 4 | `tail`: bytes put in so far, modulo 2^32; only the producer writes it |
//! | [`layout::DATA`] = 128 | [`layout::data_len`] | byte n of the stream is at `DATA + n % data_len` |
//!
//! The counters are little endian and a cache line apart. `data_len` is the largest power of two
//! that fits, so it divides 2^32 and the free-running counters may wrap; `tail - head` is the number of
//! bytes in the ring, 0 to `data_len`.
//!
//! Trust: each side keeps its own counter to itself and only publishes it; of the peer it believes nothing but that
//! `tail - head <= data_len`. A peer that breaks this is [`Broken`], for good. All other lies of a peer only change
//! which of the peer's own bytes are read or overwritten.
//!
//! Signals: an operation tells in [`Moved::signal`] whether the peer may be asleep over it. The rule that makes this
//! safe: a side sleeps for bytes only after a read came back short, and for space only after a write came back short
//! (or after [`Writer::space`] was less than it wants, which may be at most half of `data_len`). Each side publishes
//! its counter before it looks at the peer's, with a full fence in between, so one of the two always sees the other.
//!
//! A side that is gone cannot wake the other. Whoever knows that it is (the parent of both) breaks the ring for the other
//! side ([`cut_producer`], [`cut_consumer`]) and wakes it.
//!
//! Key types: [`Reader`], [`Writer`], [`RingMemory`], [`Moved`], [`Broken`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod cut;
pub mod layout;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use cut::{cut_consumer, cut_producer};
pub use reader::Reader;
pub use writer::Writer;

/// The memory of one ring, as one side sees it.
///
/// Methods take `&self` because the peer changes the memory anyway. All accesses of the data area that the rings make
/// are in bounds: `offset + slice length <= data_len()`.
pub trait RingMemory {
    /// Bytes in the data area: a power of two of at most 2^31, the same at each call. See [`layout::data_len`].
    fn data_len(&self) -> usize;
    /// Loads the counter at [`layout::HEAD`] with `Acquire`.
    fn load_head(&self) -> u32;
    /// Stores the counter at [`layout::HEAD`] with `Release`.
    fn store_head(&self, value: u32);
    /// Loads the counter at [`layout::TAIL`] with `Acquire`.
    fn load_tail(&self) -> u32;
    /// Stores the counter at [`layout::TAIL`] with `Release`.
    fn store_tail(&self, value: u32);
    /// Copies out of the data area, from `offset` on.
    fn read_bytes(&self, offset: usize, into: &mut [u8]);
    /// Copies into the data area, from `offset` on.
    fn write_bytes(&self, offset: usize, from: &[u8]);
}

impl<M: RingMemory> RingMemory for &M {
    fn data_len(&self) -> usize {
        (**self).data_len()
    }
    fn load_head(&self) -> u32 {
        (**self).load_head()
    }
    fn store_head(&self, value: u32) {
        (**self).store_head(value);
    }
    fn load_tail(&self) -> u32 {
        (**self).load_tail()
    }
    fn store_tail(&self, value: u32) {
        (**self).store_tail(value);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        (**self).read_bytes(offset, into);
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        (**self).write_bytes(offset, from);
    }
}

/// What a read or write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes moved. Fewer than asked for: the ring was seen empty (read) or full (write).
    pub bytes: usize,
    /// The peer may be asleep and has a reason to wake up.
    pub signal: bool,
}

/// The peer's counter is impossible; the ring cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer broke the ring: it claims {claimed} bytes in a ring of {data_len}")]
pub struct Broken {
    /// Bytes in the ring according to the peer's counter.
    pub claimed: u32,
    /// Bytes the ring has room for.
    pub data_len: u32,
}

/// The memory cannot hold a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ring's data area must be a power of two of at most 2^31 bytes, this one has {data_len}")]
pub struct BadLength {
    /// The length that the memory reports.
    pub data_len: usize,
}

/// One side's view of the counters: its own position and how to place a span of bytes in the data area.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// Own free-running counter.
    position: u32,
    data_len: u32,
    /// Sticky: once the peer lied, it is not asked again.
    broken: Option<Broken>,
}

impl Cursor {
    fn new(data_len: usize) -> Result<Cursor, BadLength> {
        match u32::try_from(data_len) {
            Ok(n) if n.is_power_of_two() => Ok(Cursor { position: 0, data_len: n, broken: None }),
            _ => Err(BadLength { data_len }),
        }
    }

    /// Takes `used`, as computed from the peer's counter, if it is possible.
    fn check(&mut self, used: u32) -> Result<u32, Broken> {
        if self.broken.is_none() && used > self.data_len {
            self.broken = Some(Broken { claimed: used, data_len: self.data_len });
        }
        self.broken.map_or(Ok(used), Err)
    }

    /// Offset of the position, and how many of the next `len` bytes lie before the end of the data area.
    fn span(&self, len: usize) -> (usize, usize) {
        let offset = (self.position & (self.data_len - 1)) as usize;
        (offset, len.min(self.data_len as usize - offset))
    }
}
