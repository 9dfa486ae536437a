//! Running one scenario, and the checks of images that need no emulator.

use crate::build::Binary;
use crate::debug::{self, Symbols};
use crate::emulator::{Debugger, End, Machine};
use crate::iso::{self, Module, Payload};
use crate::lint::{self, Disassembly};
use crate::madt;
use crate::matrix::{self, Inner};
use crate::perf;
use crate::platform::Platform;
use crate::progress::Step as Progress;
use crate::scenario::{Ending, Gdb, Scenario};
use crate::screen;
use crate::session::{self, Fault, Session};
use crate::tree;
use anyhow::{Context, Result, anyhow, bail, ensure};
use regex::bytes::Regex;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Most bytes of code and constants in the kernel.
const KERNEL_MAX: u64 = 160 << 10;
/// Fewest instructions that a kernel can have: fewer, and objdump's output was not understood.
const INSTRUCTIONS_MIN: usize = 1000;
/// Lines of the serial log that a failure shows.
const SHOWN_LINES: usize = 40;
/// How long a machine that must go on running is watched after the last step.
const WATCHED: Duration = Duration::from_millis(500);
/// Offences that a failure names.
const SHOWN_OFFENCES: usize = 10;

/// What all scenarios share, built once.
pub struct Kit {
    /// The kernel.
    pub kernel: Binary,
    /// The root task.
    pub root_task: Binary,
    /// Component binaries and ROMs, as stripped.
    pub modules: Vec<Module>,
    /// ROMs that could not be made, and why: only tests that need them fail.
    pub missing: Vec<(String, String)>,
}

impl Kit {
    fn module(&self, name: &str) -> Result<&Module> {
        if let Some((_, why)) = self.missing.iter().find(|(n, _)| n == name) {
            bail!("there is no module {name:?}: {why}");
        }
        self.modules.iter().find(|m| m.name == name).with_context(|| format!("module {name:?} was not built"))
    }

    fn symbols(&self) -> Symbols {
        Symbols::of(&self.kernel, &self.root_task, self.modules.iter().map(|m| m.name.clone()))
    }
}

/// What a machine left.
#[derive(Default)]
pub struct Left {
    /// The tests that ran inside it.
    pub inner: Vec<Inner>,
    /// Time that passed.
    pub took: Duration,
    /// CPU time of the emulator: unlike the time that passed, nearly the same however busy the host is.
    pub cpu: Duration,
    /// It went on, but what was waited for did not come; and nothing that it printed says that something failed.
    pub hung: bool,
    /// It failed as its file says that it does now and then, and why.
    pub known: Option<String>,
    /// The last lines on its serial line, without control characters.
    pub end: Vec<String>,
}

impl Left {
    /// How the serial output ended, to be shown behind an error.
    pub fn shown(&self) -> String {
        if self.end.is_empty() {
            return String::new();
        }
        let lines: String = self.end.iter().map(|l| format!("\n  | {l}")).collect();
        format!("\nthe serial output ends:{lines}")
    }
}

/// Boots the scenario's system and goes through its steps. What the emulator left is then in `build/logs/<name>`.
///
/// It fails, too, if one of the tests inside the machine failed.
pub fn run(s: &Scenario, kit: &Kit) -> (Result<()>, Left) {
    let (mut left, began) = (Left::default(), Instant::now());
    let result = tree::run_dir(&s.name).and_then(|dir| kept(s, kit, &dir, &mut left));
    (result, Left { took: began.elapsed(), ..left })
}

fn kept(s: &Scenario, kit: &Kit, dir: &Path, left: &mut Left) -> Result<()> {
    let result =
        boot(s, kit, dir, left).and_then(|()| none(&matrix::failures(&left.inner), "failed tests in the machine"));
    // Large, and made again by the next run.
    let _ = std::fs::remove_file(dir.join("boot.iso"));
    let logs = tree::build_dir("logs")?.join(&s.name);
    let _ = std::fs::remove_dir_all(&logs);
    tree::publish(dir, &logs)?;
    result.map_err(|e| anyhow!("{e:#} ({})", tree::shown(&logs.join("serial.log"))))
}

fn boot(s: &Scenario, kit: &Kit, dir: &Path, left: &mut Left) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(s.timeout_s);
    let platform = s.machine()?;
    let iso = make_iso(s, kit, &platform, dir)?;
    let port = session::free_port()?;
    let gdb = s.gdb.as_ref().map(|g| Ok::<_, anyhow::Error>((g, session::free_port()?))).transpose()?;
    let monitor = if s.screen.is_empty() { None } else { Some(session::free_port()?) };
    let debugger = match (gdb, monitor) {
        (Some((_, port)), _) => Debugger::Gdb(port),
        (None, Some(port)) => Debugger::Monitor(port),
        (None, None) => Debugger::Off,
    };
    let machine = Machine { platform, iso, dir: dir.into(), port, debugger };
    let mut session = Session::start(machine, std::io::sink())?;
    let debugged = gdb.map_or(Ok(()), |(g, port)| in_gdb(g, &kit.symbols(), dir, port, deadline));
    let shown = || monitor.map_or(Ok(()), |port| screen::expect(&s.screen, port, dir, deadline));
    let gone_through = debugged.and_then(|()| steps(s, &mut session, deadline)).and_then(|()| shown());
    let result = gone_through.and_then(|()| ending(s, &mut session, deadline));
    session.kill();
    let text = session.text();
    let result = result.and_then(|()| if s.budgets { perf::keeps_limits(&s.platform, &text) } else { Ok(()) });
    let hung = result.as_ref().is_err_and(|e| hung(e, &text));
    let known = result.as_ref().err().and_then(|_| s.known_failure(&text));
    let (inner, cpu, end) = (matrix::inner(&text), session.cpu_used(), tail(&session.text()));
    *left = Left { inner, cpu, hung, known, end, ..Left::default() };
    result
}

fn in_gdb(g: &Gdb, symbols: &Symbols, dir: &Path, port: u16, deadline: Instant) -> Result<()> {
    let script = symbols.write_script(dir, port)?;
    let output = debug::batch(&script, &g.commands, deadline)?;
    in_order(&output, &g.expect).with_context(|| format!("gdb printed:\n{output}"))
}

fn in_order(text: &str, patterns: &[Regex]) -> Result<()> {
    let mut rest = text.as_bytes();
    for p in patterns {
        let m = p.find(rest).with_context(|| format!("gdb: expected /{p}/"))?;
        rest = &rest[m.end()..];
    }
    Ok(())
}

fn make_iso(s: &Scenario, kit: &Kit, platform: &Platform, dir: &Path) -> Result<PathBuf> {
    let modules = modules(s, kit, dir)?;
    let madt = s.processors.as_ref().map(|apics| madt_file(apics, dir)).transpose()?;
    let (kernel, cmdline) = (kit.kernel.image.clone(), platform.kernel_cmdline.clone());
    let payload = Payload::Hypervisor { kernel, cmdline, modules, madt };
    let iso = dir.join("boot.iso");
    iso::make(&payload, &iso, &Progress::silent())?;
    Ok(iso)
}

fn madt_file(apics: &[u8], dir: &Path) -> Result<PathBuf> {
    let file = dir.join("madt");
    std::fs::write(&file, madt::table(apics))?;
    Ok(file)
}

fn root_task(s: &Scenario, kit: &Kit) -> Result<PathBuf> {
    s.root.as_ref().map_or(Ok(kit.root_task.image.clone()), |r| Ok(kit.module(r)?.file.clone()))
}

fn modules(s: &Scenario, kit: &Kit, dir: &Path) -> Result<Vec<Module>> {
    let system = s.system()?;
    let text = dir.join("system.toml");
    std::fs::write(&text, &system.text)?;
    let mut list =
        vec![Module { name: "core".into(), file: root_task(s, kit)? }, Module { name: "system".into(), file: text }];
    for name in system.binaries.iter().chain(&system.roms) {
        list.push(kit.module(name)?.clone());
    }
    for e in &s.edits {
        let at = list.iter().position(|m| m.name == e.name).with_context(|| format!("no module {:?}", e.name))?;
        match e.apply(tree::read_bytes(&list[at].file)?) {
            None => drop(list.remove(at)),
            Some(content) => {
                list[at].file = dir.join(format!("module-{}", e.name));
                std::fs::write(&list[at].file, content)?;
            }
        }
    }
    Ok(list)
}

fn steps(s: &Scenario, session: &mut Session, deadline: Instant) -> Result<()> {
    for (i, step) in s.steps.iter().enumerate() {
        let number = i + 1;
        if let Some(pattern) = &step.expect {
            // What must not come up to a later step must not come now.
            let never: Vec<&Regex> = s.steps[i..].iter().filter_map(|step| step.never.as_ref()).collect();
            session
                .expect_before(pattern, &never, deadline)
                .with_context(|| format!("step {number}: expected /{pattern}/"))?;
        }
        if let Some(pattern) = &step.never {
            ensure!(!pattern.is_match(session.text().as_bytes()), "step {number}: /{pattern}/ must not come, and did");
        }
        if let Some(text) = &step.send {
            session.send(text.as_bytes()).with_context(|| format!("step {number}"))?;
        }
    }
    Ok(())
}

fn ending(s: &Scenario, session: &mut Session, deadline: Instant) -> Result<()> {
    match s.end {
        Ending::PowerOff => match session.wait(Some(deadline))? {
            Some(End::PowerOff) => Ok(()),
            Some(End::Script) => bail!("the emulator ended, but not because the machine was switched off"),
            Some(End::Died(why)) => bail!("the machine died: {why}"),
            None => Err(Fault::StillOn(s.timeout_s).into()),
        },
        Ending::Running => match session.wait(Some(Instant::now() + WATCHED))? {
            None => Ok(()),
            Some(end) => bail!("the machine must go on running, but: {end:?}"),
        },
    }
}

/// What only a failure prints, of ours or of a guest.
static FAILURE: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = r"(?i)kernel panic|panicked|(?-i:\bFAIL(ED)?\b)|\b[1-9]\d* failed|\bBUG:|Call Trace|triple fault";
    Regex::new(patterns).expect("a pattern")
});

/// Whether a failure is one that a forgotten interrupt can be the cause of.
fn hung(error: &anyhow::Error, serial: &str) -> bool {
    let late = matches!(error.downcast_ref(), Some(Fault::Timeout(_) | Fault::StillOn(_)));
    late && !FAILURE.is_match(serial.as_bytes())
}

fn tail(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    lines[from..].iter().map(|l| l.trim_end().escape_debug().to_string()).collect()
}

/// The kernel has no instruction that would need the vector or floating-point state saved.
pub fn kernel_without_floats(kernel: &Path) -> Result<()> {
    let d = disassembled(kernel)?;
    none(&d.float_instructions(), "x87, MMX or SSE instructions")
}

/// The kernel keeps nothing below its stack pointer, where an exception would overwrite it.
pub fn kernel_without_red_zone(kernel: &Path) -> Result<()> {
    let d = disassembled(kernel)?;
    none(&d.red_zone_uses(), "accesses below the stack pointer")
}

fn disassembled(kernel: &Path) -> Result<Disassembly> {
    let d = Disassembly::of(kernel)?;
    ensure!(d.len() >= INSTRUCTIONS_MIN, "only {} instructions found in {}", d.len(), tree::shown(kernel));
    Ok(d)
}

fn none(offences: &[String], what: &str) -> Result<()> {
    let some = &offences[..offences.len().min(SHOWN_OFFENCES)];
    ensure!(offences.is_empty(), "{} {what}:\n  {}", offences.len(), some.join("\n  "));
    Ok(())
}

/// The kernel is small.
pub fn kernel_size(kernel: &Path) -> Result<()> {
    let size = lint::text_and_rodata(&tree::read_bytes(kernel)?)?;
    ensure!(size <= KERNEL_MAX, "{size} bytes of code and constants, more than {KERNEL_MAX}");
    Ok(())
}

/// A component stands on our runtime alone.
pub fn component(linked: &Path) -> Result<()> {
    lint::component(&tree::read_bytes(linked)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offences_are_counted_and_some_are_named() {
        none(&[], "sins").unwrap();
        let many: Vec<String> = (0..20).map(|i| format!("f: i{i}")).collect();
        let e = none(&many, "sins").unwrap_err().to_string();
        assert!(e.starts_with("20 sins:") && e.contains("i9") && !e.contains("i10"), "{e}");
    }

    #[test]
    fn only_a_machine_that_hangs_and_says_nothing_bad_has_hung() {
        let late = || anyhow::Error::from(Fault::Timeout(9)).context("step 3: expected /x/");
        assert!(hung(&late(), "[probe] test a ... ok\n0 failed\nfailures are told\n"));
        assert!(hung(&Fault::StillOn(9).into(), ""));
        assert!(!hung(&Fault::Ended.into(), "") && !hung(&Fault::Unwanted("x".into()).into(), ""));
        assert!(!hung(&anyhow!("the machine died: abort"), ""));
        let bad = [
            "kernel panic on CPU 1: index",
            "[vm] thread 'main' panicked at src/main.rs",
            "[probe] test a ... FAILED: 1 is not 2",
            "[probe] probe: FAIL create_pd",
            "[quota] quota: 9 checks passed, 12 failed",
            "[   1.0] BUG: soft lockup",
            "[vm] triple fault",
        ];
        bad.iter().for_each(|text| assert!(!hung(&late(), &format!("a\r\n{text}\r\nb")), "{text}"));
    }

    #[test]
    fn a_failure_shows_the_last_lines_without_control_characters() {
        let text: String = (0..50).map(|i| format!("line {i}\x1b[6n\r\n")).collect();
        let shown = Left { end: tail(&text), ..Left::default() }.shown();
        assert!(shown.contains("| line 10\\u{1b}[6n\n") && shown.contains("line 49"), "{shown}");
        assert!(!shown.contains("line 9\\") && !shown.contains('\x1b'), "{shown}");
        assert_eq!(Left::default().shown(), "", "of a machine that was not started");
    }

    #[test]
    fn what_gdb_prints_must_come_in_order() {
        let patterns = |list: &[&str]| list.iter().map(|p| Regex::new(p).unwrap()).collect::<Vec<_>>();
        in_order("a b c", &patterns(&["a", "c"])).unwrap();
        assert!(in_order("a b c", &patterns(&["c", "a"])).unwrap_err().to_string().contains("/a/"));
    }

    #[test]
    fn edits_reach_the_list_of_modules() {
        let dir = tree::build_dir("unit-tests/modules").unwrap();
        let file = dir.join("vmm");
        std::fs::write(&file, "hello").unwrap();
        let binary = || Binary { linked: file.clone(), image: file.clone() };
        let module = |name: &str| Module { name: name.into(), file: file.clone() };
        let kit = Kit {
            kernel: binary(),
            root_task: binary(),
            modules: vec![module("vmm"), module("x")],
            missing: vec![("y".into(), "no network".into())],
        };
        let text = "about = ''\ntimeout_s = 1\nend = 'running'\nmodules = ['vmm', 'x']\n[[step]]\nexpect = 'a'\n\
                    [[module]]\nname = 'vmm'\nkeep_bytes = 1\n[[module]]\nname = 'x'\nremove = true\n";
        let s = Scenario::parse("t", text).unwrap();
        let list = modules(&s, &kit, &dir).unwrap();
        assert_eq!(list.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["core", "system", "vmm"]);
        assert_eq!(std::fs::read(&list[2].file).unwrap(), b"h");
        assert_eq!(std::fs::read(&file).unwrap(), b"hello", "the shared file stays");
        assert_eq!(kit.module("y").unwrap_err().to_string(), "there is no module \"y\": no network");
        assert_eq!(kit.module("z").unwrap_err().to_string(), "module \"z\" was not built");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
