//! Running other programs: output captured, and shown when they fail.

use crate::progress::Step;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Lines of a failed program's error output that are shown.
const SHOWN_LINES: usize = 60;

/// A command without input.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut c = Command::new(program);
    c.stdin(Stdio::null());
    c
}

/// Runs it to its end; its standard output, or an error with command line and error output. Each line of error
/// output becomes the step's note.
pub fn run(cmd: &mut Command, step: &Step) -> Result<String> {
    let shown = format!("{cmd:?}");
    let mut child =
        cmd.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("starting {shown}"))?;
    let mut stdout = child.stdout.take().context("no output pipe")?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let mut errors = Vec::new();
    for line in BufReader::new(child.stderr.take().context("no error pipe")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        step.note(&line);
        errors.push(line);
    }
    let status = child.wait()?;
    let text = String::from_utf8_lossy(&reader.join().expect("reader does not panic")?).into_owned();
    if !status.success() {
        let errors = errors[errors.len().saturating_sub(SHOWN_LINES)..].join("\n");
        let out = if errors.trim().is_empty() { &text } else { &errors };
        bail!("{shown} failed ({status}):\n{out}");
    }
    Ok(text)
}

/// Standard output of a quick query that is shown nowhere.
pub fn query(cmd: &mut Command) -> Result<String> {
    let shown = format!("{cmd:?}");
    let out = cmd.output().with_context(|| format!("starting {shown}"))?;
    if !out.status.success() {
        bail!("{shown} failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The program's place on the search path.
pub fn find(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").into(), Path::new("/sbin").into()])
        .any(|d| d.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_failure_shows_the_error_output() {
        assert_eq!(run(command("sh").args(["-c", "echo yes; echo no >&2"]), &Step::begin("t")).unwrap(), "yes\n");
        let e = run(command("sh").args(["-c", "echo why >&2; exit 3"]), &Step::begin("t")).unwrap_err().to_string();
        assert!(e.contains("why") && e.contains("exit status: 3") && e.contains("sh"), "{e}");
        let e = run(&mut command("/no/such/program"), &Step::begin("t")).unwrap_err().to_string();
        assert!(e.contains("/no/such/program"), "{e}");
    }

    #[test]
    fn programs_are_looked_for_on_the_search_path() {
        assert!(find("sh"));
        assert!(!find("no-such-program-here"));
    }
}
