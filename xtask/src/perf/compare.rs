//! `cargo xtask perf compare A B`: two revisions, built in work trees of their own and measured in turn, or results that
//! there are. [`super::difference`] says what changed.

use super::difference::{self, Side};
use super::result::Results;
use super::suite;
use crate::platform::Platform;
use crate::progress::Step;
use crate::{exec, packages, tree};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `perf compare`.
#[derive(clap::Args)]
pub struct Args {
    /// A revision that git knows, `.` for this tree as it is, or results (JSON; several files with commas between).
    a: String,
    /// Likewise.
    b: String,
    /// Runs of each revision: 2 if not given, to see that counts repeat, or 10 where figures scatter.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// On this platform instead of bochs and qemu; may be given several times.
    #[arg(long, value_name = "PLATFORM")]
    on: Vec<String>,
    /// Compare results of different machines nevertheless.
    #[arg(long)]
    different_machines: bool,
}

/// Runs where counts repeat, and where they do not.
const RUNS: [u32; 2] = [2, 10];
/// Where work trees and results are, below `build/`.
const FOLDER: &str = "compare";

/// One of the two.
enum Source {
    Files(Vec<PathBuf>),
    /// The root of its tree.
    Tree(PathBuf),
}

/// Prints what changed. That something did is no failure.
pub fn main(args: &Args) -> Result<ExitCode> {
    let on = if args.on.is_empty() { super::PLATFORMS.map(String::from).to_vec() } else { args.on.clone() };
    let platforms = super::platforms(&on, "")?;
    let folder = tree::build_dir(FOLDER)?;
    let lock = File::create(folder.join("lock"))?;
    lock.try_lock().context("another comparison runs: it has the work trees")?;
    let sources = [source(&args.a, &folder.join("a"))?, source(&args.b, &folder.join("b"))?];
    if sources.iter().any(|s| matches!(s, Source::Tree(_))) {
        packages::ensure_installed(packages::FOR_IMAGES.iter().chain(platforms.iter().flat_map(Platform::needs)))?;
    }
    // Whoever works on the tree meanwhile builds another one in its place.
    let program = folder.join("xtask");
    std::fs::copy(std::env::current_exe()?, &program).with_context(|| format!("writing {}", program.display()))?;
    let runs = args.runs.unwrap_or(RUNS[usize::from(!platforms.iter().all(Platform::is_counted))]);
    let [a, b] = measure(&program, &sources, runs, &on, &folder)?;
    let (a, b) = (Side { name: args.a.clone(), results: a }, Side { name: args.b.clone(), results: b });
    let compared = difference::compare(&a, &b, args.different_machines)?;
    for (letter, side) in [("A", &a), ("B", &b)] {
        println!("{letter}: {}", title(side));
    }
    compared.iter().for_each(|c| print!("{}", c.show()));
    Ok(ExitCode::SUCCESS)
}

fn title(s: &Side) -> String {
    let revision = s.results.first().and_then(|r| r.revision.as_ref());
    let incomplete = s.results.iter().any(|r| !r.complete);
    let note = if incomplete { "; NOT COMPLETE" } else { "" };
    let suites = s.results.first().into_iter().flat_map(|r| &r.runs).filter_map(|run| run.suite.as_ref());
    let off: BTreeSet<_> = suites.flat_map(|s| &s.machine).filter(|(what, _)| what == suite::TURNED_OFF).collect();
    let off: String = off.iter().map(|(what, which)| format!(", {what}: {which}")).collect();
    format!("{}, {}{off}{note}", s.name, revision.map_or("revision not known".into(), |r| r.show()))
}

/// Files if they look so, else a revision, which is checked out there.
fn source(text: &str, folder: &Path) -> Result<Source> {
    if text.split(',').all(|f| f.ends_with(".json")) {
        return Ok(Source::Files(text.split(',').map(PathBuf::from).collect()));
    }
    if text == "." {
        return Ok(Source::Tree(tree::root()));
    }
    ensure!(exec::find("git"), "git is not installed: without it only `.` and files can be compared");
    let commit = git(&tree::root(), &["rev-parse", "--verify", "--end-of-options", &format!("{text}^{{commit}}")]);
    let commit = commit.with_context(|| format!("{text} is no revision, no file that ends with .json, and not `.`"))?;
    let commit = commit.trim();
    // What was built there before makes the next build short.
    if git(folder, &["rev-parse", "--show-toplevel"]).is_ok_and(|top| Path::new(top.trim()) == folder) {
        git(folder, &["checkout", "--quiet", "--force", "--detach", commit])?;
    } else {
        let at = folder.display().to_string();
        git(&tree::root(), &["worktree", "add", "--quiet", "--force", "--detach", &at, commit])?;
    }
    Ok(Source::Tree(folder.to_owned()))
}

fn git(at: &Path, args: &[&str]) -> Result<String> {
    exec::query(exec::command("git").arg("-C").arg(at).args(args))
}

/// In turn: what changes on the machine while this runs meets both.
fn measure(
    program: &Path,
    sources: &[Source; 2],
    runs: u32,
    on: &[String],
    folder: &Path,
) -> Result<[Vec<Results>; 2]> {
    let mut results = [vec![], vec![]];
    for run in 1..=runs {
        for (side, source) in sources.iter().enumerate() {
            let letter = ["a", "b"][side];
            match source {
                Source::Tree(root) => {
                    let step = Step::begin(format!("measuring {} ({run} of {runs})", letter.to_uppercase()));
                    let file = folder.join(format!("{letter}-{run}.json"));
                    results[side].push(once(program, root, on, &file, &step)?);
                    step.done("");
                }
                Source::Files(files) if run == 1 => {
                    for f in files {
                        let text = tree::read_text(f)?;
                        results[side].push(Results::parse(&text).with_context(|| format!("reading {}", f.display()))?);
                    }
                }
                Source::Files(_) => {}
            }
        }
    }
    Ok(results)
}

/// Builds and measures that tree once. The program that does it is a copy of us: both are measured in the same way, whatever their
/// own commands can do.
fn once(program: &Path, root: &Path, on: &[String], file: &Path, step: &Step) -> Result<Results> {
    let _ = std::fs::remove_file(file);
    let mut run = exec::command(program);
    run.env("CARGO_MANIFEST_DIR", root.join("xtask")).current_dir(root);
    run.args(["perf", "--suite", "--only-json", "--out"]).arg(file).args(on.iter().flat_map(|p| ["--on", p]));
    exec::run(&mut run, step)?;
    Results::parse(&tree::read_text(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_trees_and_nonsense_are_told_apart() {
        let folder = Path::new("/no/such/folder");
        assert!(matches!(source("a.json,b.json", folder).unwrap(), Source::Files(f) if f.len() == 2));
        assert!(matches!(source(".", folder).unwrap(), Source::Tree(t) if t == tree::root()));
        let e = source("no-such-revision", folder).err().unwrap().to_string();
        assert!(e.contains("no-such-revision") || e.contains("git is not installed"), "{e}");
        assert!(source("--upload-pack=x", folder).is_err());
    }

    #[test]
    fn files_are_read_once_however_many_runs_there_are() {
        let file = tree::build_dir("unit-tests").unwrap().join(format!("compare-{}.json", std::process::id()));
        std::fs::write(&file, serde_json::to_string(&Results::begin("t")).unwrap()).unwrap();
        let source = || Source::Files(vec![file.clone()]);
        let [a, b] = measure(Path::new("/"), &[source(), source()], 3, &[], Path::new("/")).unwrap();
        assert_eq!((a.len(), b.len()), (1, 1));
        std::fs::write(&file, "{}").unwrap();
        assert!(
            format!("{:#}", measure(Path::new("/"), &[source(), source()], 1, &[], Path::new("/")).unwrap_err())
                .contains("no schema")
        );
        std::fs::remove_file(file).unwrap();
    }
}
