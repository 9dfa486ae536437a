//! `cargo xtask perf`: what `perf/budgets.toml` promises, measured (`perf/README.md` says how).
//!
//! Measured by [`suite`] (the kernel alone), [`guest`] and [`native`] (a guest under us and without us),
//! [`several`] (small guests at once), [`prompt`] (seconds to the prompt). Kept in [`result`], judged by [`budgets`], shown by [`page`] and [`plots`].
//! [`profile`] says what is behind a figure, instruction by instruction.

mod anchors;
mod budgets;
mod compare;
mod difference;
mod guest;
mod native;
mod page;
mod paths;
mod plots;
pub mod profile;
mod prompt;
mod report;
mod result;
mod revision;
mod several;
mod statistics;
mod suite;

use crate::build::Flavour;
use crate::emulator::{Debugger, Machine};
use crate::image;
use crate::platform::Platform;
use crate::progress::Step;
use crate::session::{self, Session};
use crate::system::System;
use crate::{packages, tree};
use anyhow::{Context, Result, ensure};
use guest::Guest;
use regex::bytes;
use result::{Keeper, Place, Results};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Arguments of `perf`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Measure only the guest on the bare machine.
    #[arg(long)]
    native: bool,
    /// Run only the perf suite.
    #[arg(long, conflicts_with = "native")]
    suite: bool,
    /// Run only small guests, one and more of them at once.
    #[arg(long, conflicts_with_all = ["native", "suite"])]
    several: bool,
    /// On this platform instead of bochs and qemu; may be given several times.
    #[arg(long, value_name = "PLATFORM")]
    on: Vec<String>,
    /// Words for the end of the kernel's command line, such as "no-pcid": docs/design/0017.
    #[arg(long, value_name = "WORDS", default_value = "")]
    kernel_cmdline: String,
    /// Where the results go, with the endings .json and .html.
    #[arg(long, value_name = "FILE", default_value = result::DEFAULT)]
    out: PathBuf,
    /// Print all rows of the suite, those without a limit too.
    #[arg(long)]
    all: bool,
    /// Make neither page nor table, and judge nothing: the tree may be of another revision than this program.
    #[arg(long, hide = true)]
    only_json: bool,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make JSON and page of a log of the perf suite, such as that of a real machine, or of results.
    Report(report::Args),
    /// Say what changed between two revisions, measured in turn, or between two files of results.
    Compare(compare::Args),
    /// Show every instruction of one warm operation of the suite: by kind, by stage, by function.
    Profile(profile::Args),
}

/// Longest run of an emulator.
const LIMIT: Duration = Duration::from_secs(1200);
/// The command line of the guest whose way to the prompt is timed: that of the system file.
const PROMPT_CMDLINE: &str = "console=ttyS0";
/// Where instructions are counted: VT-x and SVM.
const PLATFORMS: [&str; 2] = ["bochs", "qemu"];

/// Fails if a promise is broken, or something could not be measured.
pub fn main(args: &Args) -> Result<ExitCode> {
    match &args.verb {
        Some(Verb::Report(args)) => report::main(args),
        Some(Verb::Compare(args)) => compare::main(args),
        Some(Verb::Profile(args)) => profile::main(args),
        None => measure(args),
    }
}

/// Those of these names, with instructions counted where that can be, and more words for the kernel.
fn platforms(names: &[String], kernel_words: &str) -> Result<Vec<Platform>> {
    names.iter().map(|n| Ok(Platform::load(n)?.counted().with_kernel_words(kernel_words))).collect()
}

fn measure(args: &Args) -> Result<ExitCode> {
    let names = if args.on.is_empty() { PLATFORMS.map(String::from).to_vec() } else { args.on.clone() };
    let platforms = platforms(&names, &args.kernel_cmdline)?;
    let needs = platforms.iter().flat_map(Platform::needs).chain(packages::FOR_GDB);
    packages::ensure_installed(packages::FOR_IMAGES.iter().chain(needs))?;
    if args.native {
        return natives(&platforms);
    }
    // A mistake in the file is told before anything takes time.
    let budgets = if args.only_json { None } else { Some(budgets::Budgets::load()?) };
    let keeper = Keeper::new(Place::of(&args.out), Results::begin(&command_line(args)));
    if args.several {
        several(&platforms, &keeper);
    }
    for p in platforms.iter().filter(|_| !args.several) {
        // A debugger traces them: one CPU, and instructions that are counted.
        if !args.suite && p.is_counted() && p.cpus == 1 {
            keeper.attempt(&format!("{}: instructions of hot paths", p.name), || paths::measure(p, &keeper));
        }
        keeper.attempt(&format!("{}: perf suite", p.name), || suite::measure(p, &keeper));
    }
    if !args.suite && !args.several {
        guests(&platforms, &keeper)?;
        several(&platforms, &keeper);
    }
    let (results, place) = keeper.end(|r| budgets.as_ref().map_or(vec![], |b| b.checks(r)))?;
    if args.only_json {
        ensure!(results.complete, "{}", results.failed.join("; "));
        return Ok(ExitCode::SUCCESS);
    }
    report::finish(&results, &place, args.all)
}

/// Fails if a row of the suite in a serial log is above its limit for the platform, or is not there.
pub fn keeps_limits(platform: &str, log: &str) -> Result<()> {
    let suite = suite::Suite::parse(platform, log)?;
    suite.check()?;
    let checks = budgets::Budgets::load()?.suite(&suite);
    ensure!(!checks.is_empty(), "perf/budgets.toml has no limit for {platform}");
    let broken: Vec<_> = checks.iter().filter(|c| !c.kept).collect();
    let shown: Vec<_> =
        broken.iter().map(|c| format!("{}: {}, at most {}", c.name(), c.measured(), c.figure(c.most))).collect();
    ensure!(broken.is_empty(), "not as perf/budgets.toml promises:\n  {}", shown.join("\n  "));
    Ok(())
}

/// How the results were made.
fn command_line(args: &Args) -> String {
    let only = [(args.suite, " --suite"), (args.several, " --several")];
    let only: String = only.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
    let on: String = args.on.iter().map(|p| format!(" --on {p}")).collect();
    let words = &args.kernel_cmdline;
    let words = if words.is_empty() { String::new() } else { format!(" --kernel-cmdline {words:?}") };
    format!("cargo xtask perf{only}{on}{words}")
}

fn natives(platforms: &[Platform]) -> Result<ExitCode> {
    let text = System::load(guest::SYSTEM)?.text;
    for platform in platforms {
        for (name, cmdline) in guest::BOOTS {
            native::ticks(platform, &Guest::of(&text, cmdline)?, &format!("{}-{name}", platform.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What needs a guest.
fn guests(platforms: &[Platform], keeper: &Keeper) -> Result<()> {
    let text = System::load(guest::SYSTEM)?.text;
    for platform in platforms {
        let boot = |name: &str, cmdline: &str| {
            let (guest, name) = (Guest::of(&text, cmdline)?, format!("{}-{name}", platform.name));
            let native = native::ticks(platform, &guest, &name)?;
            guest::ours(platform, &guest, name, native)
        };
        let mut quiet = None;
        for (name, cmdline) in guest::BOOTS {
            keeper.attempt(&format!("{}: guest, {name}", platform.name), || {
                let (boot, sizes) = boot(name, cmdline)?;
                quiet = Some(boot.clone());
                keeper.change(|r| {
                    r.run(platform).boots.push(boot);
                    r.sizes = Some(sizes);
                })
            });
        }
        for load in guest::LOADS {
            keeper.attempt(&format!("{}: guest, load {load}", platform.name), || {
                let base = quiet.as_ref().context("there is no quiet boot to compare it with")?;
                let load = boot(load, &guest::loaded(load))?.0.beyond(base);
                keeper.change(|r| r.run(platform).loads.push(load))
            });
        }
    }
    keeper.attempt("time to the guest's prompt", || {
        let guest = Guest::of(&text, PROMPT_CMDLINE)?;
        let prompt = prompt::measure(&Platform::load("qemu")?, &guest, &guest::image(&guest, "")?)?;
        keeper.change(|r| r.prompt = Some(prompt))
    });
    Ok(())
}

/// Small guests, one and more at once.
fn several(platforms: &[Platform], keeper: &Keeper) {
    for platform in platforms {
        for n in several::NUMBERS {
            keeper.attempt(&format!("{}: {n} guests at once", platform.name), || {
                let several = several::measure(platform, n)?;
                keeper.change(|r| r.run(platform).several.push(several))
            });
        }
    }
}

fn start(p: &Platform, iso: &Path, dir: &Path, debugger: Debugger) -> Result<Session> {
    start_copied(p, iso, dir, debugger, std::io::sink())
}

fn start_copied(
    p: &Platform,
    iso: &Path,
    dir: &Path,
    debugger: Debugger,
    copy: impl Write + Send + 'static,
) -> Result<Session> {
    let port = session::free_port()?;
    let machine = Machine { platform: p.clone(), iso: iso.into(), dir: dir.into(), port, debugger };
    Session::start(machine, copy)
}

/// Boots a system that measures from inside, until it prints `NAME: done`: the step that is still to be told done, and what
/// it printed, which goes to `copy` as it comes.
fn printed(
    platform: &Platform,
    system: &System,
    name: &str,
    what: &str,
    copy: impl Write + Send + 'static,
) -> Result<(Step, String)> {
    let image = image::make(system, name, &platform.kernel_cmdline, Flavour::Release)?;
    let step = Step::begin(format!("{what} ({})", platform.name));
    let dir = tree::build_dir(format!("perf/{}-{name}", platform.name))?;
    let mut session = start_copied(platform, &image.iso, &dir, Debugger::Off, copy)?;
    let found = session.expect(&bytes::Regex::new(&format!("{name}: done"))?, Instant::now() + LIMIT);
    found.with_context(|| format!("see {}", tree::shown(&session.log)))?;
    Ok((step, session.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_above_its_limit_or_without_a_figure_fails_the_test() {
        let log = |median| format!("perf: call_reply_other_pd_1w min 1 median {median} p99 9 max 9 of 9 ticks\n");
        let error = |platform, text: &str| keeps_limits(platform, text).unwrap_err().to_string();
        let e = error("bochs", &log(100_000));
        assert!(e.contains("call_reply_other_pd_1w") && e.contains("100000") && e.contains("at most"), "{e}");
        let e = error("bochs", &log(1));
        assert!(!e.contains("call_reply_other_pd_1w") && e.contains("not measured"), "{e}");
        assert!(error("abacus", &log(1)).contains("no limit for abacus"));
        assert!(error("bochs", "perf: done").contains("no row"));
    }
}
