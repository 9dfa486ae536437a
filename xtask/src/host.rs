//! The host tests: rustfmt, clippy and the unit tests of everything, by cargo; the pages of the interface, the
//! kernel's size.
//!
//! Key types: [`Check`].

use crate::failure::Failure;
use crate::{exec, size, spec, tree};
use anyhow::{Context, Result};
use regex::Regex;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A call of cargo that must succeed.
struct Check {
    name: &'static str,
    /// Below the root of the workspace.
    folder: &'static str,
    args: &'static [&'static str],
}

const FMT: &[&str] = &["fmt", "--all", "--check"];
/// With the feature `component`: the code that only runs on our kernel. That also takes the packages that cannot be
/// linked into test programs.
const CLIPPY: &[&str] =
    &["clippy", "--quiet", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"];
/// A package whose build flags make it unfit for test targets.
const CLIPPY_BARE: &[&str] = &["clippy", "--quiet", "--release", "--", "--deny", "warnings"];
const KERNEL: &str = "hypervisor/kernel";

const CHECKS: &[Check] = &[
    Check { name: "rustfmt", folder: "", args: FMT },
    Check { name: "rustfmt-kernel", folder: KERNEL, args: FMT },
    Check { name: "rustfmt-testkernel", folder: "guests/testkernel", args: FMT },
    Check { name: "rustfmt-novaroot", folder: "tests/novaroot", args: FMT },
    Check { name: "clippy", folder: "", args: CLIPPY },
    Check { name: "clippy-kernel", folder: KERNEL, args: CLIPPY_BARE },
    Check { name: "clippy-novaroot", folder: "tests/novaroot", args: CLIPPY_BARE },
    Check { name: "unit-tests", folder: "", args: &["test", "--no-fail-fast"] },
];

/// Runs all of them, and says for each what came of it. Those that failed.
pub fn run() -> Result<Vec<Failure>> {
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    let mut fail =
        |name: &str, cause: &str, log| failed.push(Failure { name: format!("host::{name}"), cause: cause.into(), log });
    for c in CHECKS {
        let began = Instant::now();
        let result = c.run()?;
        if let Outcome::Failed(said) = &result {
            fail(c.name, &format!("cargo {}", c.args.join(" ")), said.clone());
        }
        lines.push(format!("test host::{:<18} ... {} ({:.0} s)", c.name, result.text(), began.elapsed().as_secs_f32()));
    }
    for (name, (found, faults)) in [("spec", spec::check()?), ("size", size::check()?)] {
        println!("\n{found}");
        faults.iter().for_each(|f| eprintln!("{f}"));
        let outcome = if faults.is_empty() { Outcome::Passed } else { Outcome::Failed(vec![]) };
        if !faults.is_empty() {
            fail(name, &faults.join("\n"), vec![]);
        }
        lines.push(format!("test host::{name:<18} ... {}", outcome.text()));
    }
    println!("\n{}", lines.join("\n"));
    Ok(failed)
}

/// How long the rest of the output may take to arrive after the check's end.
const DRAIN: Duration = Duration::from_secs(5);
/// Lines of a failed check that say why.
const SHOWN_LINES: usize = 15;
/// Lines that belong to each that says why.
const FOLLOW: usize = 3;
/// What cargo, rustfmt, rustc and failed tests begin with when they say why.
static WHY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(error|Diff in)|panicked at").expect("a pattern"));

/// Shows output as it comes, and returns the first lines that say why something failed.
fn passed_on(output: impl Read) -> Result<Vec<String>> {
    let (mut why, mut follow) = (Vec::new(), 0);
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        follow = if WHY.is_match(&line) { FOLLOW + 1 } else { follow };
        if follow > 0 && why.len() < SHOWN_LINES {
            why.push(line);
        }
        follow = follow.saturating_sub(1);
    }
    Ok(why)
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// What it said.
    Failed(Vec<String>),
    NotHere(&'static str),
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Outcome::Passed => "ok".into(),
            Outcome::Failed(_) => "FAILED".into(),
            Outcome::NotHere(tool) => format!("not here: cargo {tool} is not installed"),
        }
    }
}

impl Check {
    fn run(&self) -> Result<Outcome> {
        let tool = self.args[0];
        // rustup's smallest toolchain has neither.
        if tool != "test" && !is_installed(tool) {
            return Ok(Outcome::NotHere(tool));
        }
        let (output, theirs) = std::io::pipe()?;
        let mut cargo = cargo(self.args);
        cargo.current_dir(tree::root().join(self.folder)).stdout(theirs.try_clone()?).stderr(theirs);
        let mut child = cargo.spawn().with_context(|| format!("starting cargo {tool}"))?;
        // It holds our copies of the pipe's other end.
        drop(cargo);
        let (sender, said) = channel();
        std::thread::spawn(move || sender.send(passed_on(output)));
        let status = child.wait()?;
        // What a test has left running may hold the pipe for ever.
        let said = said.recv_timeout(DRAIN).unwrap_or(Ok(vec![]))?;
        Ok(if status.success() { Outcome::Passed } else { Outcome::Failed(said) })
    }
}

fn is_installed(tool: &str) -> bool {
    let quiet = cargo(&[tool, "--help"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|s| s.success())
}

fn cargo(args: &[&str]) -> Command {
    let mut c = exec::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.args(args);
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_are_missing_are_named() {
        assert!(is_installed("metadata"));
        let strange = Check { name: "x", folder: "", args: &["no-such-tool"] };
        let outcome = strange.run().unwrap();
        assert_eq!(outcome, Outcome::NotHere("no-such-tool"));
        assert!(outcome.text().contains("no-such-tool"));
    }

    #[test]
    fn a_check_that_fails_is_told_apart() {
        let quiet = |args| Check { name: "x", folder: "", args }.run().unwrap();
        assert_eq!(quiet(&["locate-project", "--quiet", "--workspace", "--message-format=plain"]), Outcome::Passed);
        let failed = quiet(&["locate-project", "--quiet", "--manifest-path=/no/such/Cargo.toml"]);
        assert!(matches!(failed, Outcome::Failed(said) if said[0].starts_with("error: ")));
    }

    #[test]
    fn lines_that_say_why_are_kept_with_those_that_follow() {
        let text = "   Compiling a\nerror: no\n --> src/a.rs:1\n  |\n1 | x\ntest b ... ok\n";
        assert_eq!(passed_on(text.as_bytes()).unwrap(), ["error: no", " --> src/a.rs:1", "  |", "1 | x"]);
        let text = "failures:\nthread 't' (1) panicked at src/a.rs:9:\nleft is not right\n 1\n 2\n";
        assert_eq!(passed_on(text.as_bytes()).unwrap().len(), 4);
        assert_eq!(passed_on("error: x\n".repeat(99).as_bytes()).unwrap().len(), SHOWN_LINES);
        assert!(passed_on("test a ... ok\n\n".as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn the_folders_are_there() {
        assert!(CHECKS.iter().all(|c| tree::root().join(c.folder).join("Cargo.toml").is_file()));
    }
}
