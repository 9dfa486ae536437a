//! `cargo xtask coverage`: which lines of the pure crates their own host tests run, against `perf/coverage.toml`.
//!
//! Key types: [`Covered`], [`Limits`]. [`measure`] builds, runs and counts.

mod measure;

use crate::size::percent;
use crate::tree;
use anyhow::{Context, Result, bail, ensure};
use measure::Covered;
use serde::Deserialize;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Arguments of `coverage`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this crate, and with the lines that no test runs.
    #[arg(value_name = "CRATE")]
    name: Option<String>,
}

const LIMITS: &str = "perf/coverage.toml";

/// `perf/coverage.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    /// In per cent, of each crate.
    least_lines: f64,
    /// Folders; a crate has the name of its folder.
    crates: Vec<String>,
}

/// Prints the figures; fails if one is below the limit.
pub fn main(args: &Args) -> Result<ExitCode> {
    let limits: Limits = toml::from_str(&tree::read_text(&tree::root().join(LIMITS))?).context(LIMITS)?;
    let folders = selected(&limits.crates, args.name.as_deref())?;
    let crates = measure::crates(&limits.crates, &folders)?;
    print!("{}", table(&crates));
    if args.name.is_some() {
        crates.iter().for_each(|c| print!("{}", missed(c, |p| tree::read_text(p).unwrap_or_default())));
    }
    let faults = faults(&crates, limits.least_lines);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn selected<'a>(folders: &'a [String], name: Option<&str>) -> Result<Vec<&'a str>> {
    let wanted = |f: &&str| name.is_none_or(|n| crate_name(f) == n);
    let list: Vec<_> = folders.iter().map(String::as_str).filter(wanted).collect();
    if list.is_empty() {
        let known: Vec<_> = folders.iter().map(|f| crate_name(f)).collect();
        bail!("{} is not one of the crates in {LIMITS}: {}", name.unwrap_or("nothing"), known.join(", "));
    }
    Ok(list)
}

fn crate_name(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

fn table(crates: &[Covered]) -> String {
    let mut text =
        format!("{:<12} {:>6} {:>8} {:>8}   {:>8} {:>8}\n", "crate", "lines", "run", "share", "regions", "share");
    let mut row = |name: &str, lines: (usize, usize), regions: (usize, usize)| {
        let (all, share, parts) = (lines.1, percent(lines.0, lines.1), percent(regions.0, regions.1));
        let _ = writeln!(text, "{name:<12} {all:>6} {:>8} {share:>8}   {:>8} {parts:>8}", lines.0, regions.1);
    };
    let sum = |f: fn(&Covered) -> (usize, usize)| crates.iter().map(f).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    crates.iter().for_each(|c| row(&c.name, c.lines(), c.regions));
    if crates.len() > 1 {
        row("all", sum(Covered::lines), sum(|c| c.regions));
    }
    text
}

/// The lines that no test runs, each with its text.
fn missed(c: &Covered, text: impl Fn(&Path) -> String) -> String {
    let mut out = String::new();
    for (path, lines) in &c.files {
        let source = text(path);
        let source: Vec<&str> = source.lines().collect();
        for (line, _) in lines.iter().filter(|(_, run)| !**run) {
            let content = source.get(line - 1).map_or("", |l| l.trim_end());
            let _ = writeln!(out, "{}:{line}: {content}", tree::shown(path));
        }
    }
    out
}

fn faults(crates: &[Covered], least: f64) -> Vec<String> {
    let share = |(run, all): (usize, usize)| 100.0 * run as f64 / all.max(1) as f64;
    let below = crates.iter().filter(|c| share(c.lines()) < least);
    below
        .map(|c| format!("{}: its tests run {}, less than {least} %", c.name, percent(c.lines().0, c.lines().1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(run: usize, all: usize) -> Covered {
        let lines = (1..=all).map(|l| (l, l <= run)).collect();
        Covered { name: "k".into(), files: [("/a/src/f.rs".into(), lines)].into(), regions: (run, all + 1) }
    }

    #[test]
    fn what_is_below_the_limit_is_a_fault() {
        assert!(faults(&[covered(95, 100)], 95.0).is_empty());
        assert!(faults(&[covered(95, 100), covered(94, 100)], 95.0)[0].contains("94.0 %"));
        assert_eq!(faults(&[covered(0, 0)], 95.0).len(), 1, "a crate of which nothing was read");
    }

    #[test]
    fn the_table_has_lines_and_regions_and_their_sums() {
        let text = table(&[covered(3, 4), covered(1, 4)]);
        let words = |l: &str| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(text.lines().nth(1).unwrap()), ["k", "4", "3", "75.0", "%", "5", "60.0", "%"]);
        assert_eq!(words(text.lines().last().unwrap()), ["all", "8", "4", "50.0", "%", "10", "40.0", "%"]);
    }

    #[test]
    fn lines_that_no_test_runs_are_shown() {
        assert_eq!(missed(&covered(1, 2), |_| "fn a() {\n    b();\n".into()), "/a/src/f.rs:2:     b();\n");
    }

    #[test]
    fn crates_are_named_by_their_folder() {
        let limits: Limits = toml::from_str(&tree::read_text(&tree::root().join(LIMITS)).unwrap()).unwrap();
        assert_eq!(selected(&limits.crates, Some("cap")).unwrap(), ["hypervisor/cap"]);
        assert!(selected(&limits.crates, Some("kernel")).unwrap_err().to_string().contains("abi, cap"));
        assert!(limits.crates.iter().all(|c| tree::root().join(c).join("src/lib.rs").is_file()));
    }
}
