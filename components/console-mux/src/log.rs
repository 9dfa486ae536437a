//! A log client: lines that were not printed yet, and the last ones that were.

use std::collections::{TryReserveError, VecDeque};

use crate::client::{self, LINE_MAX, Source};
use crate::history::History;
use rtlogic::printable;

/// See above.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) label: String,
    pub(crate) source: Source,
    pub(crate) history: History,
    /// At most [`LINE_MAX`] bytes.
    pending: VecDeque<u8>,
}

impl Log {
    /// The log of the component `name`, of which `kept` bytes are kept.
    pub(crate) fn new(name: &str, kept: usize) -> Result<Log, TryReserveError> {
        let mut pending = VecDeque::new();
        pending.try_reserve_exact(LINE_MAX)?;
        Ok(Log { label: client::label(name), source: Source::default(), history: History::new(kept)?, pending })
    }

    /// Whether its client has gone, and all that it said is kept.
    pub(crate) fn is_over(&self) -> bool {
        self.source.is_over() && self.pending.is_empty()
    }

    /// It is another one's from now on.
    pub(crate) fn restart(&mut self, name: &str) {
        self.label = client::label(name);
        self.history.forget();
    }

    /// Reads what there is room for; says whether anything came.
    pub(crate) fn fill(&mut self, read: impl FnOnce(u64, &mut [u8]) -> usize) -> bool {
        let mut buf = [0; LINE_MAX];
        let room = &mut buf[..LINE_MAX - self.pending.len()];
        if room.is_empty() {
            return false;
        }
        let count = self.source.read(room, read);
        self.pending.extend(&buf[..count]);
        count > 0
    }

    /// Its stream has gone, and this was left in it. A line that has begun ends.
    pub(crate) fn close(&mut self, rest: &[u8]) {
        self.source.close(rest);
        let last = rest.last().or(self.pending.back());
        if last.is_some_and(|&b| b != b'\n') {
            self.source.close(b"\n");
        }
    }

    /// Whether there is a line: it is complete, or as long as lines get.
    pub(crate) fn has_line(&self) -> bool {
        self.pending.len() == LINE_MAX || self.pending.contains(&b'\n')
    }

    /// The next line as it goes to the screen, which is kept under that number. See [`Log::has_line`].
    pub(crate) fn take_line(&mut self, number: u64) -> Vec<u8> {
        let newline = self.pending.iter().position(|&b| b == b'\n');
        let mut text: Vec<u8> = self.pending.drain(..newline.unwrap_or(self.pending.len())).collect();
        if newline.is_some() {
            self.pending.pop_front();
        }
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        let line = format!("[{}] {}\r\n", self.label, printable(&text).collect::<String>()).into_bytes();
        self.history.push(number, &line);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(bytes: &[u8]) -> Log {
        let mut log = Log::new("vm", 4096).unwrap();
        log.source.open(3);
        log.fill(|stream, buf| {
            assert_eq!(stream, 3);
            buf[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
        log
    }

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut log = log(bytes);
        std::iter::from_fn(|| log.has_line().then(|| String::from_utf8(log.take_line(0)).unwrap())).collect()
    }

    #[test]
    fn complete_lines_get_label_and_line_end() {
        assert_eq!(lines(b"one\ntwo\r\n\nthree"), ["[vm] one\r\n", "[vm] two\r\n", "[vm] \r\n"]);
        assert_eq!(lines(b"thr"), [""; 0]);
    }

    #[test]
    fn what_could_control_the_terminal_is_replaced() {
        assert_eq!(lines(b"a\x1b[2Jb\rc\x08\x7f\td\n"), ["[vm] a?[2Jb?c??\td\r\n"]);
        assert_eq!(lines("schön \u{9b}2J\n".as_bytes()), ["[vm] schön ?2J\r\n"]);
        assert_eq!(lines(b"\xff\xfe \xc3\n"), ["[vm] ?? ?\r\n"]);
    }

    #[test]
    fn lines_over_the_limit_come_in_pieces() {
        let mut log = log(&[b'x'; LINE_MAX]);
        assert!(log.has_line());
        assert_eq!(log.take_line(0).len(), LINE_MAX + "[vm] \r\n".len());
        assert!(!log.has_line());
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let mut log = log(&[b'x'; LINE_MAX - 3]);
        assert!(log.fill(|_, buf| {
            assert_eq!(buf.len(), 3);
            buf.len()
        }));
        assert!(!log.fill(|_, _| panic!("there is no room")));
    }

    #[test]
    fn the_last_line_of_a_client_ends_with_it() {
        let all = |log: &mut Log| {
            log.fill(|_, _| panic!("there is no stream"));
            std::iter::from_fn(|| log.has_line().then(|| String::from_utf8(log.take_line(0)).unwrap()))
                .collect::<Vec<_>>()
        };
        for (before, rest, want) in [
            (&b"one"[..], &b" more\ntw"[..], &["[vm] one more\r\n", "[vm] tw\r\n"][..]),
            (b"one", b"", &["[vm] one\r\n"]),
            (b"one\n", b"", &["[vm] one\r\n"]),
            (b"", b"one\n", &["[vm] one\r\n"]),
            (b"", b"", &[]),
        ] {
            let mut log = log(before);
            log.close(rest);
            assert_eq!(all(&mut log), want);
        }
    }

    #[test]
    fn lines_that_were_taken_are_kept() {
        let mut log = log(b"one\ntwo\n");
        log.take_line(5);
        log.take_line(7);
        assert_eq!(log.history.line_from(6), Some((7, b"[vm] two\r\n".to_vec())));
    }
}
