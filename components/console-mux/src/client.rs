//! Clients and what is read from them but not printed yet.

use std::collections::VecDeque;

/// Longest line of log, in bytes; longer ones come out in pieces. Also the most that is held of a terminal's output.
pub const LINE_MAX: usize = 1024;
/// Longest label, in bytes.
pub(crate) const LABEL_MAX: usize = 32;

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines of text.
    Log,
    /// A raw byte stream; takes the keyboard when it has the focus.
    Terminal,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    label: String,
    pub(crate) kind: Kind,
    /// At most [`LINE_MAX`] bytes.
    pending: VecDeque<u8>,
}

impl Client {
    /// A client named `label`; of a longer label than 32 bytes the beginning is used.
    pub fn new(kind: Kind, label: &str) -> Client {
        let label = label[..label.floor_char_boundary(LABEL_MAX)].into();
        Client { label, kind, pending: VecDeque::with_capacity(LINE_MAX) }
    }

    /// Reads what there is room for; says whether anything came.
    pub(crate) fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let mut buf = [0; LINE_MAX];
        let room = &mut buf[..LINE_MAX - self.pending.len()];
        if room.is_empty() {
            return false;
        }
        let count = read(room).min(room.len());
        self.pending.extend(&buf[..count]);
        count > 0
    }

    /// Whether a line's end is among what was read.
    pub(crate) fn has_newline(&self) -> bool {
        self.pending.contains(&b'\n')
    }

    /// Whether a log line can be printed: it is complete, or as long as lines get.
    pub(crate) fn has_log_line(&self) -> bool {
        self.kind == Kind::Log && (self.pending.len() == LINE_MAX || self.has_newline())
    }

    /// The next log line as it goes to the screen. See [`Client::has_log_line`].
    pub(crate) fn take_log_line(&mut self) -> Vec<u8> {
        let newline = self.pending.iter().position(|&b| b == b'\n');
        let mut text: Vec<u8> = self.pending.drain(..newline.unwrap_or(self.pending.len())).collect();
        if newline.is_some() {
            self.pending.pop_front();
        }
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        format!("[{}] {}\r\n", self.label, printable(&text)).into()
    }

    /// Takes up to `max` bytes of a terminal's output. With `whole_lines`, only up to the last line's end in them, if
    /// there is one.
    pub(crate) fn take_raw(&mut self, max: usize, whole_lines: bool) -> Vec<u8> {
        let mut count = max.min(self.pending.len());
        if whole_lines && let Some(last) = self.pending.iter().take(count).rposition(|&b| b == b'\n') {
            count = last + 1;
        }
        self.pending.drain(..count).collect()
    }
}

/// Text without anything that could move the cursor or change the terminal, so that no client can fake another's
/// lines. Never longer than `text`.
fn printable(text: &[u8]) -> String {
    let mut s = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        s.extend(chunk.valid().chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }));
        if !chunk.invalid().is_empty() {
            s.push('?');
        }
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(kind: Kind, bytes: &[u8]) -> Client {
        let mut c = Client::new(kind, "vm");
        c.fill(|buf| {
            buf[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
        c
    }

    fn log_lines(bytes: &[u8]) -> Vec<String> {
        let mut c = client(Kind::Log, bytes);
        std::iter::from_fn(|| c.has_log_line().then(|| String::from_utf8(c.take_log_line()).unwrap())).collect()
    }

    #[test]
    fn complete_lines_get_label_and_line_end() {
        assert_eq!(log_lines(b"one\ntwo\r\n\nthree"), ["[vm] one\r\n", "[vm] two\r\n", "[vm] \r\n"]);
        assert_eq!(log_lines(b"thr"), [""; 0]);
    }

    #[test]
    fn what_could_control_the_terminal_is_replaced() {
        assert_eq!(log_lines(b"a\x1b[2Jb\rc\x08\x7f\td\n"), ["[vm] a?[2Jb?c??\td\r\n"]);
        assert_eq!(log_lines("schön \u{9b}2J\n".as_bytes()), ["[vm] schön ?2J\r\n"]);
        assert_eq!(log_lines(b"\xff\xfe \xc3\n"), ["[vm] ?? ?\r\n"]);
    }

    #[test]
    fn lines_over_the_limit_come_in_pieces() {
        let mut c = client(Kind::Log, &[b'x'; LINE_MAX]);
        assert!(c.has_log_line());
        assert_eq!(c.take_log_line().len(), LINE_MAX + "[vm] \r\n".len());
        assert!(!c.has_log_line());
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let mut c = client(Kind::Terminal, &[b'x'; LINE_MAX - 3]);
        assert!(c.fill(|buf| {
            assert_eq!(buf.len(), 3);
            buf.len()
        }));
        assert!(!c.fill(|_| panic!("there is no room")));
    }

    #[test]
    fn raw_output_is_cut_at_line_ends_on_request_only() {
        let text = b"ab\r\ncd\r\nef";
        assert_eq!(client(Kind::Terminal, text).take_raw(99, false), text);
        assert_eq!(client(Kind::Terminal, text).take_raw(99, true), b"ab\r\ncd\r\n");
        assert_eq!(client(Kind::Terminal, text).take_raw(6, true), b"ab\r\n");
        assert_eq!(client(Kind::Terminal, text).take_raw(3, true), b"ab\r");
    }

    #[test]
    fn labels_are_bounded() {
        let mut c = Client::new(Kind::Log, &"ä".repeat(20));
        c.fill(|buf| {
            buf[0] = b'\n';
            1
        });
        assert_eq!(c.take_log_line(), format!("[{}] \r\n", "ä".repeat(16)).as_bytes());
    }
}
