//! The consumer's side of a ring. Its mirror image is `writer`.

use core::sync::atomic::{Ordering, fence};

use crate::{BadLength, Broken, Cursor, Moved, RingMemory};

/// Takes bytes out of a ring. There must be only one per ring.
#[derive(Debug)]
pub struct Reader<M> {
    memory: M,
    /// Position: our `head`.
    pub(crate) cursor: Cursor,
}

impl<M: RingMemory> Reader<M> {
    /// The consumer of a fresh ring (both counters zero).
    pub fn new(memory: M) -> Result<Reader<M>, BadLength> {
        let cursor = Cursor::new(memory.data_len())?;
        Ok(Reader { memory, cursor })
    }

    /// Bytes that can be read now.
    pub fn available(&mut self) -> Result<usize, Broken> {
        let used = self.memory.load_tail().wrapping_sub(self.cursor.position);
        self.cursor.check(used).map(|used| used as usize)
    }

    /// Why the ring cannot be used any more, if so.
    pub fn broken(&self) -> Option<Broken> {
        self.cursor.broken
    }

    /// Moves bytes into `buf` until it is full or the ring is seen empty.
    ///
    /// The peer may have to be woken ([`Moved::signal`]) when the ring went from more than half full to half full or
    /// less. Not at each byte: a producer in front of a full ring would wake up for one byte each time.
    ///
    /// Bytes that were read before the peer broke the ring are delivered; the next call fails.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<Moved, Broken> {
        let mut moved = Moved::default();
        let mut used = self.available()?;
        while moved.bytes < buf.len() && used > 0 {
            let part = &mut buf[moved.bytes..];
            let len = used.min(part.len());
            self.take(&mut part[..len]);
            moved.bytes += len;
            match self.available() {
                Ok(left) => {
                    let half = self.cursor.data_len as usize / 2;
                    moved.signal |= left <= half && left + len > half;
                    used = left;
                }
                Err(_) => break,
            }
        }
        Ok(moved)
    }

    /// Copies `part.len()` bytes, which are there, and publishes the new head.
    fn take(&mut self, part: &mut [u8]) {
        let (offset, first) = self.cursor.span(part.len());
        let (before_end, from_start) = part.split_at_mut(first);
        self.memory.read_bytes(offset, before_end);
        if !from_start.is_empty() {
            self.memory.read_bytes(0, from_start);
        }
        self.cursor.position = self.cursor.position.wrapping_add(part.len() as u32);
        self.memory.store_head(self.cursor.position);
        // The next load of the tail must not be older than this store: see "Signals" in the crate's documentation.
        fence(Ordering::SeqCst);
    }
}
