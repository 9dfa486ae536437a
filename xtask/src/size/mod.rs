//! `cargo xtask size`: lines of kernel-mode Rust, crate by crate, against `perf/size.toml`.
//!
//! Key types: [`Size`], [`Ledger`]. [`source`] counts.

pub mod source;

use crate::{exec, tree};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use source::{Count, LONG};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `size`.
#[derive(clap::Args)]
pub struct Args {
    /// Why it grew: written to perf/size.toml with today's figures.
    #[arg(long, value_name = "WHY")]
    note: Option<String>,
}

const LEDGER: &str = "perf/size.toml";
const KERNEL: &str = "hypervisor/kernel";

/// Prints the figures; fails if they are above the last in the file.
pub fn main(args: &Args) -> Result<ExitCode> {
    let size = Size::measure()?;
    let (path, now) = (tree::root().join(LEDGER), size.figures(args.note.clone().unwrap_or_default()));
    let text = tree::read_text(&path)?;
    let ledger = Ledger::parse(&text)?;
    println!("{}\n{}", size.table(), ledger.distance(now.lines));
    if args.note.is_some() {
        tree::write_if_changed(&path, ledger.with(&text, &now)?.as_bytes())?;
        println!("written to {LEDGER}");
    } else {
        ensure!(size.faults(&ledger).is_empty(), "{}", size.faults(&ledger).join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// What it counts, in a line, and what is wrong.
pub fn check() -> Result<(String, Vec<String>)> {
    let size = Size::measure()?;
    let ledger = Ledger::parse(&tree::read_text(&tree::root().join(LEDGER))?)?;
    Ok((size.summary() + "; " + &ledger.distance(size.sum(|c| c.lines)), size.faults(&ledger)))
}

/// Figures at one time, and why they were accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    lines: usize,
    unsafe_lines: usize,
    long_functions: usize,
    note: String,
}

/// `perf/size.toml`. The last figures are in force.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ledger {
    target_lines: usize,
    size: Vec<Figures>,
}

impl Ledger {
    fn parse(text: &str) -> Result<Ledger> {
        let ledger: Ledger = toml::from_str(text).with_context(|| format!("reading {LEDGER}"))?;
        let unexplained = ledger.size.iter().find(|f| f.note.trim().is_empty());
        ensure!(
            !ledger.size.is_empty() && unexplained.is_none(),
            "{LEDGER}: each [[size]] needs a note, and one is needed"
        );
        Ok(ledger)
    }

    fn last(&self) -> Figures {
        self.size.last().cloned().unwrap_or_default()
    }

    /// How far it is to the target.
    fn distance(&self, lines: usize) -> String {
        let target = self.target_lines;
        if lines <= target {
            format!("the target of {target} is met")
        } else {
            format!("{} above the target of {target}", lines - target)
        }
    }

    /// The file's text with the figures at its end.
    fn with(&self, text: &str, now: &Figures) -> Result<String> {
        ensure!(!now.note.trim().is_empty(), "the note is empty");
        let note = toml::Value::from(now.note.trim());
        let mut text = text.to_owned();
        write!(text, "\n[[size]]\nlines = {}\nunsafe_lines = {}\n", now.lines, now.unsafe_lines)?;
        write!(text, "long_functions = {}\nnote = {note}\n", now.long_functions)?;
        Ok(text)
    }
}

/// Counts of the kernel and of each crate linked into it.
struct Size {
    crates: Vec<(String, Count)>,
    assembly: usize,
}

impl Size {
    fn measure() -> Result<Size> {
        let crates = crates()?.into_iter().map(|(name, root)| Ok((name, source::krate(&root)?)));
        let kernel = tree::root().join(KERNEL).join("src");
        Ok(Size { crates: crates.collect::<Result<_>>()?, assembly: assembly(&kernel)? })
    }

    fn sum(&self, what: impl Fn(&Count) -> usize) -> usize {
        self.crates.iter().map(|(_, c)| what(c)).sum()
    }

    fn figures(&self, note: String) -> Figures {
        let long_functions = self.sum(|c| c.long.len());
        Figures { lines: self.sum(|c| c.lines), unsafe_lines: self.sum(|c| c.unsafe_lines), long_functions, note }
    }

    fn summary(&self) -> String {
        let f = self.figures(String::new());
        let share = percent(f.unsafe_lines, f.lines);
        format!(
            "{} lines of kernel-mode Rust, {share} in `unsafe` blocks, {} functions over {LONG}",
            f.lines, f.long_functions
        )
    }

    fn table(&self) -> String {
        let mut text = format!("{:<12} {:>6} {:>7} {:>6}\n", "crate", "lines", "unsafe", "share");
        let mut row = |name: &str, lines: usize, unsafe_lines: usize| {
            let share = percent(unsafe_lines, lines);
            let _ = writeln!(text, "{name:<12} {lines:>6} {unsafe_lines:>7} {share:>6}");
        };
        self.crates.iter().for_each(|(name, c)| row(name, c.lines, c.unsafe_lines));
        row("all", self.sum(|c| c.lines), self.sum(|c| c.unsafe_lines));
        for (function, lines) in self.crates.iter().flat_map(|(_, c)| &c.long) {
            let _ = writeln!(text, "{function}: {lines} lines, over {LONG}");
        }
        text + &format!("beside it {} lines of assembly", self.assembly)
    }

    fn faults(&self, ledger: &Ledger) -> Vec<String> {
        let (now, last) = (self.figures(String::new()), ledger.last());
        let advice = "make it smaller, or accept it with `cargo xtask size --note WHY`";
        let grown = |what: &str, now: usize, last: usize| {
            (now > last).then(|| format!("{what}: {now}, and {LEDGER} has {last}: {advice}"))
        };
        [
            grown("lines of kernel-mode Rust", now.lines, last.lines),
            grown("lines in `unsafe` blocks", now.unsafe_lines, last.unsafe_lines),
            grown("functions that are too long", now.long_functions, last.long_functions),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A share, for people.
pub fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    /// None: a folder here.
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

/// Name and root file of the kernel and of each crate of this tree that is linked into it.
fn crates() -> Result<Vec<(String, PathBuf)>> {
    let mut c = exec::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.args(["metadata", "--format-version=1", "--locked"]).current_dir(tree::root().join(KERNEL));
    let metadata: Metadata = serde_json::from_str(&exec::query(&mut c)?).context("reading cargo's metadata")?;
    let mut found = Vec::new();
    for p in metadata.packages.into_iter().filter(|p| p.source.is_none()) {
        let root = p.targets.into_iter().find(|t| t.kind.iter().any(|k| k == "lib" || k == "bin"));
        let Some(root) = root else { bail!("{} has neither library nor binary", p.name) };
        found.push((p.name, root.src_path));
    }
    found.sort();
    Ok(found)
}

/// Lines of the `.S` files that are neither blank nor comments.
fn assembly(folder: &Path) -> Result<usize> {
    let mut lines = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            lines += assembly(&path)?;
        } else if path.extension().is_some_and(|e| e == "S") {
            let text = tree::read_text(&path)?;
            lines += text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', '/'])).count();
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "target_lines = 100\n[[size]]\nlines = 9\nunsafe_lines = 1\nlong_functions = 0\nnote = 'a'\n";

    fn size(lines: usize, unsafe_lines: usize, long: usize) -> Size {
        let long = vec![("f.rs:1 f".to_owned(), 99); long];
        Size { crates: vec![("k".into(), Count { lines, unsafe_lines, long })], assembly: 1 }
    }

    #[test]
    fn growth_is_a_fault_and_shrinking_is_not() {
        let ledger = Ledger::parse(FILE).unwrap();
        let faults = |l, u, f| size(l, u, f).faults(&ledger);
        assert!(faults(9, 1, 0).is_empty() && faults(8, 0, 0).is_empty());
        assert!(faults(10, 1, 0)[0].contains("--note"));
        assert!(faults(9, 2, 0)[0].contains("unsafe"));
        assert!(faults(9, 1, 1)[0].contains("too long"));
    }

    #[test]
    fn a_note_is_added_and_then_in_force() {
        let now = size(12, 3, 0).figures("it can \"more\"".into());
        let text = Ledger::parse(FILE).unwrap().with(FILE, &now).unwrap();
        assert!(text.starts_with(FILE));
        assert_eq!(Ledger::parse(&text).unwrap().last(), now);
    }

    #[test]
    fn figures_without_a_note_are_refused() {
        assert!(Ledger::parse(&FILE.replace("'a'", "' '")).is_err());
        assert!(Ledger::parse("target_lines = 1\nsize = []").is_err());
        assert!(Ledger::parse(FILE).unwrap().with(FILE, &size(1, 1, 1).figures(" ".into())).is_err());
    }

    #[test]
    fn the_kernel_and_its_crates_are_found() {
        let names: Vec<_> = crates().unwrap().into_iter().map(|(n, _)| n).collect();
        assert!(["hypervisor", "abi", "ptab", "vmx", "svm"].iter().all(|n| names.iter().any(|m| m == n)), "{names:?}");
        assert!(!names.iter().any(|n| n == "loom" || n == "proptest"), "{names:?}");
    }

    #[test]
    fn the_distance_to_the_target_is_told() {
        let ledger = Ledger::parse(FILE).unwrap();
        assert_eq!(ledger.distance(100), "the target of 100 is met");
        assert_eq!(ledger.distance(103), "3 above the target of 100");
    }

    #[test]
    fn tables_name_what_is_too_long() {
        let table = size(200, 50, 1).table();
        assert!(table.contains("25.0 %") && table.contains("f.rs:1 f: 99 lines"), "{table}");
    }
}
