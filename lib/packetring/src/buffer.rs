//! Which parts of the buffer are free: first fit, in pieces of 64 bytes, so that packets share no cache line.
//!
//! Key type: [`Buffer`].

use alloc::collections::BTreeMap;

/// Granularity, in bytes.
const PIECE: u32 = 64;

/// The free parts of a buffer, by where they begin. There are never more than packets, and one.
#[derive(Debug)]
pub(crate) struct Buffer {
    free: BTreeMap<u32, u32>,
}

/// Bytes that a packet takes; `None`: more than can be.
fn whole(len: u32) -> Option<u32> {
    len.checked_next_multiple_of(PIECE)
}

impl Buffer {
    /// All free, but for what is less than a piece at the end.
    pub(crate) fn new(len: u32) -> Buffer {
        let len = len / PIECE * PIECE;
        Buffer { free: (len > 0).then_some((0, len)).into_iter().collect() }
    }

    /// Room for a packet of `len` bytes, not 0: where.
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        let len = whole(len)?;
        let (&at, &room) = self.free.iter().find(|(_, room)| **room >= len)?;
        self.free.remove(&at);
        if room > len {
            self.free.insert(at + len, room - len);
        }
        Some(at)
    }

    /// A packet that was taken is free again.
    pub(crate) fn give_back(&mut self, at: u32, len: u32) {
        let (mut at, mut len) = (at, whole(len).unwrap_or(len));
        if let Some(room) = self.free.remove(&(at + len)) {
            len += room;
        }
        if let Some((&before, &room)) = self.free.range(..at).next_back().filter(|(b, r)| *b + **r == at) {
            self.free.remove(&before);
            (at, len) = (before, len + room);
        }
        self.free.insert(at, len);
    }

    /// Bytes that are free.
    #[cfg(test)]
    pub(crate) fn free(&self) -> u32 {
        self.free.values().sum()
    }
}
