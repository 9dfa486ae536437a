//! The sending half of the root task's own channel to the log.
//!
//! Key type: [`LogLink`]. The index logic is `bytering`'s; the memory is a window onto frames that the provider also
//! writes, so all of it is accessed as atomics.

use crate::window::Window;
use abi::Sel;
use bytering::{RingMemory, Writer, layout};
use policy::{PhysRange, RING_LEN};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// One ring.
struct Ring {
    /// The header.
    words: &'static [AtomicU32],
    /// The data area.
    data: &'static [AtomicU8],
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

/// A channel to the log.
pub struct LogLink {
    ring: Writer<Ring>,
    signal: Sel,
    /// What did not fit.
    pending: Vec<u8>,
}

impl LogLink {
    /// The client's end of a channel whose memory is `memory`; `signal` wakes the provider.
    pub fn new(window: &Window, memory: PhysRange, signal: Sel) -> Option<LogLink> {
        // The client writes the first ring.
        let data_len = layout::data_len(RING_LEN as usize)?;
        let words = window.shared_words(PhysRange::new(memory.start, layout::DATA as u64))?;
        let data = window.shared_bytes(PhysRange::new(memory.start + layout::DATA as u64, data_len as u64))?;
        Some(LogLink { ring: Writer::new(Ring { words, data }).ok()?, signal, pending: Vec::new() })
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
            self.pending.drain(..moved.bytes);
            if moved.signal {
                let _ = rt::hypercall::sm_up(self.signal);
            }
        }
        self.pending.is_empty()
    }

    /// Whether the provider has taken everything.
    pub fn drained(&mut self) -> bool {
        let capacity = layout::data_len(RING_LEN as usize).unwrap_or(0);
        self.flush() && self.ring.space() == Ok(capacity)
    }
}
