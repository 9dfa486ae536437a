//! What the emulators of `cargo xtask test` cost, platform by platform, against `perf/tests.toml`; and tests that came
//! near their time limits. Nothing fails by it: a time is no result.
//!
//! Key types: [`Spent`], [`Budget`]. [`crate::test`] shows it.

use crate::tree;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

const BUDGET: &str = "perf/tests.toml";
/// A limit should leave room for a machine that is slower, or has other things to do, by this factor.
const ROOM: u32 = 3;

/// A scenario that ran.
pub struct Spent<'a> {
    /// With its platform.
    pub name: &'a str,
    /// Its platform.
    pub platform: &'a str,
    /// CPU time of the emulator.
    pub cpu: Duration,
    /// Time that passed.
    pub took: Duration,
    /// The most that may pass.
    pub limit: Duration,
}

/// `perf/tests.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The scenario whose CPU time is the unit: machines differ, and so do the hours of one.
    unit: String,
    /// The most that all may cost, in units.
    most: f32,
}

impl Budget {
    /// Reads the file.
    pub fn load() -> Result<Budget> {
        toml::from_str(&tree::read_text(&tree::root().join(BUDGET))?).with_context(|| format!("reading {BUDGET}"))
    }

    /// The lines of the report. `whole`: all scenarios ran, so that the sum means something.
    pub fn report(&self, spent: &[Spent<'_>], whole: bool) -> Vec<String> {
        let mut by_platform: BTreeMap<&str, Duration> = BTreeMap::new();
        spent.iter().for_each(|s| *by_platform.entry(s.platform).or_default() += s.cpu);
        let sum: Duration = by_platform.values().sum();
        let each: Vec<_> = by_platform.iter().map(|(p, cpu)| format!("{p} {:.0} s", cpu.as_secs_f32())).collect();
        let mut lines = Vec::new();
        if !each.is_empty() {
            lines.push(format!("CPU time of the emulators: {:.0} s ({})", sum.as_secs_f32(), each.join(", ")));
        }
        let unit = spent.iter().find(|s| s.name == self.unit).map(|s| s.cpu).filter(|cpu| !cpu.is_zero());
        if let (true, Some(unit)) = (whole, unit) {
            let (cost, most, name) = (sum.as_secs_f32() / unit.as_secs_f32(), self.most, &self.unit);
            let verdict = if cost > most { "OVER THE BUDGET" } else { "within the budget" };
            lines.push(format!("{cost:.1} times that of {name}: {verdict} of {most} ({BUDGET})"));
        }
        let near = spent.iter().filter(|s| s.took * ROOM > s.limit);
        lines.extend(near.map(|s| {
            let (took, limit) = (s.took.as_secs_f32(), s.limit.as_secs());
            format!("near its limit: {}: {took:.0} s of {limit}", s.name)
        }));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent<'a>(name: &'a str, platform: &'a str, cpu: u64) -> Spent<'a> {
        let s = Duration::from_secs;
        Spent { name, platform, cpu: s(cpu), took: s(cpu), limit: s(100) }
    }

    #[test]
    fn the_sum_is_told_by_platform_and_in_units() {
        let b = Budget { unit: "a@p".into(), most: 4.5 };
        let list = [spent("a@p", "p", 10), spent("b@q", "q", 20), spent("b@p", "p", 10)];
        assert_eq!(
            b.report(&list, true),
            [
                "CPU time of the emulators: 40 s (p 20 s, q 20 s)",
                "4.0 times that of a@p: within the budget of 4.5 (perf/tests.toml)"
            ]
        );
        assert_eq!(b.report(&list, false).len(), 1, "a part of them says nothing of the whole");
        assert_eq!(b.report(&list[1..], true).len(), 1, "without the unit there is no figure");
        let over = Budget { most: 3.9, ..b };
        assert!(over.report(&list, true)[1].contains("OVER THE BUDGET of 3.9"));
        assert!(over.report(&[], true).is_empty());
    }

    #[test]
    fn a_test_near_its_limit_is_named() {
        let b = Budget { unit: "x".into(), most: 1.0 };
        let list = [spent("a@p", "p", 33), spent("b@p", "p", 34)];
        assert_eq!(b.report(&list, true)[1..], ["near its limit: b@p: 34 s of 100"]);
    }

    #[test]
    fn the_unit_is_a_scenario() {
        let b = Budget::load().unwrap();
        assert!(crate::scenario::all().unwrap().iter().any(|s| s.name == b.unit), "{}", b.unit);
    }
}
