//! Where things are in a queue. The table is in the crate's documentation.

/// Offset of the consumer's counter.
pub const HEAD: usize = 0;
/// Offset of the producer's counter.
pub const TAIL: usize = 64;
/// Offset of the slots.
pub const SLOTS: usize = 128;
/// Bytes of a slot.
pub const SLOT_LEN: usize = 16;

/// Bytes of a queue with so many slots.
pub const fn queue_len(slots: usize) -> usize {
    SLOTS + slots * SLOT_LEN
}
