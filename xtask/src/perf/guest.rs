//! The guest of the system `linux` under us and on the bare machine: ticks from its kernel's entry to its shell, exits, and
//! what kernel and VMM need.
//!
//! Key types: [`Guest`], [`Boot`], [`Sizes`].

use super::{LIMIT, start};
use crate::build::Flavour;
use crate::emulator::{Debugger, End};
use crate::image::{self, Image};
use crate::platform::Platform;
use crate::progress::Step;
use crate::session::Session;
use crate::system::System;
use crate::{lint, tree};
use anyhow::{Context, Result, bail};
use regex::{Regex, bytes};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What makes `/init` write the end mark.
const MARKER: &str = "ferronova.marker";
/// The boots: name, and what is added to the guest's command line. The kernel's default is 9600 baud, and on the bare machine it
/// waits for each character; under us it does not, so at that rate the comparison would flatter us.
pub const BOOTS: [(&str, &str); 2] = [("console", "console=ttyS0,115200"), ("quiet", "console=ttyS0,115200 quiet")];
/// What a guest does beyond a boot of [`QUIET`], by the names of `guests/linux/loads`.
pub const LOADS: [&str; 5] = ["compute", "memory", "fork", "pipe", "idle"];
/// The boot that loads are compared with.
pub const QUIET: (&str, &str) = BOOTS[1];

/// The command line with a load.
pub fn loaded(load: &str) -> String {
    format!("{} ferronova.load={load}", QUIET.1)
}

/// The system that is measured, and its VMM.
pub const SYSTEM: &str = "linux";
const VMM: &str = "vmm";

/// A boot, measured on the bare machine and under us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    pub name: String,
    pub native_ticks: u64,
    pub guest_ticks: u64,
    pub exits_at_prompt: u64,
    /// Reason and number, until power-off.
    pub exits: Vec<(String, u64)>,
}

impl Boot {
    /// What comes on top of another boot.
    pub fn beyond(&self, base: &Boot) -> Boot {
        let before = |reason: &str| base.exits.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n);
        Boot {
            name: self.name.clone(),
            native_ticks: self.native_ticks.saturating_sub(base.native_ticks),
            guest_ticks: self.guest_ticks.saturating_sub(base.guest_ticks),
            exits_at_prompt: self.exits_at_prompt.saturating_sub(base.exits_at_prompt),
            exits: self.exits.iter().map(|(r, n)| (r.clone(), n.saturating_sub(before(r)))).collect(),
        }
    }

    /// How much longer it takes under us.
    pub fn ratio(&self) -> f64 {
        self.guest_ticks as f64 / self.native_ticks as f64
    }
}

/// What kernel and VMM need, in bytes. The same in all boots.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Code and constants of the kernel.
    pub kernel_text_rodata_bytes: u64,
    /// Kernel memory in use when the root task has started.
    pub kernel_memory_bytes: u64,
    /// What the VMM's component has beyond guest RAM.
    pub vmm_memory_bytes: u64,
}

/// The boot image of the system with that guest.
pub fn image(guest: &Guest, kernel_cmdline: &str) -> Result<Image> {
    image::make(&System::parse(guest.marked.clone())?, "perf", kernel_cmdline, Flavour::Release)
}

/// The guest of the system, from the system file.
#[derive(Debug, PartialEq)]
pub struct Guest {
    /// Its command line.
    pub cmdline: String,
    /// Its RAM.
    pub ram_bytes: u64,
    /// RAM of the VMM's component.
    granted_bytes: u64,
    /// The system file with the end mark asked for.
    marked: String,
}

impl Guest {
    /// With this command line.
    pub fn of(text: &str, cmdline: &str) -> Result<Guest> {
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

/// The same guest under our system.
pub fn ours(platform: &Platform, guest: &Guest, name: String, native_ticks: u64) -> Result<(Boot, Sizes)> {
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
    let sizes = Sizes {
        kernel_text_rodata_bytes: lint::text_and_rodata(&tree::read_bytes(&image.kernel.linked)?)?,
        kernel_memory_bytes: kernel_memory(&text)?,
        vmm_memory_bytes: guest.granted_bytes.saturating_sub(guest.ram_bytes) + vmm_image,
    };
    Ok((boot, sizes))
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
    fn a_load_is_what_comes_on_top_of_a_boot() {
        let exits = |n| vec![("HLT".to_owned(), n)];
        let base =
            Boot { name: "quiet".into(), native_ticks: 10, guest_ticks: 12, exits_at_prompt: 3, exits: exits(2) };
        let all = Boot { name: "fork".into(), native_ticks: 30, guest_ticks: 42, exits_at_prompt: 8, exits: exits(9) };
        let load = all.beyond(&base);
        assert_eq!((load.native_ticks, load.guest_ticks, load.exits_at_prompt), (20, 30, 5));
        assert_eq!((load.name.as_str(), load.exits.clone(), load.ratio()), ("fork", exits(7), 1.5));
        assert_eq!(base.beyond(&all).guest_ticks, 0);
    }

    #[test]
    fn there_is_each_load_in_the_guest() {
        let script = tree::read_text(&tree::root().join("guests/linux/loads")).unwrap();
        LOADS.iter().for_each(|l| assert!(script.contains(&format!("\n    {l})")), "{l}"));
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
}
