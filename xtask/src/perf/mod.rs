//! `cargo xtask perf`: what `perf/budgets.toml` promises, measured (`perf/README.md` says how). [`suite`]: the
//! kernel alone; [`native`]: the guest without us; [`prompt`]: seconds to the prompt.
//!
//! Key types: [`Budgets`], [`Figures`], [`Guest`].

mod native;
mod prompt;
mod suite;

use crate::build::Flavour;
use crate::emulator::{Debugger, End, Machine};
use crate::image::{self, Image};
use crate::platform::Platform;
use crate::progress::Step;
use crate::session::{self, Session};
use crate::system::System;
use crate::{lint, packages, tree};
use anyhow::{Context, Result, bail};
use prompt::Prompt;
use regex::{Regex, bytes};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::Suite;

/// Arguments of `perf`.
#[derive(clap::Args)]
pub struct Args {
    /// Measure only the guest on the bare machine.
    #[arg(long)]
    native: bool,
    /// Run only the perf suite.
    #[arg(long, conflicts_with = "native")]
    suite: bool,
}

/// Longest run of an emulator.
const LIMIT: Duration = Duration::from_secs(1200);
/// What makes `/init` write the end mark.
const MARKER: &str = "ferronova.marker";
/// The boots: name, and what is added to the guest's command line. The kernel's default is 9600 baud, and on the bare machine it
/// waits for each character; under us it does not, so at that rate the comparison would flatter us.
const BOOTS: [(&str, &str); 2] = [("console", "console=ttyS0,115200"), ("quiet", "console=ttyS0,115200 quiet")];
/// The command line of the guest whose way to the prompt is timed: that of the system file.
const PROMPT_CMDLINE: &str = "console=ttyS0";
/// The system that is measured, and its VMM.
const SYSTEM: &str = "linux";
const VMM: &str = "vmm";

/// The promises: most that each figure may be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budgets {
    guest_boot_ratio: f64,
    guest_prompt_time_ratio: f64,
    kernel_text_rodata_bytes: f64,
    kernel_memory_bytes: f64,
    vmm_memory_bytes: f64,
    suite: suite::Limits,
}

/// What was measured.
#[derive(Debug, PartialEq, Serialize)]
struct Figures {
    boots: Vec<Boot>,
    prompt: Prompt,
    suite: Vec<Suite>,
    kernel_text_rodata_bytes: u64,
    kernel_memory_bytes: u64,
    vmm_memory_bytes: u64,
}

/// A boot, measured on the bare machine and under us.
#[derive(Debug, PartialEq, Serialize)]
struct Boot {
    name: String,
    native_ticks: u64,
    guest_ticks: u64,
    exits_at_prompt: u64,
    /// Reason and number, until power-off.
    exits: Vec<(String, u64)>,
}

impl Boot {
    fn ratio(&self) -> f64 {
        self.guest_ticks as f64 / self.native_ticks as f64
    }
}

impl Figures {
    /// The worst of the boots.
    fn guest_boot_ratio(&self) -> f64 {
        self.boots.iter().map(Boot::ratio).fold(0.0, f64::max)
    }
}

/// What counts instructions: Bochs as it is, QEMU with a clock that ticks with each instruction.
fn counting() -> Result<Vec<Platform>> {
    let qemu = Platform::load("qemu")?;
    let args = ["-icount", "shift=0,sleep=off"].map(str::to_owned).to_vec();
    Ok(vec![Platform::load("bochs")?, Platform { args, ..qemu }])
}

/// Fails if a promise is broken.
pub fn main(args: &Args) -> Result<ExitCode> {
    let platforms = counting()?;
    let needs = platforms.iter().flat_map(Platform::needs).chain(packages::FOR_GDB);
    packages::ensure_installed(packages::FOR_IMAGES.iter().chain(needs))?;
    let budgets: Budgets = toml::from_str(&tree::read_text(&tree::root().join("perf/budgets.toml"))?)?;
    if args.suite {
        let suites = platforms.iter().map(suite::measure).collect::<Result<Vec<_>>>()?;
        let (text, kept) = show_suites(&suites, &budgets);
        print!("{text}");
        return Ok(ExitCode::from(u8::from(!kept)));
    }
    let text = System::load(SYSTEM)?.text;
    let mut measured = Vec::new();
    for platform in &platforms {
        for (name, cmdline) in BOOTS {
            let (guest, name) = (Guest::of(&text, cmdline)?, format!("{}-{name}", platform.name));
            let native_ticks = native::ticks(platform, &guest, &name)?;
            if !args.native {
                measured.push(ours(platform, &guest, name, native_ticks)?);
            }
        }
    }
    if args.native {
        return Ok(ExitCode::SUCCESS);
    }
    let guest = Guest::of(&text, PROMPT_CMDLINE)?;
    let prompt = prompt::measure(&Platform::load("qemu")?, &guest, &image(&guest, "")?)?;
    let suite = platforms.iter().map(suite::measure).collect::<Result<_>>()?;
    let figures = Figures::of(measured, prompt, suite).context("nothing was measured")?;
    std::fs::write(tree::build("perf.json"), serde_json::to_string_pretty(&figures)?)?;
    let (text, kept) = report(&figures, &budgets);
    print!("{text}");
    Ok(ExitCode::from(u8::from(!kept)))
}

fn image(guest: &Guest, kernel_cmdline: &str) -> Result<Image> {
    image::make(&System::parse(guest.marked.clone())?, "perf", kernel_cmdline, Flavour::Release)
}

/// The guest of the system, from the system file.
#[derive(Debug, PartialEq)]
struct Guest {
    cmdline: String,
    ram_bytes: u64,
    /// RAM of the VMM's component.
    granted_bytes: u64,
    /// The system file with the end mark asked for.
    marked: String,
}

impl Guest {
    fn of(text: &str, cmdline: &str) -> Result<Guest> {
        let mut file: toml::Table = toml::from_str(text)?;
        let components = file.get_mut("component").and_then(|c| c.as_array_mut()).context("no [[component]]")?;
        let is_vmm = |c: &&mut toml::Value| c.get("binary").and_then(|b| b.as_str()) == Some(VMM);
        let vm = components.iter_mut().find(is_vmm).with_context(|| format!("no component has the binary {VMM}"))?;
        let granted_bytes = size(vm.get("ram"))?;
        let config = vm.get_mut("config").and_then(|c| c.as_table_mut()).context("the VMM has no config")?;
        let cmdline = format!("{cmdline} {MARKER}");
        let ram_bytes = size(config.get("ram"))?;
        config.insert("cmdline".into(), cmdline.clone().into());
        Ok(Guest { cmdline, ram_bytes, granted_bytes, marked: toml::to_string(&file)? })
    }
}

/// Digits, and K, M or G.
fn size(value: Option<&toml::Value>) -> Result<u64> {
    let text = value.and_then(|v| v.as_str()).context("no `ram`")?;
    let (digits, unit) = text.split_at(text.trim_end_matches(['K', 'M', 'G']).len());
    let shift = ["", "K", "M", "G"].iter().position(|u| *u == unit).with_context(|| format!("{text:?} is no size"))?;
    Ok(digits.parse::<u64>().with_context(|| format!("{text:?} is no size"))? << (10 * shift))
}

/// All numbers that the group of the pattern matches.
fn numbers(text: &str, pattern: &str) -> Result<Vec<u64>> {
    Regex::new(pattern)?.captures_iter(text).map(|c| Ok(c[1].parse()?)).collect()
}

fn number(text: &str, pattern: &str) -> Result<u64> {
    let found = numbers(text, pattern)?;
    found.first().copied().with_context(|| format!("the system did not print /{pattern}/"))
}

fn start(p: &Platform, iso: &Path, dir: &Path, debugger: Debugger) -> Result<Session> {
    let port = session::free_port()?;
    let machine = Machine { platform: p.clone(), iso: iso.into(), dir: dir.into(), port, debugger };
    Session::start(machine, std::io::sink())
}

/// Boots a system that measures from inside, until it prints `NAME: done`: the step that is still to be told done, and what
/// it printed.
fn printed(platform: &Platform, system: &System, name: &str, what: &str) -> Result<(Step, String)> {
    let image = image::make(system, name, &platform.kernel_cmdline, Flavour::Release)?;
    let step = Step::begin(format!("{what} ({})", platform.name));
    let dir = tree::build_dir(format!("perf/{}-{name}", platform.name))?;
    let mut session = start(platform, &image.iso, &dir, Debugger::Off)?;
    let found = session.expect(&bytes::Regex::new(&format!("{name}: done"))?, Instant::now() + LIMIT);
    found.with_context(|| format!("see {}", tree::shown(&session.log)))?;
    Ok((step, session.text()))
}

/// What one boot says about everything.
struct Measured {
    boot: Boot,
    kernel_text_rodata_bytes: u64,
    kernel_memory_bytes: u64,
    vmm_memory_bytes: u64,
}

/// The same guest under our system.
fn ours(platform: &Platform, guest: &Guest, name: String, native_ticks: u64) -> Result<Measured> {
    let image = image(guest, &platform.kernel_cmdline)?;
    let step = Step::begin(format!("booting the guest under Ferronova ({name})"));
    let dir = tree::build_dir(format!("perf/{name}-ours"))?;
    let mut session = start(platform, &image.iso, &dir, Debugger::Off)?;
    let result = to_power_off(&mut session);
    let text = session.text();
    result.with_context(|| format!("see {}", tree::shown(&session.log)))?;
    let boot = boot(&text, name, native_ticks)?;
    step.done(&format!("{} ticks", boot.guest_ticks));
    let vmm = image.components.iter().find(|(n, _)| n == VMM).context("the VMM was not built")?;
    let vmm_image = lint::memory(&tree::read_bytes(&vmm.1.linked)?)?;
    Ok(Measured {
        boot,
        kernel_text_rodata_bytes: lint::text_and_rodata(&tree::read_bytes(&image.kernel.linked)?)?,
        kernel_memory_bytes: kernel_memory(&text)?,
        vmm_memory_bytes: guest.granted_bytes.saturating_sub(guest.ram_bytes) + vmm_image,
    })
}

impl Figures {
    /// `None` if nothing was measured. The sizes are the same in all boots.
    fn of(measured: Vec<Measured>, prompt: Prompt, suite: Vec<Suite>) -> Option<Figures> {
        let m = measured.last()?;
        let (text, memory, vmm) = (m.kernel_text_rodata_bytes, m.kernel_memory_bytes, m.vmm_memory_bytes);
        Some(Figures {
            boots: measured.into_iter().map(|m| m.boot).collect(),
            prompt,
            suite,
            kernel_text_rodata_bytes: text,
            kernel_memory_bytes: memory,
            vmm_memory_bytes: vmm,
        })
    }
}

fn to_power_off(session: &mut Session) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    session.expect(&bytes::Regex::new("guest# ")?, deadline).context("waiting for the shell")?;
    session.send(b"poweroff\n")?;
    match session.wait(Some(deadline))? {
        Some(End::PowerOff) => Ok(()),
        other => bail!("the machine was not switched off: {other:?}"),
    }
}

/// What the VMM printed about the boot.
fn boot(text: &str, name: String, native_ticks: u64) -> Result<Boot> {
    let exits = Regex::new(r"(?m)\bexits 0x[0-9a-f]+ (.*\S) +(\d+)\s*$")?;
    Ok(Boot {
        name,
        native_ticks,
        guest_ticks: number(text, r"marker 0x44 at TSC \d+, since entry (\d+)")?,
        exits_at_prompt: number(text, r"marker 0x44 .* exits (\d+)")?,
        exits: exits.captures_iter(text).map(|c| Ok((c[1].to_owned(), c[2].parse()?))).collect::<Result<_>>()?,
    })
}

/// What the root task printed at start.
fn kernel_memory(text: &str) -> Result<u64> {
    Ok(number(text, r"kernel uses (\d+) of \d+ KiB")? << 10)
}

fn show_boot(b: &Boot) -> String {
    let mut text = format!(
        "guest kernel entry to shell ({}): {} ticks, {} on the bare machine, ratio {:.3}, {} exits\n",
        b.name,
        b.guest_ticks,
        b.native_ticks,
        b.ratio(),
        b.exits_at_prompt
    );
    let mut exits: Vec<_> = b.exits.iter().collect();
    exits.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    text += "  exits by reason, until power-off:\n";
    exits.iter().for_each(|(reason, n)| text += &format!("  {n:>10}  {reason}\n"));
    text
}

/// What a figure counts.
#[derive(Clone, Copy)]
enum Unit {
    Ratio,
    Bytes,
}

/// The figures for people, and whether all promises are kept.
fn report(f: &Figures, b: &Budgets) -> (String, bool) {
    let bytes = Unit::Bytes;
    let rows = [
        ("guest boot, ratio to bare machine", f.guest_boot_ratio(), b.guest_boot_ratio, Unit::Ratio),
        ("guest to prompt, time, ratio", f.prompt.ratio(), b.guest_prompt_time_ratio, Unit::Ratio),
        ("kernel text and read-only data", f.kernel_text_rodata_bytes as f64, b.kernel_text_rodata_bytes, bytes),
        ("kernel memory after boot", f.kernel_memory_bytes as f64, b.kernel_memory_bytes, bytes),
        ("VMM memory beyond guest RAM", f.vmm_memory_bytes as f64, b.vmm_memory_bytes, bytes),
    ];
    let mut text: String = f.boots.iter().map(show_boot).collect();
    text += &format!(
        "guest to its prompt on qemu: {:.1} s of CPU time, {:.1} s on the bare machine\n",
        f.prompt.ours_s, f.prompt.native_s
    );
    let (table, kept) = compare(&rows);
    let (suites, suites_kept) = show_suites(&f.suite, b);
    (text + &suites + &table, kept && suites_kept)
}

/// The rows of all platforms, what is above its limit, and whether nothing is.
fn show_suites(suites: &[Suite], b: &Budgets) -> (String, bool) {
    let broken: Vec<_> = suites.iter().flat_map(|s| s.broken(&b.suite)).collect();
    let text = suites.iter().map(Suite::show).chain(broken.iter().map(|what| format!("BROKEN: {what}\n"))).collect();
    (text, broken.is_empty())
}

/// Figure, promise, and whether it is kept.
fn compare(rows: &[(&str, f64, f64, Unit)]) -> (String, bool) {
    let (mut text, mut kept) = (String::new(), true);
    for &(what, have, most, unit) in rows {
        let show = |v: f64| match unit {
            Unit::Ratio => format!("{v:.3}"),
            Unit::Bytes => format!("{:.0} KiB", v / 1024.0),
        };
        kept &= have <= most;
        let verdict = if have <= most { "kept" } else { "BROKEN" };
        text += &format!("{what:<36} {:>10}  promised at most {:>10}  {verdict}\n", show(have), show(most));
    }
    (text, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_comes_from_the_system_file() {
        let g = Guest::of(&System::load(SYSTEM).unwrap().text, "quiet").unwrap();
        assert!(g.cmdline == "quiet ferronova.marker" && g.marked.contains(&g.cmdline));
        assert!(g.granted_bytes > g.ram_bytes);
        assert_eq!(System::parse(g.marked).unwrap().roms, ["bzImage", "initramfs"]);
        assert!(Guest::of("[[component]]\nbinary = 'x'", "").is_err());
    }

    #[test]
    fn sizes_have_units() {
        let size = |t: &str| size(Some(&toml::Value::String(t.into())));
        assert_eq!(size("264M").unwrap(), 264 << 20);
        assert_eq!(size("4096").unwrap(), 4096);
        assert!(size("4T").is_err() && size("M").is_err() && size("4MM").is_err());
    }

    const LOG: &str = "[core] Ferronova 0.1.0: 1 CPU at 50 MHz, 450 MiB free, kernel uses 1500 of 8192 KiB, guests can run\r\n\
        [vm] marker 0x44 at TSC 3000000, since entry 2500000, exits 1234\r\n\
        [vm] exits 0x0c HLT                  77\r\n[vm] exits 0x07 interrupt window     4321\r\n[vm] exits in all 4398\r\n";

    #[test]
    fn figures_are_read_from_the_log() {
        let b = boot(LOG, "quiet".into(), 5).unwrap();
        assert_eq!((b.guest_ticks, b.exits_at_prompt, kernel_memory(LOG).unwrap()), (2_500_000, 1234, 1500 << 10));
        assert_eq!(b.exits, [("HLT".to_owned(), 77), ("interrupt window".to_owned(), 4321)]);
        assert!(boot("", "quiet".into(), 5).unwrap_err().to_string().contains("marker"));
        assert!(kernel_memory("").is_err());
    }

    const PROMPT: Prompt = Prompt { ours_s: 8.9, native_s: 3.0 };

    fn measured(name: &str, native_ticks: u64) -> Measured {
        Measured {
            boot: boot(LOG, name.into(), native_ticks).unwrap(),
            kernel_text_rodata_bytes: 1000,
            kernel_memory_bytes: 2000,
            vmm_memory_bytes: 3000,
        }
    }

    #[test]
    fn the_worst_boot_counts_and_a_broken_promise_is_told() {
        let budgets = tree::read_text(&tree::root().join("perf/budgets.toml")).unwrap();
        let budgets: Budgets = toml::from_str(&budgets).unwrap();
        let figures =
            |natives: [u64; 2]| Figures::of(natives.map(|n| measured("console", n)).into(), PROMPT, vec![]).unwrap();
        let (text, kept) = report(&figures([2_500_000, 2_000_000]), &budgets);
        assert!(kept && text.contains("1.250") && text.contains("interrupt window"), "{text}");
        let (text, kept) = report(&figures([2_500_000, 1_900_000]), &budgets);
        assert!(!kept && text.contains("BROKEN"), "{text}");
        let slow = Prompt { ours_s: 9.1, ..PROMPT };
        assert!(!report(&Figures::of(vec![measured("console", 2_500_000)], slow, vec![]).unwrap(), &budgets).1);
        assert!(Figures::of(vec![], PROMPT, vec![]).is_none());
    }
}
