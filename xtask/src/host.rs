//! The host tests: rustfmt, clippy and the unit tests of everything, by cargo; the pages of the interface, the
//! kernel's size.
//!
//! Key types: [`Check`].

use crate::{exec, size, spec, tree};
use anyhow::{Context, Result};
use std::process::{Command, Stdio};
use std::time::Instant;

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

/// Runs all of them, and says for each what came of it. Whether none failed.
pub fn run() -> Result<bool> {
    let mut lines = Vec::new();
    let mut passed = true;
    for c in CHECKS {
        let began = Instant::now();
        let result = c.run()?;
        passed &= !matches!(result, Outcome::Failed);
        lines.push(format!("test host::{:<18} ... {} ({:.0} s)", c.name, result.text(), began.elapsed().as_secs_f32()));
    }
    for (name, (found, faults)) in [("spec", spec::check()?), ("size", size::check()?)] {
        println!("\n{found}");
        faults.iter().for_each(|f| eprintln!("{f}"));
        passed &= faults.is_empty();
        let outcome = if faults.is_empty() { Outcome::Passed } else { Outcome::Failed };
        lines.push(format!("test host::{name:<18} ... {}", outcome.text()));
    }
    println!("\n{}", lines.join("\n"));
    Ok(passed)
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    NotHere(&'static str),
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Outcome::Passed => "ok".into(),
            Outcome::Failed => "FAILED".into(),
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
        let status = cargo(self.args).current_dir(tree::root().join(self.folder)).status();
        let status = status.with_context(|| format!("starting cargo {tool}"))?;
        Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
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
        assert_eq!(quiet(&["locate-project", "--quiet", "--manifest-path=/no/such/Cargo.toml"]), Outcome::Failed);
    }

    #[test]
    fn the_folders_are_there() {
        assert!(CHECKS.iter().all(|c| tree::root().join(c.folder).join("Cargo.toml").is_file()));
    }
}
