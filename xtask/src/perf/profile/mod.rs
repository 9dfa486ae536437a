//! `cargo xtask perf profile`: every instruction of one warm operation of the perf suite, user mode, kernel and guest, by
//! kind, by stage and by function.
//!
//! The suite runs as it is, and calls `perf_mark` before and after one sample of a row, `perf_row` with the row's name. An
//! emulator's debugger stops it there ([`step::Stepper`]: [`bochs`], [`qemu`]) and tells what is executed in between.
//! [`symbols`] knows where that is, [`record`] makes a [`Profile`] of it, [`limits`] judges it.

mod bochs;
mod kinds;
mod limits;
mod qemu;
mod record;
mod stack;
mod stages;
mod step;
mod symbols;
mod view;

use super::{LIMIT, PLATFORMS, start};
use crate::build::Flavour;
use crate::emulator::Debugger;
use crate::platform::{Emulator, Platform};
use crate::progress::Step as Progress;
use crate::session::{self, Session};
use crate::system::System;
use crate::{image, packages, tree};
use anyhow::{Context, Result, bail, ensure};
use limits::Limits;
use record::Profile;
use regex::{Regex, bytes};
use stages::Rules;
use std::process::ExitCode;
use std::time::Instant;
use step::{Mode, Step, Stepper};
use symbols::Symbols;

/// Arguments of `perf profile`.
#[derive(clap::Args)]
pub struct Args {
    /// Rows of the perf suite. Without any: those that perf/budgets.toml limits.
    rows: Vec<String>,
    /// On this platform instead of bochs and qemu; may be given several times.
    #[arg(long, value_name = "PLATFORM")]
    on: Vec<String>,
    /// Words for the end of the kernel's command line, such as "no-pcid": docs/design/0017.
    #[arg(long, value_name = "WORDS", default_value = "")]
    kernel_cmdline: String,
    /// Nothing but whether the promises are kept.
    #[arg(long)]
    check: bool,
}

/// The system that runs the suite, and its component.
const SYSTEM: &str = "perf";
const COMPONENT: &str = "perf-suite";
/// Rounds before one is warm.
const WARM: u32 = 80;
/// So many rounds are traced. In one of them a time slice may end, which the suite's median does not count.
const ROUNDS: u32 = 3;
/// An operation of more instructions is none to look at one by one.
const MOST: usize = 20_000;

/// Fails if a promise is broken, or if what was traced is not what the suite measured.
pub fn main(args: &Args) -> Result<ExitCode> {
    let names = if args.on.is_empty() { PLATFORMS.map(String::from).to_vec() } else { args.on.clone() };
    let platforms = super::platforms(&names, &args.kernel_cmdline)?;
    if let Some(p) = platforms.iter().find(|p| !p.is_counted() || p.cpus > 1) {
        bail!("{}: it takes an emulator that counts instructions, with one CPU", p.name);
    }
    packages::ensure_installed(packages::FOR_IMAGES.iter().chain(platforms.iter().flat_map(Platform::needs)))?;
    let mut kept = true;
    for platform in &platforms {
        let (text, fine) = run(platform, &args.rows, args.check)?;
        print!("{text}");
        kept &= fine;
    }
    Ok(ExitCode::from(u8::from(!kept)))
}

/// The check alone, as a test: the rows that have limits.
pub fn test(platform: &str) -> Result<()> {
    let platform = Platform::load(platform)?.counted();
    let (text, kept) = run(&platform, &[], true)?;
    ensure!(kept, "{text}");
    Ok(())
}

/// What there is to say, and whether all is well.
fn run(platform: &Platform, rows: &[String], check: bool) -> Result<(String, bool)> {
    let limits = Limits::load(&platform.name)?;
    let rows = if rows.is_empty() { limits.rows() } else { rows.to_vec() };
    let taken = profiles(platform, &rows)?;
    let (mut text, mut faults) = (String::new(), Vec::new());
    for (profile, median) in &taken {
        let dir = profile.write()?;
        if !check && !profile.steps.is_empty() {
            text += &profile.show(*median);
            text += &format!("  more: {}/{}.json .txt .trace.json .svg\n", tree::shown(&dir), profile.row);
        }
        faults.extend(limits.broken(profile));
        faults.extend(differs(platform.emulator, profile, *median).map(|w| format!("{}: {w}", platform.name)));
    }
    let absent = rows.iter().filter(|r| !taken.iter().any(|(p, _)| p.row == **r));
    faults.extend(absent.map(|r| format!("{}: {r}: the suite has no such row there", platform.name)));
    text.extend(faults.iter().map(|f| format!("BROKEN: {f}\n")));
    Ok((text, faults.is_empty()))
}

/// What is wrong if the trace is not of what the suite measured.
fn differs(emulator: Emulator, profile: &Profile, median: Option<u64>) -> Option<String> {
    let (row, ticks) = (&profile.row, ticks(emulator, &profile.steps));
    match median {
        _ if ticks == 0 => {
            Some(format!("{row}: no sample of it is marked, or all are of more than {MOST} instructions"))
        }
        Some(m) if m == ticks => None,
        Some(m) => Some(format!("{row}: traced {ticks}, but the suite measured {m}")),
        None => Some(format!("{row}: traced {ticks}, but the suite printed no figure")),
    }
}

/// Boots the suite and traces the rows; with the medians that it printed.
fn profiles(platform: &Platform, rows: &[String]) -> Result<Vec<(Profile, Option<u64>)>> {
    let rules = Rules::load()?;
    let image = image::make(&System::load(SYSTEM)?, SYSTEM, &platform.kernel_cmdline, Flavour::Release)?;
    let suite = image.components.iter().find(|(n, _)| n == COMPONENT).context("the suite was not built")?;
    let symbols = Symbols::load(&image.kernel.linked, &suite.1.linked)?;
    let functions = symbols.kernel_functions();
    let unknown = rules.without_function(&functions);
    ensure!(unknown.is_empty(), "perf/stages.toml: the kernel has no function {}", unknown.join(", "));
    let step = Progress::begin(format!("tracing the perf suite ({})", platform.name));
    let dir = tree::build_dir(format!("profile/{}-machine", platform.name))?;
    let port = session::free_port()?;
    let debugger = match platform.emulator {
        Emulator::Bochs => Debugger::Prompt,
        Emulator::Qemu => Debugger::Gdb(port),
    };
    let mut session = start(&traced(platform), &image.iso, &dir, debugger)?;
    let mut stepper: Box<dyn Stepper> = match platform.emulator {
        Emulator::Bochs => Box::new(bochs::Bochs::new(&mut session)?),
        Emulator::Qemu => Box::new(qemu::Qemu::new(port, &symbols, dir.join(qemu::LOG))?),
    };
    let operations = capture(&mut *stepper, &Marks::of(&symbols)?, rows).with_context(|| tree::shown(&session.log))?;
    if operations.len() == rows.len() {
        stepper.leave()?;
    }
    let result = operations.into_iter().map(|(row, tries)| {
        let median = median(&mut session, &row);
        (Profile::new(row, &platform.name, warm(platform.emulator, &tries, median), &symbols, &rules), median)
    });
    let result: Vec<_> = result.collect();
    step.done(&format!("{} rows", result.len()));
    Ok(result)
}

/// With a place for QEMU's log; and without `sleep=off`, which lets its clock jump to the next timer whenever no CPU runs: a
/// debugger's stop is such a moment.
fn traced(platform: &Platform) -> Platform {
    if platform.emulator != Emulator::Qemu {
        return platform.clone();
    }
    let args = platform.args.iter().map(|a| a.replace(",sleep=off", ""));
    Platform { args: args.chain(["-D".into(), qemu::LOG.into()]).collect(), ..platform.clone() }
}

/// How much the clock goes on while these are executed. QEMU does not count what a guest begins and its hypervisor takes
/// over.
fn ticks(emulator: Emulator, steps: &[Step]) -> u64 {
    let exits = steps.windows(2).filter(|w| w[0].mode == Mode::Guest && w[1].mode == Mode::Kernel).count();
    let uncounted = if emulator == Emulator::Qemu { exits } else { 0 };
    (steps.len() - uncounted) as u64
}

/// Of several, that which is as long as most are.
fn warm(emulator: Emulator, tries: &[Vec<Step>], median: Option<u64>) -> &[Step] {
    let usual = tries.iter().find(|t| Some(ticks(emulator, record::operation(t))) == median);
    usual.or(tries.first()).map_or(&[], |t| t)
}

/// What the suite says about a row, soon or already.
fn median(session: &mut Session, row: &str) -> Option<u64> {
    let line = format!(r"perf: {row} min \d+ median (\d+) ");
    session.expect(&bytes::Regex::new(&line).ok()?, Instant::now() + LIMIT).ok()?;
    Regex::new(&line).ok()?.captures(&session.text())?[1].parse().ok()
}

/// Where the suite is stopped.
struct Marks {
    /// Before and after a sample.
    sample: u64,
    /// At the beginning of each round of code that takes samples in a loop.
    rounds: Vec<u64>,
    /// Behind a row, whose name is in registers.
    row: u64,
}

impl Marks {
    fn of(symbols: &Symbols) -> Result<Marks> {
        let rounds = [vec![symbols.user("bare_exit")?], symbols.users("bare_note.")].concat();
        Ok(Marks { sample: symbols.user("perf_mark")?, rounds, row: symbols.user("perf_row")? })
    }

    fn all(&self) -> Vec<u64> {
        [&[self.sample, self.row], &*self.rounds].concat()
    }
}

/// A row, and what was executed, several times.
type Traced = (String, Vec<Vec<Step>>);

/// Traces these rows, until it has all of them or the machine has ended. The name of a row comes behind it.
fn capture(machine: &mut dyn Stepper, marks: &Marks, rows: &[String]) -> Result<Vec<Traced>> {
    let (mut taken, mut tries, mut rounds) = (Vec::new(), Vec::new(), 0);
    machine.stop_at(&marks.all())?;
    let mut at = machine.go()?;
    while let Some(here) = at.filter(|_| taken.len() < rows.len()) {
        let in_loop = marks.rounds.contains(&here);
        rounds += u32::from(in_loop);
        if here == marks.row {
            if let Some(name) = machine.text()? {
                let tries = std::mem::take(&mut tries);
                if rows.contains(&name) {
                    taken.push((name, tries));
                }
                rounds = 0;
                machine.stop_at(&marks.all())?;
            }
            at = machine.go()?;
        } else if in_loop && rounds > WARM + ROUNDS {
            machine.stop_at(&[marks.sample, marks.row])?;
            at = machine.go()?;
        } else if in_loop && rounds <= WARM {
            at = machine.go()?;
        } else {
            let trace = machine.trace(MOST)?;
            // The way to the row's end is no sample.
            tries.extend(trace.steps.filter(|_| trace.end == Some(here)));
            at = trace.end;
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    use step::Trace;

    fn marks() -> Marks {
        Marks { sample: 1, rounds: vec![2], row: 3 }
    }

    /// Stops in order; a trace ends at the next one.
    struct Script {
        stops: Vec<(u64, &'static str)>,
        on: Vec<u64>,
        now: &'static str,
    }

    impl Stepper for Script {
        fn stop_at(&mut self, addresses: &[u64]) -> Result<()> {
            self.on = addresses.to_vec();
            Ok(())
        }
        fn go(&mut self) -> Result<Option<u64>> {
            while !self.stops.is_empty() {
                let (at, name) = self.stops.remove(0);
                self.now = name;
                if self.on.contains(&at) {
                    return Ok(Some(at));
                }
            }
            Ok(None)
        }
        fn trace(&mut self, most: usize) -> Result<Trace> {
            let left = self.stops.len();
            let end = self.go()?;
            let steps = vec![Step { at: left as u64, mode: Mode::User, code: vec![] }];
            Ok(Trace { steps: (left < most).then_some(steps), end })
        }
        fn text(&mut self) -> Result<Option<String>> {
            Ok(step::name(self.now.into()))
        }
        fn leave(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn captured(stops: Vec<(u64, &'static str)>, rows: &[&str]) -> Result<Vec<(String, usize, u64)>> {
        let mut machine = Script { stops, on: vec![], now: "" };
        let rows: Vec<_> = rows.iter().map(|r| r.to_string()).collect();
        let all = capture(&mut machine, &marks(), &rows)?;
        let first = |tries: &[Vec<Step>]| tries.first().map_or(0, |t| t[0].at);
        Ok(all.into_iter().map(|(row, tries)| (row, tries.len(), first(&tries))).collect())
    }

    #[test]
    fn a_trace_gets_the_name_that_comes_behind_it() {
        let calls = vec![(1, ""), (1, ""), (3, "a"), (3, "b"), (1, ""), (1, ""), (1, ""), (3, "of another"), (3, "c")];
        assert_eq!(captured(calls.clone(), &["c"]).unwrap(), [("c".to_string(), 2, 4)]);
        assert_eq!(captured(calls.clone(), &["c", "a"]).unwrap().len(), 2);
        assert_eq!(captured(calls.clone(), &["b"]).unwrap(), [("b".to_string(), 0, 0)]);
        assert!(captured(calls, &["d"]).unwrap().is_empty());
    }

    #[test]
    fn the_usual_one_is_taken() {
        let steps = |n| vec![Step { at: 0, mode: Mode::Kernel, code: vec![] }; n];
        let tries = [steps(7), steps(3)];
        assert_eq!(warm(Emulator::Bochs, &tries, Some(3)).len(), 3);
        assert_eq!(warm(Emulator::Bochs, &tries, None).len(), 7);
        assert!(warm(Emulator::Bochs, &[], Some(1)).is_empty());
    }

    #[test]
    fn qemu_does_not_count_what_exits() {
        let steps =
            [Mode::Kernel, Mode::Guest, Mode::Guest, Mode::Kernel].map(|mode| Step { at: 0, mode, code: vec![] });
        assert_eq!([ticks(Emulator::Bochs, &steps), ticks(Emulator::Qemu, &steps)], [4, 3]);
        assert_eq!(ticks(Emulator::Qemu, &[]), 0);
    }

    #[test]
    fn a_loop_is_traced_when_it_is_warm() {
        let mut stops = vec![(2, ""); 100];
        stops.push((3, "exit"));
        let first = 100 - u64::from(WARM);
        assert_eq!(captured(stops, &["exit"]).unwrap(), [("exit".to_string(), ROUNDS as usize, first)]);
    }
}
