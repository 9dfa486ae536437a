//! What clients of both kinds have in common.

use std::collections::VecDeque;

/// Longest line of log, in bytes; longer ones come out in pieces. Also the most that is read of a client at once.
pub const LINE_MAX: usize = 1024;
/// Longest label, in bytes.
pub(crate) const LABEL_MAX: usize = 32;

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines of text.
    Log,
    /// A raw byte stream; takes the keyboard while it is shown.
    Terminal,
}

/// Most clients of a kind that are remembered: those that have gone make room for new ones, the oldest first.
pub const CLIENTS_MAX: usize = 64;

/// Where the bytes of a client come from: its stream, and before that what was left in it when it had gone.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Number of the stream; `None`: there is none, or it has gone.
    stream: Option<u64>,
    rest: VecDeque<u8>,
    /// There was one.
    used: bool,
}

impl Source {
    pub(crate) fn open(&mut self, stream: u64) {
        (self.stream, self.used) = (Some(stream), true);
    }

    /// The stream has gone, and this was left in it.
    pub(crate) fn close(&mut self, rest: &[u8]) {
        self.stream = None;
        self.rest.extend(rest);
    }

    pub(crate) fn stream(&self) -> Option<u64> {
        self.stream
    }

    /// Whether there was a client that has gone.
    pub(crate) fn has_gone(&self) -> bool {
        self.used && self.stream.is_none()
    }

    /// Whether nothing of it is left, either.
    pub(crate) fn is_over(&self) -> bool {
        self.has_gone() && self.rest.is_empty()
    }

    pub(crate) fn read(&mut self, buf: &mut [u8], read: impl FnOnce(u64, &mut [u8]) -> usize) -> usize {
        if self.rest.is_empty() {
            return self.stream.map_or(0, |stream| read(stream, buf).min(buf.len()));
        }
        let count = buf.len().min(self.rest.len());
        buf.iter_mut().zip(self.rest.drain(..count)).for_each(|(to, from)| *to = from);
        count
    }
}

/// A label as it is printed: of a longer one the first 32 bytes.
pub(crate) fn label(name: &str) -> String {
    name[..name.floor_char_boundary(LABEL_MAX)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_has_left_comes_before_what_its_next_life_sends() {
        let mut source = Source::default();
        let mut buf = [0; 4];
        assert_eq!(source.read(&mut buf, |_, _| panic!("there is no stream")), 0);
        assert!(!source.has_gone());
        source.open(7);
        assert_eq!(
            source.read(&mut buf, |stream, buf| stream as usize + buf.len()),
            4,
            "no more than there is room for"
        );
        source.close(b"abcdef");
        assert!(source.has_gone() && !source.is_over());
        source.open(8);
        assert_eq!((source.read(&mut buf, |_, _| panic!("not yet")), &buf), (4, b"abcd"));
        assert_eq!(source.read(&mut buf, |_, _| panic!("not yet")), 2);
        assert_eq!(source.read(&mut buf, |stream, _| stream as usize - 5), 3);
        source.close(b"");
        assert!(source.is_over());
    }

    #[test]
    fn labels_are_bounded() {
        assert_eq!(label("vm"), "vm");
        assert_eq!(label(&"ä".repeat(20)), "ä".repeat(16));
        assert_eq!(label(&format!("x{}", "ä".repeat(20))).len(), 31);
    }
}
