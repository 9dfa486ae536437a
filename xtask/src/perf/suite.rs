//! The rows of the perf suite (`perf/suite`), which measures the kernel from inside.
//!
//! Key types: [`Suite`], [`Row`], [`Limits`].

use super::printed;
use crate::platform::Platform;
use crate::system::System;
use anyhow::Result;
use regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;

/// The system that runs it.
const SYSTEM: &str = "perf";

/// Ticks of what was measured again and again.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub min: u64,
    pub median: u64,
    pub p99: u64,
    pub max: u64,
    pub count: u64,
}

/// The rows of a platform.
#[derive(Debug, PartialEq, Serialize)]
pub struct Suite {
    pub platform: String,
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
    let row = Regex::new(r"(?m)\bperf: (\w+) min (\d+) median (\d+) p99 (\d+) max (\d+) of (\d+)\s*$")?;
    let absent = Regex::new(r"(?m)\bperf: (\w+) missing: (.*\S)\s*$")?;
    let rows: Vec<_> = row.captures_iter(text).map(|c| row_of(&c)).collect::<Result<_>>()?;
    if let Some(why) = Regex::new(r"(?m)\bperf: stopped: (.*\S)\s*$")?.captures(text) {
        anyhow::bail!("the suite stopped: {}", &why[1]);
    }
    anyhow::ensure!(!rows.is_empty(), "the suite printed no row");
    let missing = absent.captures_iter(text).map(|c| (c[1].to_string(), c[2].to_string())).collect();
    Ok(Suite { platform: platform.into(), rows, missing })
}

fn row_of(c: &regex::Captures) -> Result<Row> {
    let n = |i: usize| c[i].parse::<u64>();
    Ok(Row { name: c[1].into(), min: n(2)?, median: n(3)?, p99: n(4)?, max: n(5)?, count: n(6)? })
}

impl Suite {
    /// The rows for people.
    pub fn show(&self) -> String {
        let head = format!(
            "perf suite, ticks ({}):\n  {:<42} {:>8} {:>8} {:>8} {:>8}\n",
            self.platform, "", "min", "median", "p99", "max"
        );
        let rows = self
            .rows
            .iter()
            .map(|r| format!("  {:<42} {:>8} {:>8} {:>8} {:>8}\n", r.name, r.min, r.median, r.p99, r.max));
        let missing = self.missing.iter().map(|(name, why)| format!("  {name:<42} missing: {why}\n"));
        std::iter::once(head).chain(rows).chain(missing).collect()
    }

    /// What is above its limit, or has one and was not measured; empty: all promises are kept.
    pub fn broken(&self, limits: &Limits) -> Vec<String> {
        let Some(limits) = limits.get(&self.platform) else { return vec![] };
        let have = |name: &str| self.rows.iter().find(|r| r.name == name).map(|r| r.median);
        let verdict = |(name, most): (&String, &u64)| match have(name) {
            Some(m) if m <= *most => None,
            Some(m) => Some(format!("{}: {name}: {m} ticks, promised at most {most}", self.platform)),
            None => Some(format!("{}: {name}: promised, but not measured", self.platform)),
        };
        limits.iter().filter_map(verdict).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[perf] perf: clock_twice min 2 median 2 p99 2 max 2 of 1024\r\n\
        [perf] perf: call_reply_other_pd_1w min 90 median 95 p99 99 max 400 of 1024\r\n\
        [perf] perf: exit_cpuid_rip missing: the machine runs no guests\r\n[perf] perf: done\r\n";

    fn limits(row: &str, most: u64) -> Limits {
        [("bochs".to_string(), [(row.to_string(), most)].into())].into()
    }

    #[test]
    fn rows_and_missing_rows_are_read() {
        let s = parse("bochs", TEXT).unwrap();
        assert_eq!((s.rows.len(), s.rows[1].median, s.rows[1].max, s.rows[1].count), (2, 95, 400, 1024));
        assert_eq!(s.missing, [("exit_cpuid_rip".into(), "the machine runs no guests".into())]);
        let text = s.show();
        assert!(text.contains("call_reply_other_pd_1w") && text.contains("missing: the machine"), "{text}");
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
