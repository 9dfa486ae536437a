//! The promises of `perf/budgets.toml`, and whether results keep them.
//!
//! Key types: [`Budgets`], [`Check`].

use super::result::Results;
use super::suite::Suite;
use crate::tree;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most that the median of each row of the suite may be, by platform.
pub type Limits = BTreeMap<String, BTreeMap<String, u64>>;

/// Most that each figure may be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    guest_boot_ratio: f64,
    guest_prompt_time_ratio: f64,
    kernel_text_rodata_bytes: f64,
    kernel_memory_bytes: f64,
    vmm_memory_bytes: f64,
    suite: Limits,
    /// Judged by `profile`.
    #[serde(rename = "counts")]
    _counts: toml::Table,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Ratio,
    Ticks,
    Bytes,
}

/// A promise, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Of a row of the suite: where.
    pub platform: Option<String>,
    /// The figure, or the name of the row.
    pub what: String,
    pub unit: Unit,
    /// `None`: it was to be measured, and was not.
    pub have: Option<f64>,
    pub most: f64,
    pub kept: bool,
    /// Why it was not measured.
    pub why: Option<String>,
}

impl Check {
    fn new(what: &str, unit: Unit, have: f64, most: f64) -> Check {
        Check { platform: None, what: what.into(), unit, have: Some(have), most, kept: have <= most, why: None }
    }

    /// With the platform, if it is of one.
    pub fn name(&self) -> String {
        self.platform.iter().map(|p| format!("{p}: ")).collect::<String>() + &self.what
    }

    /// A figure in the check's unit.
    pub fn figure(&self, v: f64) -> String {
        match self.unit {
            Unit::Ratio => format!("{v:.3}"),
            Unit::Ticks => format!("{v:.0}"),
            Unit::Bytes => format!("{:.0} KiB", v / 1024.0),
        }
    }

    /// What was measured, or why nothing was.
    pub fn measured(&self) -> String {
        match (self.have, &self.why) {
            (Some(v), _) => self.figure(v),
            (None, Some(why)) => format!("missing: {why}"),
            (None, None) => "not measured".into(),
        }
    }

    /// In a line.
    pub fn show(&self) -> String {
        let verdict = if self.kept { "kept" } else { "BROKEN" };
        format!("{:<48} {:>10}  at most {:>10}  {verdict}", self.name(), self.measured(), self.figure(self.most))
    }
}

impl Budgets {
    /// `perf/budgets.toml`.
    pub fn load() -> Result<Budgets> {
        Ok(toml::from_str(&tree::read_text(&tree::root().join("perf/budgets.toml"))?)?)
    }

    /// The promises about what was measured. What was not tried is not among them.
    pub fn checks(&self, r: &Results) -> Vec<Check> {
        let mut list = Vec::new();
        let worst = |values: Vec<f64>| values.into_iter().reduce(f64::max);
        let boots = r.runs.iter().flat_map(|run| &run.boots).map(|b| b.ratio()).collect();
        let figures = [
            ("guest boot, ratio to bare machine", Unit::Ratio, worst(boots), self.guest_boot_ratio),
            ("guest to prompt, time, ratio", Unit::Ratio, r.prompt.map(|p| p.ratio()), self.guest_prompt_time_ratio),
        ];
        list.extend(
            figures.into_iter().filter_map(|(what, unit, have, most)| Some(Check::new(what, unit, have?, most))),
        );
        if let Some(s) = &r.sizes {
            let sizes = [
                ("kernel text and read-only data", s.kernel_text_rodata_bytes, self.kernel_text_rodata_bytes),
                ("kernel memory after boot", s.kernel_memory_bytes, self.kernel_memory_bytes),
                ("VMM memory beyond guest RAM", s.vmm_memory_bytes, self.vmm_memory_bytes),
            ];
            list.extend(sizes.map(|(what, have, most)| Check::new(what, Unit::Bytes, have as f64, most)));
        }
        list.extend(r.runs.iter().filter_map(|run| run.suite.as_ref()).flat_map(|s| self.suite(s)));
        list
    }

    /// The promises about the rows of the suite. One that has none was to be measured.
    pub fn suite(&self, suite: &Suite) -> Vec<Check> {
        let limits = self.suite.get(&suite.platform).into_iter().flatten();
        let check = |(name, most): (&String, &u64)| {
            let have = suite.row(name).map(|r| r.median as f64);
            let why = if have.is_some() { None } else { suite.why_missing(name) };
            let most = *most as f64;
            let kept = have.is_some_and(|h| h <= most);
            Check {
                platform: Some(suite.platform.clone()),
                what: name.clone(),
                unit: Unit::Ticks,
                have,
                most,
                kept,
                why,
            }
        };
        limits.map(check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::guest::{Boot, Sizes};
    use super::super::prompt::Prompt;
    use super::*;
    use crate::platform::Platform;

    const SUITE: &str = "perf: call min 90 median 95 p99 99 max 400 of 1024 ticks\nperf: exit missing: no guests\n";

    fn budgets(row: &str, most: u64) -> Budgets {
        let suite = [("bochs".to_string(), [(row.to_string(), most)].into())].into();
        Budgets { suite, ..Budgets::load().unwrap() }
    }

    #[test]
    fn a_broken_promise_is_named_and_so_is_one_without_a_figure() {
        let suite = Suite::parse("bochs", SUITE).unwrap();
        let check = |row, most| budgets(row, most).suite(&suite).remove(0);
        assert!(check("call", 95).kept);
        let broken = check("call", 94);
        assert!(!broken.kept && broken.show().contains("bochs: call") && broken.show().contains("BROKEN"));
        assert_eq!((broken.measured().as_str(), broken.figure(broken.most).as_str()), ("95", "94"));
        assert_eq!(check("exit", 400).measured(), "missing: no guests");
        assert!(!check("other", 400).kept && check("other", 400).measured() == "not measured");
        let qemu = Suite::parse("qemu", SUITE).unwrap();
        assert!(budgets("call", 0).suite(&qemu).is_empty(), "of another platform");
    }

    #[test]
    fn the_worst_counts_and_what_was_not_tried_is_not_judged() {
        let mut r = Results::begin("t");
        let b = budgets("call", 95);
        assert!(b.checks(&r).is_empty());
        let boot = |native_ticks| Boot {
            name: String::new(),
            native_ticks,
            guest_ticks: 2_500_000,
            exits_at_prompt: 0,
            exits: vec![],
        };
        let run = r.run(&Platform::load("bochs").unwrap());
        run.boots = vec![boot(2_500_000), boot(2_000_000)];
        r.prompt = Some(Prompt { ours_s: 8.9, native_s: 3.0 });
        r.sizes = Some(Sizes { kernel_text_rodata_bytes: 1000, kernel_memory_bytes: 2000, vmm_memory_bytes: 3000 });
        let checks = b.checks(&r);
        assert!(checks.len() == 5 && checks.iter().all(|c| c.kept) && checks[0].measured() == "1.250", "{checks:?}");
        r.runs[0].boots[1] = boot(1_900_000);
        r.prompt = Some(Prompt { ours_s: 9.1, native_s: 3.0 });
        assert_eq!(b.checks(&r).iter().filter(|c| !c.kept).count(), 2);
    }
}
