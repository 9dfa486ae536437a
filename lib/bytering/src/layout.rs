//! Where things are in a ring. The table is in the crate's documentation.

/// Offset of the consumer's counter.
pub const HEAD: usize = 0;
/// Offset of the producer's counter.
pub const TAIL: usize = 64;
/// Offset of the data area; also the length of the header.
pub const DATA: usize = 128;
/// Longest data area.
pub const MAX_DATA_LEN: usize = 1 << 31;

/// Length of the data area in a ring of `ring_len` bytes, header included: the largest power of two that fits.
/// `None` if there is no room for a single byte.
pub const fn data_len(ring_len: usize) -> Option<usize> {
    match ring_len.checked_sub(DATA) {
        None | Some(0) => None,
        Some(room) if room >= MAX_DATA_LEN => Some(MAX_DATA_LEN),
        Some(room) => Some(1 << room.ilog2()),
    }
}
