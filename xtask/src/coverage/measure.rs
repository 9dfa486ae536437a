//! Builds the tests of crates with counters in them, runs them, and reads what was counted.
//!
//! The compiler puts the counters in (`-C instrument-coverage`); what the tests leave is in the format of its LLVM. Debian's
//! tools for that are those of older LLVMs, and rustup's are no part of the toolchain: a crate reads it.
//!
//! Key type: [`Covered`].

use crate::progress::Step;
use crate::size::source;
use crate::{exec, tree};
use anyhow::{Context, Result, ensure};
use llvm_profparser::{CoverageMapping, CoverageReport, merge_profiles};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Tests have threads: two that count at once must not lose a count, as many a count is a difference of others.
const FLAGS: &str = "-C instrument-coverage -C llvm-args=-instrprof-atomic-counter-update-all";
/// Named, so that the flags are not for build scripts and procedural macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Lines of a file that have code, and whether a test ran it.
type Lines = BTreeMap<usize, bool>;

/// What the tests of a crate ran.
#[derive(Debug)]
pub struct Covered {
    /// The crate.
    pub name: String,
    /// File by file.
    pub files: BTreeMap<PathBuf, Lines>,
    /// Stretches of code without a branch: run, and all.
    pub regions: (usize, usize),
}

impl Covered {
    /// Lines: run, and all.
    pub fn lines(&self) -> (usize, usize) {
        let all = || self.files.values().flat_map(BTreeMap::values);
        (all().filter(|run| **run).count(), all().count())
    }
}

/// A message of cargo about something that it made.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
}

/// The crates in these folders. What is built are `all`: with fewer, cargo could choose other features, and build anew.
pub fn crates(all: &[String], folders: &[&str]) -> Result<Vec<Covered>> {
    let tests = build(all)?;
    folders.iter().map(|f| covered(&tree::root().join(f), &tests)).collect()
}

/// The test programs, and the folders of their crates.
fn build(folders: &[String]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let step = Step::begin("building the tests with counters");
    let mut c = exec::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.args(["test", "--no-run", "--lib", "--tests", "--message-format=json", "--target", TARGET, "--target-dir"]);
    c.arg(tree::build("coverage/target")).env("RUSTFLAGS", FLAGS).current_dir(tree::root());
    for f in folders {
        c.arg("--package").arg(f.rsplit('/').next().unwrap_or(f));
    }
    let tests = programs(&exec::run(&mut c, &step)?)?;
    ensure!(!tests.is_empty(), "cargo made no test program");
    step.done("");
    Ok(tests)
}

fn programs(messages: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let a: Artifact = serde_json::from_str(line).context("reading what cargo says")?;
        if let (Some(program), Some(manifest)) = (a.executable, a.manifest_path) {
            found.push((program, manifest.parent().context("a manifest without folder")?.to_path_buf()));
        }
    }
    Ok(found)
}

/// Runs the tests of the crate in that folder; counts nothing but its own sources.
fn covered(folder: &Path, tests: &[(PathBuf, PathBuf)]) -> Result<Covered> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let step = Step::begin(format!("running the tests of {name}"));
    let counts = tree::build("coverage").join(&name);
    let _ = std::fs::remove_dir_all(&counts);
    let programs: Vec<PathBuf> = tests.iter().filter(|(_, f)| f == folder).map(|(p, _)| p.clone()).collect();
    ensure!(!programs.is_empty(), "{name} has no tests");
    for p in &programs {
        let mut c = exec::command(p);
        c.env("CARGO_MANIFEST_DIR", folder).env("LLVM_PROFILE_FILE", counts.join("%m-%p.profraw"));
        exec::run(c.current_dir(folder), &step)?;
    }
    let left = std::fs::read_dir(&counts).context("the tests left no counts")?;
    let left: Vec<PathBuf> = left.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    let counted = merge_profiles(&left).context("reading the counts: is the compiler newer than the reader?")?;
    let sources = folder.join("src");
    let report = CoverageMapping::new(&programs, &counted, false)?
        .generate_subreport(|paths| paths.iter().any(|p| p.starts_with(&sources)))?;
    let covered = compare(name, &report, &source::code_lines(&sources.join("lib.rs"))?);
    step.done("");
    Ok(covered)
}

/// A line counts as run if any stretch on it is. Lines of tests among the sources are not among the `code`.
fn compare(name: String, report: &CoverageReport, code: &BTreeMap<PathBuf, BTreeSet<usize>>) -> Covered {
    let mut covered = Covered { name, files: BTreeMap::new(), regions: (0, 0) };
    for (path, code) in code {
        let mut lines = Lines::new();
        for (at, count) in report.files.get(path).into_iter().flat_map(|f| &f.hits) {
            let run = *count > 0;
            if !code.contains(&at.line_start) {
                continue;
            }
            covered.regions.0 += usize::from(run);
            covered.regions.1 += 1;
            for line in (at.line_start..=at.line_end).filter(|l| code.contains(l)) {
                *lines.entry(line).or_default() |= run;
            }
        }
        covered.files.insert(path.clone(), lines);
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;
    use llvm_profparser::{CoverageResult, SourceLocation};

    #[test]
    fn programs_come_with_the_folders_of_their_crates() {
        let text = "{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/w/cap/Cargo.toml\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"manifest_path\":\"/w/cap/Cargo.toml\",\"executable\":\"/t/cap-1\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(programs(text).unwrap(), [("/t/cap-1".into(), "/w/cap".into())]);
        assert!(programs("warning").is_err());
    }

    #[test]
    fn a_line_is_run_if_any_of_it_is_and_tests_do_not_count() {
        let mut file = CoverageResult::default();
        let mut at = |lines: (usize, usize), column, count| {
            let [line_start, line_end] = lines.into();
            file.insert("f", SourceLocation { line_start, line_end, column_start: column, column_end: 80 }, count);
        };
        at((1, 3), 1, 1);
        at((3, 3), 9, 0);
        at((4, 5), 1, 0);
        at((8, 9), 1, 7);
        let report = CoverageReport { files: [("f.rs".into(), file)].into() };
        let code = |name: &str, lines: &[usize]| (PathBuf::from(name), lines.iter().copied().collect());
        // Line 2 is a comment, and from line 7 on there are tests.
        let c = compare("k".into(), &report, &[code("f.rs", &[1, 3, 4, 5, 6]), code("other.rs", &[1])].into());
        assert_eq!(c.files[Path::new("f.rs")], [(1, true), (3, true), (4, false), (5, false)].into());
        assert!(c.files[Path::new("other.rs")].is_empty());
        assert_eq!((c.lines(), c.regions), ((2, 4), (1, 3)));
    }
}
