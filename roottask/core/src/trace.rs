//! The kernel's trace as lines of the log, which `cargo xtask trace` reads.
//!
//! `trace CPU TIME R R ...`: records, each `dt,kind,who,a,b`, numbers in hexadecimal; dt is the time since the record
//! before, or since TIME. `trace CPU lost N`: so many were overwritten here. Each line can be read without the others.

use std::fmt::Write;
use tracering::{Found, Record};

/// A line ends before it gets longer than this.
const LINE_LEN: usize = 110;

/// First line: what is needed to read the rest.
pub fn head(cpus: u16, tsc_hz: u64) -> String {
    format!("trace of {cpus} CPUs at {tsc_hz} Hz")
}

/// What was found on a CPU.
pub fn lines(cpu: u16, found: impl IntoIterator<Item = Found>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = Line::default();
    for f in found {
        match f {
            Found::Lost(n) => {
                lines.extend(line.take());
                lines.push(format!("trace {cpu} lost {n}"));
            }
            Found::Record(r) => {
                if line.text.len() > LINE_LEN {
                    lines.extend(line.take());
                }
                line.add(cpu, &r);
            }
        }
    }
    lines.extend(line.take());
    lines
}

#[derive(Default)]
struct Line {
    text: String,
    time: u64,
}

impl Line {
    fn take(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.text)).filter(|t| !t.is_empty())
    }

    fn add(&mut self, cpu: u16, r: &Record) {
        if self.text.is_empty() {
            self.time = r.time;
            self.text = format!("trace {cpu} {:x}", r.time);
        }
        let Record { kind, who, args: [a, b], .. } = r;
        // Writing to a string does not fail.
        let _ = write!(self.text, " {:x},{kind:x},{who:x},{a:x},{b:x}", r.time.wrapping_sub(self.time));
        self.time = r.time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time: u64) -> Found {
        Found::Record(Record { time, kind: 3, who: 0xabc, args: [0x10, 0] })
    }

    #[test]
    fn records_follow_each_other_by_the_time_between() {
        let found = [Found::Lost(7), record(0x100), record(0x130), record(0x130)];
        assert_eq!(lines(2, found), ["trace 2 lost 7", "trace 2 100 0,3,abc,10,0 30,3,abc,10,0 0,3,abc,10,0"]);
        assert!(lines(0, []).is_empty());
    }

    #[test]
    fn a_line_is_short_and_begins_with_its_time() {
        let long = lines(0, (0..100).map(|i| record(i * 16)));
        assert!(long.len() > 5 && long.iter().all(|l| l.len() < LINE_LEN + 80 && l.starts_with("trace 0 ")));
        assert_eq!(long.iter().flat_map(|l| l.split(' ').skip(3)).count(), 100);
        let second: Vec<_> = long[1].split(' ').skip(2).take(2).collect();
        let before = long[0].split(' ').count() as u64 - 3;
        assert_eq!(second, [format!("{:x}", before * 16), "0,3,abc,10,0".to_string()]);
    }

    #[test]
    fn records_are_found_across_losses() {
        let all = lines(1, [record(1), Found::Lost(1), record(2)]);
        assert_eq!(all, ["trace 1 1 0,3,abc,10,0", "trace 1 lost 1", "trace 1 2 0,3,abc,10,0"]);
    }

    #[test]
    fn the_head_names_cpus_and_frequency() {
        assert_eq!(head(4, 1_000_000), "trace of 4 CPUs at 1000000 Hz");
    }
}
