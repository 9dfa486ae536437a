//! Where things are in a queue, and where both queues and the buffer are in memory that is for them alone. The table is in the
//! crate's documentation.

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

/// Where the acknowledgements begin in memory that begins with the submissions; the buffer is behind them as far again. Nothing
/// shares a cache line.
pub const fn acknowledge_at(slots: usize) -> usize {
    queue_len(slots).next_multiple_of(64)
}

/// Where the buffer begins; it reaches to the end of the memory.
pub const fn buffer_at(slots: usize) -> usize {
    2 * acknowledge_at(slots)
}
