//! Tests of the commands themselves, run beside the tests in emulators.

use crate::perf::profile;
use crate::platform::{self, Platform};
use crate::scenario::{self, Scenario};
use crate::{exec, matrix, tree};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// A test's function.
pub type Test = fn() -> Result<()>;

/// Name, what it shows, and the test.
pub const TESTS: [(&str, &str, Test); 4] = [
    ("no-silent-skip", "each test runs with each emulator or says why not", every_skip_has_a_reason),
    ("counts@bochs", "hot paths have no more instructions of a kind than promised: VT-x", || profile::test("bochs")),
    ("counts@qemu", "hot paths have no more instructions of a kind than promised: SVM", || profile::test("qemu")),
    ("killed-run", "a run that is killed takes its emulator along and leaves no files", a_killed_run_leaves_nothing),
];

/// Until the machine runs: it may have to be built.
const BOOT: Duration = Duration::from_secs(600);
/// Until it is gone.
const END: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

fn every_skip_has_a_reason() -> Result<()> {
    no_silent_skip(&scenario::all()?, &platform::all()?)
}

fn no_silent_skip(all: &[Scenario], platforms: &[Platform]) -> Result<()> {
    let faults = matrix::unexplained(all, platforms);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// SIGTERM, as closing the terminal window (SIGHUP) and Ctrl-C go the same way.
fn a_killed_run_leaves_nothing() -> Result<()> {
    let mut run = exec::command(std::env::current_exe()?);
    run.args(["run", "hello", "--on", "qemu"]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut run = Reaped(run.spawn().context("starting a run")?);
    let pid = i32::try_from(run.0.id()).ok().and_then(Pid::from_raw).context("the run has no process number")?;
    let dir = tree::build("run").join(run.0.id().to_string());
    let log = dir.join("machine/serial.log");
    let mut ended = None;
    let boots = || std::fs::read(&log).is_ok_and(|l| !l.is_empty());
    until(BOOT, || {
        ended = run.0.try_wait().ok().flatten();
        ended.is_some() || boots()
    })
    .context("the machine did not start")?;
    ensure!(ended.is_none(), "the run ended before it was killed: {ended:?}");
    let emulators = processes_in(&dir);
    ensure!(!emulators.is_empty(), "no process works in {}", tree::shown(&dir));
    kill_process(pid, Signal::TERM)?;
    until(END, || run.0.try_wait().is_ok_and(|s| s.is_some())).context("the run did not end on SIGTERM")?;
    until(END, || !emulators.iter().any(|e| processes_in(&dir).contains(e))).context("its emulator lives on")?;
    ensure!(!dir.exists(), "it left {}", tree::shown(&dir));
    Ok(())
}

/// Killed at the latest when the test ends.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !done() {
        ensure!(Instant::now() < end, "not within {} s", limit.as_secs());
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Those whose working directory is below `dir`, even if that has been removed.
fn processes_in(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|e| e.path());
    all.filter(|p| std::fs::read_link(p.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_bounded() {
        let mut calls = 0;
        until(Duration::from_secs(60), || {
            calls += 1;
            calls == 2
        })
        .unwrap();
        assert!(until(Duration::ZERO, || false).unwrap_err().to_string().contains("within 0 s"));
    }

    #[test]
    fn processes_are_found_by_their_directory() {
        let own = std::env::current_dir().unwrap();
        let pid = std::process::id().to_string();
        assert!(processes_in(&own).iter().any(|p| p.ends_with(&pid)));
        assert!(processes_in(Path::new("/no/such/directory")).is_empty());
    }
}
