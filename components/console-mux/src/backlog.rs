//! The last output of a terminal client, and how far it has been shown.

use std::collections::{TryReserveError, VecDeque};

use crate::client::LINE_MAX;
use crate::queries;

/// See above.
#[derive(Debug)]
pub(crate) struct Backlog {
    bytes: VecDeque<u8>,
    max: usize,
    /// So many of the last bytes have not been shown.
    unseen: usize,
    /// Bytes that went before they were shown.
    lost: u64,
    /// The first byte may be in the middle of a line.
    cut: bool,
}

impl Backlog {
    /// One that keeps `max` bytes, at least [`LINE_MAX`].
    pub(crate) fn new(max: usize) -> Result<Backlog, TryReserveError> {
        let (mut bytes, max) = (VecDeque::new(), max.max(LINE_MAX));
        bytes.try_reserve_exact(max)?;
        Ok(Backlog { bytes, max, unseen: 0, lost: 0, cut: false })
    }

    /// Adds at most [`LINE_MAX`] bytes of output; the oldest go.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(self.max);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes);
        self.cut |= excess > 0;
        self.unseen += bytes.len();
        let lost = self.unseen.saturating_sub(self.bytes.len());
        self.unseen -= lost;
        self.lost += lost as u64;
    }

    /// As if nothing had been written.
    pub(crate) fn forget(&mut self) {
        self.bytes.clear();
        (self.unseen, self.lost, self.cut) = (0, 0, false);
    }

    /// Bytes that have not been shown.
    pub(crate) fn unseen(&self) -> usize {
        self.unseen
    }

    /// Whether a line's end is near.
    pub(crate) fn has_newline(&self) -> bool {
        self.next().take(LINE_MAX).any(|&b| b == b'\n')
    }

    /// Takes up to `max` bytes to be shown. With `whole_lines`, only up to the last line's end in them, if there is
    /// one.
    pub(crate) fn take(&mut self, max: usize, whole_lines: bool) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.next().take(max).copied().collect();
        if whole_lines && let Some(last) = bytes.iter().rposition(|&b| b == b'\n') {
            bytes.truncate(last + 1);
        }
        self.unseen -= bytes.len();
        bytes
    }

    /// To be called before output is shown again. Returns how much can not be shown; then the rest begins with a line
    /// if possible.
    pub(crate) fn resume(&mut self) -> u64 {
        if self.lost > 0 {
            let skipped = self.skip_line();
            self.lost += skipped as u64;
        }
        std::mem::take(&mut self.lost)
    }

    /// Forgets that anything was shown; returns how many bytes there are.
    pub(crate) fn rewind(&mut self) -> usize {
        let seen: Vec<u8> = self.bytes.drain(..self.bytes.len() - self.unseen).collect();
        queries::without(&seen).into_iter().rev().for_each(|b| self.bytes.push_front(b));
        self.unseen = self.bytes.len();
        self.lost = 0;
        if self.cut {
            self.skip_line();
        }
        self.unseen
    }

    fn next(&self) -> impl Iterator<Item = &u8> {
        self.bytes.range(self.bytes.len() - self.unseen..)
    }

    /// Up to the next line, if it is there; returns how many bytes that was.
    fn skip_line(&mut self) -> usize {
        let count = self.next().position(|&b| b == b'\n').map_or(0, |newline| newline + 1);
        self.unseen -= count;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backlog(text: &[u8]) -> Backlog {
        let mut b = Backlog::new(LINE_MAX).unwrap();
        text.chunks(LINE_MAX).for_each(|c| b.push(c));
        b
    }

    #[test]
    fn output_is_shown_once() {
        let mut b = backlog(b"one\r\ntwo");
        assert!(b.has_newline());
        assert_eq!((b.resume(), b.unseen()), (0, 8));
        assert_eq!(b.take(6, false), b"one\r\nt");
        assert!(!b.has_newline());
        assert_eq!(b.take(99, false), b"wo");
        assert_eq!(b.take(99, false), b"");
        b.push(b"!");
        assert_eq!((b.resume(), b.take(99, false)), (0, b"!".to_vec()));
    }

    #[test]
    fn output_is_cut_at_line_ends_on_request_only() {
        let text = b"ab\r\ncd\r\nef";
        assert_eq!(backlog(text).take(99, false), text);
        assert_eq!(backlog(text).take(99, true), b"ab\r\ncd\r\n");
        assert_eq!(backlog(text).take(6, true), b"ab\r\n");
        assert_eq!(backlog(text).take(3, true), b"ab\r");
    }

    #[test]
    fn what_is_lost_is_counted_and_the_rest_begins_with_a_line() {
        let text = "0123456\r\n".repeat(200);
        let mut b = backlog(text.as_bytes());
        let lost = b.resume();
        let rest = b.take(usize::MAX, false);
        assert_eq!(lost as usize + rest.len(), text.len());
        assert!(lost as usize >= text.len() - LINE_MAX && lost.is_multiple_of(9), "{lost}");
        assert!(rest.starts_with(b"0123456\r\n"));
        assert_eq!(b.resume(), 0, "it is told once");
    }

    #[test]
    fn what_was_shown_before_it_went_is_not_lost() {
        let mut b = backlog(&[b'x'; 1000]);
        b.take(1000, false);
        b.push(&[b'y'; 1000]);
        assert_eq!((b.resume(), b.unseen()), (0, 1000));
    }

    #[test]
    fn a_line_without_end_is_not_skipped() {
        let mut b = backlog(&[b'x'; LINE_MAX + 7]);
        assert_eq!(b.resume(), 7);
        assert_eq!(b.take(usize::MAX, false).len(), LINE_MAX);
    }

    #[test]
    fn rewound_it_shows_all_that_is_kept_from_a_line_on() {
        let mut b = backlog(b"one\ntwo");
        b.take(99, false);
        assert_eq!(b.rewind(), 7);
        assert_eq!(b.take(99, false), b"one\ntwo");
        let mut b = backlog(b"# \x1b[6n");
        b.take(99, false);
        b.push(b"# \x1b[6n");
        b.rewind();
        assert_eq!(b.take(99, false), b"# # \x1b[6n", "what was asked is not asked again");
        let mut b = backlog("0123456\r\n".repeat(200).as_bytes());
        assert_eq!(b.rewind() % 9, 0);
        assert!(b.take(99, false).starts_with(b"0123456\r\n"));
        assert_eq!(b.resume(), 0);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        assert!(Backlog::new(usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_shown_twice_or_out_of_order(steps in prop::collection::vec((0..LINE_MAX, 0..LINE_MAX), 1..60)) {
            let mut b = Backlog::new(2 * LINE_MAX).unwrap();
            let (mut written, mut shown) = (0usize, 0usize);
            for (push, take) in steps {
                let bytes: Vec<u8> = (0..push).map(|i| ((written + i) % 251) as u8).collect();
                b.push(&bytes);
                written += push;
                shown += b.resume() as usize;
                for byte in b.take(take, false) {
                    prop_assert_eq!(byte, (shown % 251) as u8);
                    shown += 1;
                }
                prop_assert_eq!(b.unseen(), written - shown);
                prop_assert!(b.bytes.len() <= 2 * LINE_MAX && b.bytes.capacity() < 4 * LINE_MAX);
            }
        }
    }
}
