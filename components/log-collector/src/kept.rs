//! The last lines of the log.

use crate::collector::LINE_MAX;
use std::collections::{TryReserveError, VecDeque};
use std::fmt;

/// A line takes this much at least when memory is counted.
const LINE_MIN: usize = 64;
/// Longest label in bytes.
const LABEL_MAX: usize = 255;
/// What one line needs at least, whatever is in it.
pub(crate) const KEPT_MIN: usize = 2 * (LINE_MAX + LABEL_MAX);

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Lines are numbered from 0 as they come.
    pub number: u64,
    /// When it ended, in µs of the collector's clock.
    pub us: u64,
    /// Whose it is.
    pub label: String,
    /// Its text, without control characters but tabs.
    pub text: String,
}

/// As it is forwarded: `[   12.345678] label: text`, without line end.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, us) = (self.us / 1_000_000, self.us % 1_000_000);
        write!(f, "[{s:5}.{us:06}] {}: {}", self.label, self.text)
    }
}

/// See above. The memory is taken at the start.
#[derive(Debug)]
pub(crate) struct Kept {
    text: VecDeque<u8>,
    lines: VecDeque<Entry>,
    max: usize,
    /// Number of the line that comes next.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    us: u64,
    label: usize,
    text: usize,
}

impl Kept {
    /// One that keeps up to `max` bytes of labels and text, at least [`KEPT_MIN`].
    pub(crate) fn new(max: usize) -> Result<Kept, TryReserveError> {
        let (mut text, mut lines, max) = (VecDeque::new(), VecDeque::new(), max.max(KEPT_MIN));
        text.try_reserve_exact(max)?;
        lines.try_reserve_exact(max / LINE_MIN)?;
        Ok(Kept { text, lines, max, next: 0 })
    }

    /// Keeps a line with the next number; the oldest go.
    pub(crate) fn push(&mut self, us: u64, label: &str, text: String) -> Line {
        let label = &label[..label.floor_char_boundary(LABEL_MAX)];
        let text_len = text.floor_char_boundary(LINE_MAX);
        let len = label.len() + text_len;
        while self.lines.len() == self.max / LINE_MIN || self.text.len() + len > self.max {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.text.drain(..oldest.label + oldest.text);
        }
        self.text.extend(label.as_bytes());
        self.text.extend(&text.as_bytes()[..text_len]);
        self.lines.push_back(Entry { us, label: label.len(), text: text_len });
        let number = self.next;
        self.next += 1;
        Line { number, us, label: label.into(), text }
    }

    /// The first line with that number or a higher one.
    pub(crate) fn line_from(&self, number: u64) -> Option<Line> {
        let first = self.next - self.lines.len() as u64;
        let number = number.max(first);
        let at = usize::try_from(number - first).ok()?;
        let entry = self.lines.get(at)?;
        let start: usize = self.lines.range(..at).map(|e| e.label + e.text).sum();
        let (mid, end) = (start + entry.label, start + entry.label + entry.text);
        let text = |from, to| self.text.range(from..to).copied().collect::<Vec<u8>>();
        let string = |bytes| String::from_utf8(bytes).unwrap_or_default();
        Some(Line { number, us: entry.us, label: string(text(start, mid)), text: string(text(mid, end)) })
    }

    /// Number of the line that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_kept_as_they_were() {
        let mut k = Kept::new(4096).unwrap();
        assert_eq!((k.line_from(0), k.next()), (None, 0));
        let first = k.push(5, "vm", "hellö".into());
        k.push(6, "init -> uart", String::new());
        assert_eq!(k.line_from(0), Some(first));
        let second = Line { number: 1, us: 6, label: "init -> uart".into(), text: String::new() };
        assert_eq!((k.line_from(1), k.line_from(2), k.line_from(u64::MAX)), (Some(second), None, None));
    }

    #[test]
    fn forwarded_they_have_time_and_label() {
        let line = |us| Line { number: 0, us, label: "vm".into(), text: "hello".into() }.to_string();
        assert_eq!(line(0), "[    0.000000] vm: hello");
        assert_eq!(line(12_345_678), "[   12.345678] vm: hello");
        assert_eq!(line(u64::MAX), "[18446744073709.551615] vm: hello");
    }

    #[test]
    fn too_much_memory_is_an_error() {
        assert!(Kept::new(usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn the_last_lines_that_fit_are_there(lengths in prop::collection::vec((0usize..300, 0usize..1100), 1..100)) {
            let mut k = Kept::new(KEPT_MIN).unwrap();
            let mut all = Vec::new();
            for (label, text) in lengths {
                let line = k.push(all.len() as u64, &"l".repeat(label), "t".repeat(text.min(LINE_MAX)));
                prop_assert!(k.text.len() <= k.max && k.lines.len() <= k.max / LINE_MIN);
                all.push(line);
                prop_assert_eq!(k.line_from(k.next() - 1), all.last().cloned(), "the last one is always there");
                let mut from = 0;
                let there: Vec<_> = std::iter::from_fn(|| {
                    let line = k.line_from(from)?;
                    from = line.number + 1;
                    Some(line)
                }).collect();
                prop_assert_eq!(&all[all.len() - there.len()..], &there[..]);
            }
        }
    }
}
