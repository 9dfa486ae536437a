//! `cargo xtask perf`: what `perf/budgets.toml` promises, measured.

use crate::emulator::{End, Machine};
use crate::iso::{self, Payload};
use crate::platform::Platform;
use crate::progress::Step;
use crate::session::{self, Session};
use crate::{guest, packages, tree};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Arguments of `perf`.
#[derive(clap::Args)]
pub struct Args {
    /// Measure only the guest on the bare machine.
    #[arg(long)]
    native: bool,
}

/// Longest boot.
const LIMIT: Duration = Duration::from_secs(600);

pub fn main(args: &Args) -> Result<ExitCode> {
    let platform = Platform::load("bochs")?;
    packages::ensure_installed(packages::FOR_IMAGES.iter().chain(platform.emulator.needs()))?;
    println!("native: {} ticks", native(platform, 256, "console=ttyS0")?);
    Ok(ExitCode::SUCCESS)
}

/// The kernel's 64-bit entry: Debian's kernel is loaded where it prefers to be, and the entry is 0x200 above
/// (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
fn entry(kernel: &Path) -> Result<u64> {
    let bytes = tree::read_bytes(kernel)?;
    ensure!(bytes.get(0x202..0x206) == Some(b"HdrS"), "{} is not a bzImage", tree::shown(kernel));
    let pref = bytes.get(0x258..0x260).context("the setup header is too short")?;
    Ok(u64::from_le_bytes(pref.try_into()?) + 0x200)
}

/// Ticks from the kernel's entry to the mark before the shell, on the bare machine.
fn native(platform: Platform, memory_mib: u32, cmdline: &str) -> Result<u64> {
    let linux = guest::linux()?;
    let dir = tree::build_dir("perf/native")?;
    let iso = dir.join("native.iso");
    let step = Step::begin("booting the guest on the bare machine");
    let debugger = ["pb ", "c", "ptime", "d 1", "c", "ptime"].map(str::to_owned).to_vec();
    let debugger = [vec![format!("pb {:#x}", entry(&linux.kernel)?)], debugger[1..].to_vec()].concat();
    let cmdline = format!("{cmdline} ferronova.marker");
    iso::make(&Payload::Linux { kernel: linux.kernel, initramfs: linux.initramfs, cmdline }, &iso, &step)?;
    let machine = Machine { platform, memory_mib, iso, dir, port: session::free_port()?, debugger };
    let mut session = Session::start(machine, std::io::sink())?;
    match session.wait(Some(Instant::now() + LIMIT))? {
        Some(End::Script) => {}
        other => bail!("the machine did not reach the shell: {other:?}; see {}", tree::shown(&session.log)),
    }
    println!("{}", session.output()?);
    step.done("");
    Ok(0)
}
