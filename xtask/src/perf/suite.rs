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
//! Of the kernel's own lines what it says of speculation, microcode and the features that it uses is read: user mode cannot
//! know that.
//!
//! Key types: [`Suite`], [`Row`], [`Recorder`].

use super::printed;
use super::result::Keeper;
use crate::platform::Platform;
use crate::system::System;
use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::io::Write;

/// In [`Suite::machine`]: the features that the kernel uses but could do without, and those that its command line turns off.
pub const USES: &str = "uses";
pub const TURNED_OFF: &str = "turned off";
/// The system that runs it.
const SYSTEM: &str = "perf";

/// What was measured again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    pub platform: String,
    /// On what it ran: what, and its value.
    pub machine: Vec<(String, String)>,
    pub rows: Vec<Row>,
    /// Rows that could not be measured there, and why.
    pub missing: Vec<(String, String)>,
    /// A defect of the suite, for which rows are lacking.
    pub stopped: Option<String>,
}

/// Boots the suite on a platform. Rows are kept as they come.
pub fn measure(platform: &Platform, keeper: &Keeper) -> Result<()> {
    let recorder = Recorder { platform: platform.clone(), keeper: keeper.clone(), text: vec![] };
    let (step, text) = printed(platform, &System::load(SYSTEM)?, SYSTEM, "running the perf suite", recorder)?;
    let suite = Suite::parse(&platform.name, &text)?;
    step.done(&format!("{} rows", suite.rows.len()));
    keeper.change(|r| r.run(platform).suite = Some(suite.clone()))?;
    suite.check()
}

/// Keeps each row that comes on a serial line.
struct Recorder {
    platform: Platform,
    keeper: Keeper,
    text: Vec<u8>,
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if bytes.contains(&b'\n') {
            let whole = self.text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let suite = Suite::parse(&self.platform.name, &String::from_utf8_lossy(&self.text[..whole]));
            let keep = |suite| self.keeper.change(|r| r.run(&self.platform).suite = Some(suite));
            suite.and_then(keep).map_err(std::io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn row_of(c: &regex::Captures) -> Result<Row> {
    let n = |i: usize| c[i].parse::<u64>();
    // Of older revisions all are ticks.
    let (name, unit) = (c[1].into(), c.get(7).map_or("ticks", |m| m.as_str()).into());
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
    /// Of what was printed, perhaps not to its end.
    pub fn parse(platform: &str, text: &str) -> Result<Suite> {
        let row = Regex::new(r"(?m)\bperf: (\w+) min (\d+) median (\d+) p99 (\d+) max (\d+) of (\d+)(?: (\w+))?\s*$")?;
        let mut rows: Vec<_> = row.captures_iter(text).map(|c| row_of(&c)).collect::<Result<_>>()?;
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
        machine.extend(pairs(r"(?m)(?:^|\] )(speculation|uses|turned off): (.*\S)\s*$")?);
        // 0 is what a CPU says that knows of none.
        let microcode = pairs(r"(?m)(?:^|\] )TSC .*(microcode) (0x[0-9a-f]+)\s*$")?;
        machine.extend(microcode.into_iter().map(|(what, n)| (what, if n == "0x0" { "unknown".into() } else { n })));
        let stopped = Regex::new(r"(?m)\bperf: stopped: (.*\S)\s*$")?.captures(text).map(|c| c[1].to_string());
        Ok(Suite { platform: platform.into(), machine, rows, missing, stopped })
    }

    /// Whether it came to its end with something to tell.
    pub fn check(&self) -> Result<()> {
        ensure!(self.stopped.is_none(), "the suite stopped: {}", self.stopped.as_deref().unwrap_or_default());
        ensure!(!self.rows.is_empty(), "the suite printed no row");
        Ok(())
    }

    /// The row of that name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.name == name)
    }

    /// On what it ran, in a line.
    pub fn show_machine(&self) -> String {
        self.machine.iter().map(|(what, v)| format!("{what}: {v}")).collect::<Vec<_>>().join("; ")
    }

    /// What is missing and why, in lines.
    pub fn missing_by_reason(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, why) in &self.missing {
            match reasons.iter_mut().find(|(known, _)| known == why) {
                Some((_, names)) => names.push(name),
                None => reasons.push((why, vec![name])),
            }
        }
        reasons.iter().map(|(why, names)| format!("missing ({why}): {}", names.join(", "))).collect()
    }

    /// Why there is no such row.
    pub fn why_missing(&self, name: &str) -> Option<String> {
        self.missing.iter().find(|(n, _)| n == name).map(|(_, why)| why.clone())
    }
}

impl Row {
    /// The median, and how far samples are from it if they are.
    fn show(&self) -> String {
        let Row { min, median, p99, .. } = self;
        let ticks = if self.unit == "ticks" { "" } else { &format!(" {}", self.unit) };
        if min == p99 { format!("{median}{ticks}") } else { format!("{median}{ticks} ({min}..{p99})") }
    }
}

/// Rows of all platforms for people: medians, with minimum and 99th percentile where these are different. Of those that
/// are not wanted only how many.
pub fn table(suites: &[&Suite], wanted: impl Fn(&str) -> bool) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in suites.iter().flat_map(|s| &s.rows) {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    let line = |what: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|c| format!("  {c:>24}")).collect();
        format!("  {what:<42}{cells}\n")
    };
    let platforms = suites.iter().map(|s| s.platform.clone()).collect();
    let mut text = line("median (minimum..99th percentile)", platforms);
    let (shown, hidden): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|n| wanted(n));
    let cell = |s: &&Suite, name: &str| s.row(name).map_or("-".into(), Row::show);
    text.extend(shown.iter().map(|name| line(name, suites.iter().map(|s| cell(s, name)).collect())));
    if !hidden.is_empty() {
        text += &format!("  and {} rows without limit: on the page, and with --all here\n", hidden.len());
    }
    let told = suites.iter().filter(|s| !s.machine.is_empty());
    text.extend(told.map(|s| format!("  {}: {}\n", s.platform, s.show_machine())));
    text.extend(
        suites.iter().flat_map(|s| s.missing_by_reason().into_iter().map(|m| format!("  {}: {m}\n", s.platform))),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::result::{Place, Results};
    use super::*;

    const TEXT: &str = "turned off: pcid; unknown: x\r\nTSC 50 MHz, x2APIC, 24 interrupt pins, microcode 0x1f\r\n\
        uses: xsaveopt fast-path\r\nspeculation: this CPU is open to L1TF\r\n[perf] perf: machine cpu: A CPU @ 2 GHz\r\n\
        [perf] perf: clock_twice min 2 median 2 p99 2 max 2 of 1024 ticks\r\n\
        [perf] perf: call_reply_other_pd_1w min 90 median 95 p99 99 max 400 of 1024 ticks\r\n\
        [perf] perf: call_reply_other_pd_1w spread 90:1000 99:24\r\n\
        [perf] perf: memory_of_semaphore min 64 median 64 p99 64 max 64 of 1 bytes\r\n\
        [perf] perf: exit_cpuid_rip missing: the machine runs no guests\r\n[perf] perf: done\r\n";

    #[test]
    fn rows_and_missing_rows_are_read() {
        let s = Suite::parse("bochs", TEXT).unwrap();
        assert_eq!((s.rows.len(), s.rows[1].median, s.rows[1].max, s.rows[1].count), (3, 95, 400, 1024));
        assert_eq!((&*s.rows[1].unit, &*s.rows[2].unit), ("ticks", "bytes"));
        assert_eq!((&s.rows[1].spread[..], s.rows[0].spread.len()), (&[(90, 1000), (99, 24)][..], 0));
        let machine: Vec<_> = s.machine.iter().map(|(k, v)| (&**k, &**v)).collect();
        let kernel = [
            ("turned off", "pcid; unknown: x"),
            ("uses", "xsaveopt fast-path"),
            ("speculation", "this CPU is open to L1TF"),
            ("microcode", "0x1f"),
        ];
        assert_eq!(machine, [&[("cpu", "A CPU @ 2 GHz")], &kernel[..]].concat());
        let none = Suite::parse("bochs", &TEXT.replace("0x1f", "0x0")).unwrap();
        assert!(none.machine.contains(&("microcode".into(), "unknown".into())));
        assert_eq!(s.missing, [("exit_cpuid_rip".into(), "the machine runs no guests".into())]);
        let text = table(&[&s, &Suite::parse("qemu", "perf: done").unwrap()], |row| row != "clock_twice");
        for part in [
            "95 (90..99)",
            "64 bytes",
            "bochs: cpu: A CPU @ 2 GHz; turned",
            "missing (the machine runs no guests): exit_cpuid_rip",
            "and 1 rows",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(Suite::parse("bochs", &format!("{TEXT}perf: no_row spread 1:2\n")).is_err());
        assert!(Suite::parse("bochs", &format!("{TEXT}perf: clock_twice spread 1 2\n")).is_err());
        let error = |text: &str| Suite::parse("bochs", text).unwrap().check().unwrap_err().to_string();
        assert!(error("perf: done").contains("no row"));
        let stopped = format!("{TEXT}[perf] perf: stopped: create_sm: MemObj\r\n");
        assert!(error(&stopped).contains("create_sm: MemObj"));
        assert_eq!(Suite::parse("bochs", &stopped).unwrap().rows, s.rows, "what it has, it has");
    }

    #[test]
    fn rows_are_kept_as_they_come() {
        let place =
            Place::of(&crate::tree::build_dir("unit-tests").unwrap().join(format!("rows-{}", std::process::id())));
        let keeper = Keeper::new(place.clone(), Results::begin("t"));
        let mut recorder =
            Recorder { platform: Platform::load("bochs").unwrap(), keeper: keeper.clone(), text: vec![] };
        let half = TEXT.find("max 400").unwrap();
        recorder.write_all(&TEXT.as_bytes()[..half]).unwrap();
        let text = || crate::tree::read_text(&place.json).unwrap();
        let kept = || Results::parse(&text()).unwrap().runs[0].suite.clone().unwrap();
        assert_eq!(kept().rows.len(), 1, "half a line is none");
        recorder.write_all(&TEXT.as_bytes()[half..]).unwrap();
        assert_eq!(kept(), Suite::parse("bochs", TEXT).unwrap());
        std::fs::remove_file(place.json).unwrap();
    }
}
