//! The last lines of a component's log.

use std::collections::{TryReserveError, VecDeque};

/// A line takes this much at least when lines are counted.
const LINE_MIN: usize = 32;

/// See above.
#[derive(Debug)]
pub(crate) struct History {
    text: VecDeque<u8>,
    lines: VecDeque<Line>,
    max: usize,
    /// Bytes that were dropped.
    dropped: u64,
    /// Lines that were dropped.
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    /// Lines of all logs are numbered as they come.
    number: u64,
    /// Bytes that came before it.
    start: u64,
}

impl History {
    /// One that keeps `max` bytes.
    pub(crate) fn new(max: usize) -> Result<History, TryReserveError> {
        let (mut text, mut lines) = (VecDeque::new(), VecDeque::new());
        text.try_reserve_exact(max)?;
        lines.try_reserve_exact(max / LINE_MIN)?;
        Ok(History { text, lines, max, dropped: 0, lost: 0 })
    }

    /// Adds a line with a number above all before; the oldest go.
    pub(crate) fn push(&mut self, number: u64, line: &[u8]) {
        while !self.lines.is_empty() && (self.text.len() + line.len() > self.max || self.is_full()) {
            self.drop_oldest();
        }
        if line.len() > self.max || self.is_full() {
            self.lost += 1;
            return;
        }
        self.lines.push_back(Line { number, start: self.dropped + self.text.len() as u64 });
        self.text.extend(line);
    }

    /// As if there had been no lines.
    pub(crate) fn forget(&mut self) {
        self.text.clear();
        self.lines.clear();
        (self.dropped, self.lost) = (0, 0);
    }

    /// The first line with that number or one above, and its number.
    pub(crate) fn line_from(&self, number: u64) -> Option<(u64, Vec<u8>)> {
        let at = self.lines.partition_point(|l| l.number < number);
        let line = self.lines.get(at)?;
        Some((line.number, self.text.range(self.offset(at)..self.offset(at + 1)).copied().collect()))
    }

    /// How many lines are here.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// How many are gone.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    fn is_full(&self) -> bool {
        self.lines.len() == self.max / LINE_MIN
    }

    fn drop_oldest(&mut self) {
        let end = self.offset(1);
        self.text.drain(..end);
        self.dropped += end as u64;
        self.lines.pop_front();
        self.lost += 1;
    }

    /// Where line `at` begins in `text`; behind the last line: the end.
    fn offset(&self, at: usize) -> usize {
        self.lines.get(at).map_or(self.text.len(), |l| (l.start - self.dropped) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(h: &History) -> Vec<u64> {
        let mut from = 0;
        std::iter::from_fn(|| h.line_from(from).map(|(n, _)| (from = n + 1, n).1)).collect()
    }

    #[test]
    fn lines_are_found_by_number() {
        let mut h = History::new(1024).unwrap();
        assert_eq!(h.line_from(0), None);
        for n in [3, 4, 9] {
            h.push(n, format!("line {n}\r\n").as_bytes());
        }
        assert_eq!(h.line_from(0), Some((3, b"line 3\r\n".to_vec())));
        assert_eq!(h.line_from(5), Some((9, b"line 9\r\n".to_vec())));
        assert_eq!(h.line_from(10), None);
        assert_eq!((h.len(), h.lost()), (3, 0));
    }

    #[test]
    fn the_oldest_lines_go() {
        let mut h = History::new(1024).unwrap();
        for n in 0..1000 {
            h.push(n, format!("{:>98}\r\n", n).as_bytes());
            assert!(h.text.len() <= 1024 && h.text.capacity() < 2048);
        }
        assert_eq!(numbers(&h), (990..1000).collect::<Vec<_>>());
        assert_eq!(h.lost(), 990);
        let (_, line) = h.line_from(0).unwrap();
        assert_eq!(line, format!("{:>98}\r\n", 990).as_bytes());
    }

    #[test]
    fn short_lines_do_not_take_more_memory() {
        let mut h = History::new(1024).unwrap();
        (0..1000).for_each(|n| h.push(n, b"\n"));
        assert_eq!((h.len(), h.lost()), (1024 / LINE_MIN, 1000 - 32));
        assert!(h.lines.capacity() <= 64);
        assert_eq!(numbers(&h), (968..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_that_does_not_fit_is_lost_alone() {
        let mut h = History::new(64).unwrap();
        h.push(0, &[b'x'; 65]);
        assert_eq!((h.len(), h.lost()), (0, 1));
        h.push(1, &[b'x'; 64]);
        assert_eq!(numbers(&h), [1]);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        assert!(History::new(usize::MAX).is_err());
    }
}
