//! The producer's side of a ring. Its mirror image is `reader`.

use core::sync::atomic::{Ordering, fence};

use crate::{BadLength, Broken, Cursor, Moved, RingMemory};

/// Puts bytes into a ring. There must be only one per ring.
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    /// Position: our `tail`.
    pub(crate) cursor: Cursor,
}

impl<M: RingMemory> Writer<M> {
    /// The producer of a fresh ring (both counters zero).
    pub fn new(memory: M) -> Result<Writer<M>, BadLength> {
        let cursor = Cursor::new(memory.data_len())?;
        Ok(Writer { memory, cursor })
    }

    /// Bytes that can be written now.
    pub fn space(&mut self) -> Result<usize, Broken> {
        let used = self.used()?;
        Ok(self.cursor.data_len as usize - used)
    }

    /// Why the ring cannot be used any more, if so.
    pub fn broken(&self) -> Option<Broken> {
        self.cursor.broken
    }

    /// Moves bytes out of `buf` until none is left or the ring is seen full.
    ///
    /// The peer may have to be woken ([`Moved::signal`]) when it had taken all bytes that were in the ring before.
    ///
    /// Bytes that were written before the peer broke the ring count as written; the next call fails.
    pub fn write(&mut self, buf: &[u8]) -> Result<Moved, Broken> {
        let mut moved = Moved::default();
        let mut space = self.space()?;
        while moved.bytes < buf.len() && space > 0 {
            let part = &buf[moved.bytes..];
            let len = space.min(part.len());
            self.put(&part[..len]);
            moved.bytes += len;
            match self.used() {
                Ok(used) => {
                    moved.signal |= used == len;
                    space = self.cursor.data_len as usize - used;
                }
                Err(_) => break,
            }
        }
        Ok(moved)
    }

    fn used(&mut self) -> Result<usize, Broken> {
        let used = self.cursor.position.wrapping_sub(self.memory.load_head());
        self.cursor.check(used).map(|used| used as usize)
    }

    /// Copies `part.len()` bytes, for which there is space, and publishes the new tail.
    fn put(&mut self, part: &[u8]) {
        let (offset, first) = self.cursor.span(part.len());
        let (before_end, from_start) = part.split_at(first);
        self.memory.write_bytes(offset, before_end);
        if !from_start.is_empty() {
            self.memory.write_bytes(0, from_start);
        }
        self.cursor.position = self.cursor.position.wrapping_add(part.len() as u32);
        self.memory.store_tail(self.cursor.position);
        // The next load of the head must not be older than this store: see "Signals" in the crate's documentation.
        fence(Ordering::SeqCst);
    }
}
