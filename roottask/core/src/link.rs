//! The root task as a client of the log.
//!
//! Key types: [`LogLink`]; [`Ring`], a ring of any session. The index logic is `bytering`'s; the memory is a window onto frames
//! that others also write, so all of it is accessed as atomics.

use crate::dataspaces::Pinned;
use crate::window::Window;
use bytering::{RingMemory, Writer, layout};
use policy::PhysRange;
use rpc::Signal;
use rt::rpc::{Held, raise};
use services::stream::RING_LEN;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// One ring.
pub struct Ring {
    /// The header.
    words: &'static [AtomicU32],
    /// The data area.
    data: &'static [AtomicU8],
}

impl Ring {
    /// The ring that begins so many bytes behind the first of these frames.
    pub fn of(window: &Window, frames: PhysRange, offset: u64) -> Option<Ring> {
        if frames.len() < offset + RING_LEN {
            return None;
        }
        let (start, data_len) = (frames.start + offset, layout::data_len(RING_LEN as usize)?);
        let words = window.shared_words(PhysRange::new(start, layout::DATA as u64))?;
        let data = window.shared_bytes(PhysRange::new(start + layout::DATA as u64, data_len as u64))?;
        Some(Ring { words, data })
    }
}

impl RingMemory for Ring {
    fn data_len(&self) -> usize {
        self.data.len()
    }
    fn load_head(&self) -> u32 {
        self.words[layout::HEAD / 4].load(Ordering::Acquire)
    }
    fn store_head(&self, value: u32) {
        self.words[layout::HEAD / 4].store(value, Ordering::Release);
    }
    fn load_tail(&self) -> u32 {
        self.words[layout::TAIL / 4].load(Ordering::Acquire)
    }
    fn store_tail(&self, value: u32) {
        self.words[layout::TAIL / 4].store(value, Ordering::Release);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        into.iter_mut().zip(&self.data[offset..]).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        self.data[offset..].iter().zip(from).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
    }
}

/// A session with the log.
pub struct LogLink {
    ring: Writer<Ring>,
    wake: Held<Signal>,
    #[expect(dead_code, reason = "the frames are its own as long as it is")]
    pinned: Pinned,
    /// What did not fit.
    pending: Vec<u8>,
    /// A copy of what is in the ring, and perhaps of a little before it.
    sent: Vec<u8>,
}

impl LogLink {
    /// One whose ring is in that memory, fresh; `wake` is for the provider.
    pub fn new(window: &Window, pinned: Pinned, wake: Held<Signal>) -> Option<LogLink> {
        let ring = Writer::new(Ring::of(window, pinned.frames, 0)?).ok()?;
        Some(LogLink { ring, wake, pinned, pending: Vec::new(), sent: Vec::new() })
    }

    /// Appends text to what is to be sent.
    pub fn put(&mut self, text: &str) {
        self.pending.extend_from_slice(text.as_bytes());
        self.flush();
    }

    /// Sends what fits; whether nothing is left. A provider that breaks the ring gets nothing any more.
    pub fn flush(&mut self) -> bool {
        if !self.pending.is_empty() {
            let moved = self.ring.write(&self.pending).unwrap_or_default();
            self.sent.extend(self.pending.drain(..moved.bytes));
            self.forget_taken();
            if moved.signal {
                // Who does not live any more needs none.
                let _ = raise(*self.wake);
            }
        }
        self.pending.is_empty()
    }

    /// Bytes that the provider has not taken. Of a broken ring nothing is known: all of it may be unread.
    fn in_ring(&mut self) -> usize {
        let capacity = layout::data_len(RING_LEN as usize).unwrap_or(0);
        capacity - self.ring.space().unwrap_or(0).min(capacity)
    }

    fn forget_taken(&mut self) {
        let in_ring = self.in_ring();
        self.sent.drain(..self.sent.len().saturating_sub(in_ring));
    }

    /// Whether the provider has taken everything.
    pub fn drained(&mut self) -> bool {
        self.flush() && self.in_ring() == 0
    }

    /// What the provider has not taken, for somebody else to show.
    pub fn into_unread(mut self) -> String {
        self.forget_taken();
        self.sent.append(&mut self.pending);
        String::from_utf8_lossy(&self.sent).into_owned()
    }
}
