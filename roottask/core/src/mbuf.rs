//! The memory-buffer console of the microhypervisor (specification, C.1): a ring of characters with an 8-byte header.
//!
//! Key types: [`spans`], which part of the ring is unread; [`Lines`], which cuts characters into lines.

use std::ops::Range;

/// Length of the header: RdIdx, then WrIdx, 32 bits each.
pub const HEADER_LEN: u64 = 8;
/// Characters without a line feed after which a line is cut.
const MAX_LINE: usize = 240;

/// The unread parts of a ring of `len` characters, oldest first. Indices out of range (they are shared memory) read
/// as an empty ring.
pub fn spans(rd: u32, wr: u32, len: u32) -> [Range<u32>; 2] {
    if rd >= len || wr >= len {
        [0..0, 0..0]
    } else if rd <= wr {
        [rd..wr, 0..0]
    } else {
        [rd..len, 0..wr]
    }
}

/// Characters that are not a whole line yet.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Adds a character; returns a line when it is complete.
    pub fn push(&mut self, byte: u8) -> Option<String> {
        if byte != b'\n' {
            self.rest.push(byte);
        }
        if byte == b'\n' || self.rest.len() >= MAX_LINE { Some(self.take()) } else { None }
    }

    fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.rest).trim_end().to_string();
        self.rest.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unread_parts() {
        assert_eq!(spans(3, 3, 10), [3..3, 0..0]);
        assert_eq!(spans(3, 7, 10), [3..7, 0..0]);
        assert_eq!(spans(7, 3, 10), [7..10, 0..3]);
        assert_eq!(spans(9, 0, 10), [9..10, 0..0]);
        assert_eq!(spans(10, 0, 10), [0..0, 0..0]);
        assert_eq!(spans(0, 10, 10), [0..0, 0..0]);
        assert_eq!(spans(0, 0, 0), [0..0, 0..0]);
    }

    proptest! {
        #[test]
        fn spans_are_what_a_reader_walks(rd in 0u32..20, wr in 0u32..20) {
            let walked: Vec<u32> = std::iter::successors(Some(rd), |i| Some((i + 1) % 20)).take_while(|i| *i != wr).collect();
            let [a, b] = spans(rd, wr, 20);
            prop_assert_eq!(a.chain(b).collect::<Vec<_>>(), walked);
        }
    }

    #[test]
    fn characters_become_lines() {
        let mut l = Lines::default();
        let lines: Vec<_> = b"one\r\ntwo\n\nthr\xff".iter().filter_map(|b| l.push(*b)).collect();
        assert_eq!(lines, ["one", "two", ""]);
        assert_eq!(l.push(b'\n').unwrap(), "thr\u{fffd}");
    }

    #[test]
    fn endless_lines_are_cut() {
        let mut l = Lines::default();
        let lines: Vec<_> = std::iter::repeat_n(b'x', 2 * MAX_LINE + 1).filter_map(|b| l.push(b)).collect();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE; 2]);
    }
}
