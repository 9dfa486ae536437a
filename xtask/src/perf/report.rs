//! `cargo xtask perf report FILE`: JSON and page of a serial log of the perf suite, such as that of a real machine, or of
//! results that there are; and what every measurement ends with.

use super::budgets::Budgets;
use super::result::{self, Machine, Place, Results};
use super::several::Several;
use super::suite::{self, Suite};
use super::{page, revision::Revision};
use crate::tree;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `perf report`.
#[derive(clap::Args)]
pub struct Args {
    /// A serial log of the perf suite, or results (JSON); build/perf.json if not given.
    #[arg(default_value = "build/perf.json")]
    file: PathBuf,
    /// What a log is of: a name for the machine, or a platform whose promises are to be kept.
    #[arg(long, value_name = "NAME", default_value = "machine")]
    name: String,
    /// The commit that a log is of.
    #[arg(long, value_name = "COMMIT")]
    revision: Option<String>,
    /// Where the results go, with the endings .json and .html; beside the file if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a picture for the README (SVG) here, and nothing else.
    #[arg(long, value_name = "SVG", conflicts_with = "out")]
    picture: Option<PathBuf>,
    /// Print all rows, those without a limit too.
    #[arg(long)]
    all: bool,
}

/// Fails if a promise about it is broken.
pub fn main(args: &Args) -> Result<ExitCode> {
    let usual = Path::new(result::DEFAULT).with_extension("json");
    let file = if args.file == usual { tree::root().join(usual) } else { args.file.clone() };
    let text = String::from_utf8_lossy(&tree::read_bytes(&file)?).into_owned();
    let is_json = text.trim_start().starts_with('{');
    let read = if is_json { Results::parse(&text) } else { of_log(&text, args) };
    let mut results = read.with_context(|| format!("reading {}", tree::shown(&file)))?;
    if let Some(picture) = &args.picture {
        tree::write_if_changed(picture, page::picture(&results)?.as_bytes())?;
        println!("{}", picture.display());
        return Ok(ExitCode::SUCCESS);
    }
    results.budgets = Budgets::load()?.checks(&results);
    let place = Place::of(args.out.as_deref().unwrap_or(&file.with_extension("")));
    ensure!(is_json || place.json != file, "{}: the results would take the log's place", tree::shown(&file));
    result::save(&results, &place)?;
    finish(&results, &place, args.all)
}

/// A log of the suite, or of several guests.
fn of_log(text: &str, args: &Args) -> Result<Results> {
    let suite = Suite::parse(&args.name, text)?;
    if let Some(several) = Several::parse(text)? {
        let mut results = Results::begin(&format!("cargo xtask perf report {}", args.file.display()));
        results.revision = revision(args);
        results.named(&args.name, Machine::default).several.push(several);
        results.complete = true;
        return Ok(results);
    }
    ensure!(!suite.rows.is_empty(), "no line of the perf suite is in this log, such as `perf: NAME min ...`");
    let mut results = Results::begin(&format!("cargo xtask perf report {}", args.file.display()));
    results.revision = revision(args);
    let ended = text.lines().any(|l| l.trim_end().ends_with("perf: done"));
    if !ended {
        results.failed.push("the log ends before the suite does".into());
    }
    results.failed.extend(suite.stopped.iter().map(|why| format!("the suite stopped: {why}")));
    results.complete = results.failed.is_empty();
    let cpus = suite.machine.iter().find(|(k, _)| k == "cpus").and_then(|(_, n)| n.parse().ok());
    results.named(&args.name, || Machine { cpus, ..Machine::default() }).suite = Some(suite);
    Ok(results)
}

fn revision(args: &Args) -> Option<Revision> {
    let commit = |c: &String| Revision { commit: c.clone(), subject: "of a log".into(), dirty: false };
    args.revision.as_ref().map(commit)
}

/// Writes the page and tells people: the exit code says whether all was measured and all promises are kept.
pub fn finish(results: &Results, place: &Place, all: bool) -> Result<ExitCode> {
    std::fs::write(&place.html, page::render(results)?).with_context(|| format!("writing {}", place.html.display()))?;
    print!("{}", terminal(results, all));
    println!("{}, {}", tree::shown(&place.json), tree::shown(&place.html));
    let well = results.complete && results.budgets.iter().all(|c| c.kept);
    Ok(ExitCode::from(u8::from(!well)))
}

/// The figures for people. There are many rows: those that have a limit on some platform, and limits if they are broken.
fn terminal(r: &Results, all: bool) -> String {
    let suites: Vec<_> = r.runs.iter().filter_map(|run| run.suite.as_ref()).collect();
    let limited = |row: &str| r.budgets.iter().any(|c| c.platform.is_some() && c.what == row);
    let wanted = |row: &str| all || limited(row) || !r.budgets.iter().any(|c| c.platform.is_some());
    let mut text = if suites.is_empty() { String::new() } else { suite::table(&suites, wanted) };
    for run in &r.runs {
        for b in &run.boots {
            text += &format!("guest kernel entry to shell ({}): {} ticks, ", b.name, b.guest_ticks);
            text += &format!("{} on the bare machine, ratio {:.3}, ", b.native_ticks, b.ratio());
            text += &format!("{} exits\n", b.exits_at_prompt);
        }
        for l in &run.loads {
            text += &format!(
                "guest's load ({}): {} ticks, {} on the bare machine, ",
                l.name, l.guest_ticks, l.native_ticks
            );
            text += &format!("ratio {:.3}, {} exits\n", l.ratio(), l.exits_at_prompt);
        }
    }
    for run in &r.runs {
        let one = run.several.iter().find(|s| s.guests == 1);
        text.extend(run.several.iter().map(|s| format!("{}: {}\n", run.platform, s.show(one))));
    }
    if let Some(p) = &r.prompt {
        text += &format!("guest to its prompt on qemu: {:.1} s of CPU time, ", p.ours_s);
        text += &format!("{:.1} s on the bare machine\n", p.native_s);
    }
    text.extend(r.budgets.iter().filter(|c| c.platform.is_none() || !c.kept).map(|c| c.show() + "\n"));
    let rows: Vec<_> = r.budgets.iter().filter(|c| c.platform.is_some()).collect();
    let kept = rows.iter().filter(|c| c.kept).count();
    if !rows.is_empty() {
        text += &format!("{kept} of {} limits of rows are kept\n", rows.len());
    }
    text.extend(r.failed.iter().map(|what| format!("NOT MEASURED: {what}\n")));
    if !r.complete && r.failed.is_empty() {
        text += "NOT COMPLETE: the command was interrupted\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[perf] perf: machine cpu: Some CPU\r\n[perf] perf: machine cpus: 4\r\n\
        [perf] perf: null_hypercall min 90 median 95 p99 99 max 400 of 1024 ticks\r\n\
        [perf] perf: exit_cpuid_rip missing: the machine runs no guests\r\n";

    fn args(name: &str) -> Args {
        Args {
            file: "x.log".into(),
            name: name.into(),
            revision: Some("abc".into()),
            out: None,
            picture: None,
            all: false,
        }
    }

    #[test]
    fn a_log_of_a_machine_becomes_results_and_one_cut_off_says_so() {
        let r = of_log(LOG, &args("desk")).unwrap();
        assert!(!r.complete && r.failed[0].contains("before the suite"), "{:?}", r.failed);
        let r = of_log(&format!("{LOG}[perf] perf: done\r\n"), &args("desk")).unwrap();
        assert!(r.complete && r.revision.as_ref().unwrap().commit == "abc");
        let run = &r.runs[0];
        assert_eq!((run.platform.as_str(), run.machine.cpus, run.machine.counted), ("desk", Some(4), false));
        let guest = "[vm1] marker 0x57 at TSC 10, since entry 9, exits 5\n[vm1] marker 0x45 at TSC 30, since entry 9, exits 9\n\
            [vm1] memory: 8 KiB beside the guest's RAM and the image; of the kernel 4 of 12 KiB\n";
        let r = of_log(guest, &args("desk")).unwrap();
        assert!(r.complete && terminal(&r, false).contains("desk: 1 guest at once: 20 ticks each (1.000), 4 exits"));
        assert!(of_log("Linux version 6.1", &args("desk")).unwrap_err().to_string().contains("no line"));
    }

    #[test]
    fn people_see_rows_what_is_missing_and_what_is_broken() {
        let mut r = of_log(LOG, &args("bochs")).unwrap();
        r.budgets = Budgets::load().unwrap().checks(&r);
        let text = terminal(&r, false);
        for part in ["null_hypercall", "missing (the machine", "BROKEN", "NOT MEASURED: the log ends"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains(&format!("0 of {} limits", r.budgets.len())), "{text}");
    }
}
