//! `cargo xtask run`: builds a system, boots it, and connects the terminal to its console.

use crate::build::Flavour;
use crate::debug::{self, Symbols};
use crate::emulator::{Debugger, End, Machine};
use crate::image::{self, Image};
use crate::platform::{self, Emulator, Platform};
use crate::progress::Step;
use crate::session::{self, Session};
use crate::{guest, packages, terminal, tree};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest run without a terminal: nobody is there to end it.
const UNATTENDED: Duration = Duration::from_secs(900);
/// Exit code after the time limit, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// The platform for gdb if none is asked for.
const DEBUGGED: &str = "qemu";

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Args {
    /// A file of configs/systems, without its ending.
    #[arg(default_value = "linux")]
    system: String,
    /// A file of configs/guests, without its ending, in place of the system's guest.
    #[arg(long, value_name = "NAME")]
    guest: Option<String>,
    /// A file of configs/platforms, without its ending; the best one present if not given.
    #[arg(long)]
    on: Option<String>,
    /// Words for the end of the kernel's command line, such as "no-pcid": docs/design/0017.
    #[arg(long, value_name = "WORDS", default_value = "")]
    kernel_cmdline: String,
    /// Emulated processors, if not what the platform file says.
    #[arg(long, visible_alias = "smp", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=128))]
    cpus: Option<u32>,
    /// Build with debug information, stop before the first instruction, and run gdb here.
    #[arg(long)]
    debug: bool,
    /// The same, but gdb is run by you, in another terminal: its command line is printed.
    #[arg(long)]
    gdb: bool,
    /// Leave the emulator's files in build/run.
    #[arg(long)]
    keep: bool,
    /// End the machine after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Write all serial output to this file, too.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Exit code 0 if the machine was switched off or the user left it, 124 on timeout, 1 otherwise.
pub fn main(args: &Args) -> Result<ExitCode> {
    let debug = args.debug || args.gdb;
    // Only QEMU has a stub for gdb.
    let platform = platform::choose(args.on.as_deref().or(debug.then_some(DEBUGGED)))?;
    let platform = Platform { cpus: args.cpus.unwrap_or(platform.cpus), ..platform };
    let platform = platform.with_kernel_words(&args.kernel_cmdline);
    ensure!(
        !debug || platform.emulator == Emulator::Qemu,
        "{} has no stub for gdb, but Bochs has a debugger of its own: see docs/guide/debug.md",
        platform.name
    );
    let gdb = if args.debug { packages::FOR_GDB } else { &[] };
    packages::ensure_installed(packages::FOR_IMAGES.iter().chain(platform.needs()).chain(gdb))?;
    let flavour = if debug { Flavour::Debug } else { Flavour::Release };
    let system = guest::system(&args.system, args.guest.as_deref())?;
    let image = image::make(&system, &label(args, debug), &platform.kernel_cmdline, flavour)?;
    let kept = format!("run/kept-{}", std::process::id());
    let dir = if args.keep { tree::build_dir(kept)? } else { tree::run_dir("machine")? };
    let result = boot(args, platform, image, dir.clone());
    if args.keep {
        eprintln!("  the emulator's files are in {}", tree::shown(&dir));
    }
    tree::remove_run_dirs();
    result
}

/// Name for the image's file.
fn label(args: &Args, debug: bool) -> String {
    let parts = [Some(args.system.as_str()), args.guest.as_deref(), debug.then_some("debug")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

fn boot(args: &Args, platform: Platform, image: Image, dir: PathBuf) -> Result<ExitCode> {
    let port = session::free_port()?;
    let script = if args.debug || args.gdb { Some(Script::write(&image, &dir)?) } else { None };
    let debugger = script.as_ref().map_or(Debugger::Off, |s| Debugger::Gdb(s.port));
    let booting = script.is_none().then(|| Step::begin(format!("booting on {}", platform.name)));
    let machine = Machine { platform, iso: image.iso, dir, port, debugger };
    if let Some(s) = script.as_ref().filter(|_| args.debug) {
        return in_gdb(machine, &s.path);
    }
    if let Some(s) = &script {
        eprintln!(
            "  the machine waits before its first instruction for gdb, in another terminal:\n    {}",
            debug::command_line(&s.path)
        );
    }
    let mut copies: Vec<Box<dyn Write + Send>> = vec![Box::new(std::io::stdout())];
    if let Some(path) = &args.log {
        copies.push(Box::new(File::create(path).with_context(|| format!("creating {}", path.display()))?));
    }
    let mut session = Session::start(machine, Console { copies, booting })?;
    let quit = connect_terminal(&session)?;
    let end = wait(&mut session, limit(args), &quit);
    session.kill();
    terminal::restore();
    let code = report(end?, quit.load(Ordering::Relaxed));
    Ok(if code == 0 { system_code(&session.text()) } else { code }.into())
}

/// gdb's script.
struct Script {
    path: PathBuf,
    port: u16,
}

impl Script {
    fn write(image: &Image, dir: &Path) -> Result<Script> {
        let port = session::free_port()?;
        let names = image.components.iter().map(|(name, _)| name.clone());
        let path = Symbols::of(&image.kernel, &image.root_task, names).write_script(dir, port)?;
        Ok(Script { path, port })
    }
}

/// gdb has the terminal; the console is a file.
fn in_gdb(machine: Machine, script: &Path) -> Result<ExitCode> {
    let mut session = Session::start(machine, std::io::sink())?;
    eprintln!("  the console's output goes to {}", tree::shown(&session.log));
    session::leave_interrupts_to_gdb();
    let result = debug::interactive(script);
    session.kill();
    result.map(|()| ExitCode::SUCCESS)
}

/// 1 if the root task said that the system ended with a failure: an emulator that is switched off tells nothing.
fn system_code(serial: &str) -> u8 {
    let code = serial.rsplit_once("[core] system off, exit code ").map(|(_, rest)| rest);
    code.is_some_and(|c| !c.starts_with("0\r") && !c.starts_with("0\n")).into()
}

fn limit(args: &Args) -> Option<Instant> {
    let default = (!std::io::stdin().is_terminal()).then_some(UNATTENDED);
    args.timeout.map(Duration::from_secs).or(default).map(|d| Instant::now() + d)
}

/// The flag is set when the user wants to leave.
fn connect_terminal(session: &Session) -> Result<Arc<AtomicBool>> {
    if std::io::stdin().is_terminal() {
        eprintln!("  (Ctrl-A X leaves, Ctrl-A ? lists other keys)");
    }
    terminal::make_raw();
    let (keyboard, quit) = (session.keyboard()?, Arc::new(AtomicBool::new(false)));
    let flag = quit.clone();
    std::thread::spawn(move || terminal::pump(keyboard, || flag.store(true, Ordering::Relaxed)));
    Ok(quit)
}

fn wait(session: &mut Session, limit: Option<Instant>, quit: &AtomicBool) -> Result<Option<End>> {
    loop {
        let soon = Instant::now() + Duration::from_millis(100);
        if let Some(end) = session.wait(Some(limit.map_or(soon, |l| l.min(soon))))? {
            return Ok(Some(end));
        }
        if quit.load(Ordering::Relaxed) || limit.is_some_and(|l| Instant::now() >= l) {
            return Ok(None);
        }
    }
}

fn report(end: Option<End>, quit: bool) -> u8 {
    let (text, code) = match end {
        Some(End::PowerOff | End::Script) => ("the machine is off".into(), 0),
        Some(End::Died(why)) => (format!("the machine died: {why}"), 1),
        None if quit => ("left the machine; it is gone".into(), 0),
        None => ("the time limit is over; the machine is gone".into(), TIMED_OUT),
    };
    eprintln!("\n  {text}");
    code
}

/// Serial output to terminal and log file. The first byte ends the display of progress.
struct Console {
    copies: Vec<Box<dyn Write + Send>>,
    booting: Option<Step>,
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(step) = self.booting.take() {
            step.done("");
        }
        self.copies.iter_mut().try_for_each(|c| c.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.copies.iter_mut().try_for_each(|c| c.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_system() {
        assert_eq!(system_code("[core] system off, exit code 0\r\n"), 0);
        assert_eq!(system_code("[core] system off, exit code 134\r\n"), 1);
        assert_eq!(system_code("nothing of the kind"), 0);
    }
}
