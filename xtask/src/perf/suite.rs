//! The rows of the perf suite (`perf/suite`), which measures the kernel from inside. What it prints, and all that is read of it:
//!
//! ```text
//! perf: machine KEY: VALUE                                    on what it runs, as far as user mode can tell
//! perf: NAME min A median B p99 C max D of N UNIT             a row; UNIT: ticks, bytes
//! perf: NAME spread V:N V:N ...                               of that row: N samples of V or more, but less than the next V
//! perf: NAME missing: WHY                                     a row that cannot be had here
//! perf: stopped: WHY                                          a defect of the suite: rows are lacking
//! perf: done
//! ```
//!
//! Of the kernel's own lines what it says of speculation is read: user mode cannot know that.
//!
//! Key types: [`Suite`], [`Row`], [`Limits`].

use super::printed;
use crate::platform::Platform;
use crate::system::System;
use anyhow::{Context, Result};
use regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;

/// The system that runs it.
const SYSTEM: &str = "perf";

/// What was measured again and again.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    /// Of the figures: ticks or bytes.
    pub unit: String,
    pub min: u64,
    pub median: u64,
    pub p99: u64,
    pub max: u64,
    pub count: u64,
    /// Ends of intervals, and how many samples are in each from there to the next end; may be empty.
    pub spread: Vec<(u64, u64)>,
}

/// The rows of a platform.
#[derive(Debug, PartialEq, Serialize)]
pub struct Suite {
    pub platform: String,
    /// On what it ran: what, and its value.
    pub machine: Vec<(String, String)>,
    pub rows: Vec<Row>,
    /// Rows that could not be measured there, and why.
    pub missing: Vec<(String, String)>,
}

/// Most that the median of each row may be, by platform.
pub type Limits = BTreeMap<String, BTreeMap<String, u64>>;

/// Boots the suite on a platform that counts instructions.
pub fn measure(platform: &Platform) -> Result<Suite> {
    let (step, text) = printed(platform, &System::load(SYSTEM)?, SYSTEM, "running the perf suite")?;
    let suite = parse(&platform.name, &text)?;
    step.done(&format!("{} rows", suite.rows.len()));
    Ok(suite)
}

fn parse(platform: &str, text: &str) -> Result<Suite> {
    if let Some(why) = Regex::new(r"(?m)\bperf: stopped: (.*\S)\s*$")?.captures(text) {
        anyhow::bail!("the suite stopped: {}", &why[1]);
    }
    let row = Regex::new(r"(?m)\bperf: (\w+) min (\d+) median (\d+) p99 (\d+) max (\d+) of (\d+) (\w+)\s*$")?;
    let mut rows: Vec<_> = row.captures_iter(text).map(|c| row_of(&c)).collect::<Result<_>>()?;
    anyhow::ensure!(!rows.is_empty(), "the suite printed no row");
    for c in Regex::new(r"(?m)\bperf: (\w+) spread ([\d: ]+?)\s*$")?.captures_iter(text) {
        let of = rows.iter_mut().find(|r| r.name == c[1]);
        of.with_context(|| format!("a spread of no row: {}", &c[1]))?.spread = spread(&c[2])?;
    }
    let pairs = |pattern: &str| -> Result<Vec<(String, String)>> {
        let line = Regex::new(pattern)?;
        Ok(line.captures_iter(text).map(|c| (c[1].to_string(), c[2].to_string())).collect())
    };
    let missing = pairs(r"(?m)\bperf: (\w+) missing: (.*\S)\s*$")?;
    let mut machine = pairs(r"(?m)\bperf: machine ([\w ]+): (.*\S)\s*$")?;
    machine.extend(pairs(r"(?m)(?:^|\] )(speculation): (.*\S)\s*$")?);
    Ok(Suite { platform: platform.into(), machine, rows, missing })
}

fn row_of(c: &regex::Captures) -> Result<Row> {
    let n = |i: usize| c[i].parse::<u64>();
    let (name, unit) = (c[1].into(), c[7].into());
    Ok(Row { name, unit, min: n(2)?, median: n(3)?, p99: n(4)?, max: n(5)?, count: n(6)?, spread: vec![] })
}

fn spread(text: &str) -> Result<Vec<(u64, u64)>> {
    let pair = |s: &str| -> Result<_> {
        let (from, n) = s.split_once(':').with_context(|| format!("{s:?} is no interval"))?;
        Ok((from.parse()?, n.parse()?))
    };
    text.split_whitespace().map(pair).collect()
}

impl Suite {
    /// The rows for people.
    pub fn show(&self) -> String {
        let head = format!(
            "perf suite ({}):\n  {:<42} {:>8} {:>8} {:>8} {:>8}\n",
            self.platform, "", "min", "median", "p99", "max"
        );
        let rows = self
            .rows
            .iter()
            .map(|r| format!("  {:<42} {:>8} {:>8} {:>8} {:>8} {}\n", r.name, r.min, r.median, r.p99, r.max, r.unit));
        let missing = self.missing.iter().map(|(name, why)| format!("  {name:<42} missing: {why}\n"));
        std::iter::once(head).chain(rows).chain(missing).collect()
    }

    /// What is above its limit, or has one and was not measured; empty: all promises are kept.
    pub fn broken(&self, limits: &Limits) -> Vec<String> {
        let Some(limits) = limits.get(&self.platform) else { return vec![] };
        let have = |name: &str| self.rows.iter().find(|r| r.name == name).map(|r| (r.median, &r.unit));
        let verdict = |(name, most): (&String, &u64)| match have(name) {
            Some((m, _)) if m <= *most => None,
            Some((m, unit)) => Some(format!("{}: {name}: {m} {unit}, promised at most {most}", self.platform)),
            None => Some(format!("{}: {name}: promised, but not measured", self.platform)),
        };
        limits.iter().filter_map(verdict).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "speculation: this CPU is open to L1TF\r\n[perf] perf: machine cpu: A CPU @ 2 GHz\r\n\
        [perf] perf: clock_twice min 2 median 2 p99 2 max 2 of 1024 ticks\r\n\
        [perf] perf: call_reply_other_pd_1w min 90 median 95 p99 99 max 400 of 1024 ticks\r\n\
        [perf] perf: call_reply_other_pd_1w spread 90:1000 99:24\r\n\
        [perf] perf: memory_of_semaphore min 64 median 64 p99 64 max 64 of 1 bytes\r\n\
        [perf] perf: exit_cpuid_rip missing: the machine runs no guests\r\n[perf] perf: done\r\n";

    fn limits(row: &str, most: u64) -> Limits {
        [("bochs".to_string(), [(row.to_string(), most)].into())].into()
    }

    #[test]
    fn rows_and_missing_rows_are_read() {
        let s = parse("bochs", TEXT).unwrap();
        assert_eq!((s.rows.len(), s.rows[1].median, s.rows[1].max, s.rows[1].count), (3, 95, 400, 1024));
        assert_eq!((&*s.rows[1].unit, &*s.rows[2].unit), ("ticks", "bytes"));
        assert_eq!((&s.rows[1].spread[..], s.rows[0].spread.len()), (&[(90, 1000), (99, 24)][..], 0));
        let machine: Vec<_> = s.machine.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(machine, [("cpu", "A CPU @ 2 GHz"), ("speculation", "this CPU is open to L1TF")]);
        assert_eq!(s.missing, [("exit_cpuid_rip".into(), "the machine runs no guests".into())]);
        let text = s.show();
        assert!(text.contains("call_reply_other_pd_1w") && text.contains("missing: the machine"), "{text}");
        assert!(parse("bochs", &format!("{TEXT}perf: no_row spread 1:2\n")).is_err());
        assert!(parse("bochs", &format!("{TEXT}perf: clock_twice spread 1 2\n")).is_err());
        assert!(parse("bochs", "perf: done").unwrap_err().to_string().contains("no row"));
        let stopped = format!("{TEXT}[perf] perf: stopped: create_sm: MemObj\r\n");
        assert!(parse("bochs", &stopped).unwrap_err().to_string().contains("create_sm: MemObj"));
    }

    #[test]
    fn a_broken_promise_is_named_and_so_is_one_without_a_figure() {
        let s = parse("bochs", TEXT).unwrap();
        assert!(s.broken(&limits("call_reply_other_pd_1w", 95)).is_empty());
        assert!(s.broken(&limits("call_reply_other_pd_1w", 94))[0].contains("95 ticks, promised at most 94"));
        assert!(s.broken(&limits("exit_cpuid_rip", 400))[0].contains("not measured"));
        assert!(parse("qemu", TEXT).unwrap().broken(&limits("clock_twice", 0)).is_empty(), "of another platform");
    }
}
