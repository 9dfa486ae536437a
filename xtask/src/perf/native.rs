//! The guest on the bare machine: what it would cost without us.
//!
//! In Bochs its own debugger stops the machine at the kernel's entry and at the end mark; in QEMU gdb does, and makes
//! the machine read its TSC there.

use super::guest::Guest;
use super::{LIMIT, start};
use crate::emulator::{Debugger, End};
use crate::iso::{self, Payload};
use crate::platform::{Emulator, Platform};
use crate::progress::Step;
use crate::session::{self, Session};
use crate::{debug, guest, marker, tree};
use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use std::path::Path;
use std::time::Instant;

/// The kernel's 64-bit entry. GRUB loads a relocatable kernel where it prefers to be; the entry is 0x200 above
/// (Linux, "The Linux/x86 Boot Protocol": pref_address, 64-bit boot protocol).
fn entry(kernel: &[u8]) -> Result<u64> {
    ensure!(kernel.get(0x202..0x206) == Some(b"HdrS"), "the guest's kernel is not a bzImage");
    let preferred = kernel.get(0x258..0x260).context("the guest kernel's setup header is too short")?;
    Ok(u64::from_le_bytes(preferred.try_into()?) + 0x200)
}

/// Boots the guest alone by GRUB, on the platform with the guest's RAM.
pub fn boot(platform: &Platform, guest: &Guest, dir: &Path, debugger: Debugger) -> Result<Session> {
    let linux = guest::linux()?;
    let iso = dir.join("native.iso");
    let payload = Payload::Linux { kernel: linux.kernel, initramfs: linux.initramfs, cmdline: guest.cmdline.clone() };
    iso::make(&payload, &iso, &Step::silent())?;
    let platform = Platform { memory_mib: u32::try_from(guest.ram_bytes >> 20)?, ..platform.clone() };
    start(&platform, &iso, dir, debugger)
}

/// Ticks from the kernel's entry to the end mark.
pub fn ticks(platform: &Platform, guest: &Guest, name: &str) -> Result<u64> {
    let step = Step::begin(format!("booting the guest on the bare machine ({name})"));
    let at = entry(&tree::read_bytes(&guest::linux()?.kernel)?)?;
    let dir = tree::build_dir(format!("perf/{name}-native"))?;
    let output = match platform.emulator {
        Emulator::Bochs => bochs(platform, guest, &dir, at)?,
        Emulator::Qemu => qemu(platform, guest, &dir, at)?,
    };
    let ticks = between(&output)?;
    step.done(&format!("{ticks} ticks"));
    Ok(ticks)
}

/// The end mark stops the machine by itself: `d 1` makes port 0x8900 do that.
fn bochs(platform: &Platform, guest: &Guest, dir: &Path, at: u64) -> Result<String> {
    let commands = [&format!("pb {at:#x}"), "c", "ptime", "d 1", "c", "ptime"].map(|s: &str| s.to_owned()).to_vec();
    let mut session = boot(platform, guest, dir, Debugger::Script(commands))?;
    match session.wait(Some(Instant::now() + LIMIT))? {
        Some(End::Script) => session.output(),
        other => bail!("the machine did not reach the shell: {other:?}; see {}", tree::shown(&session.log)),
    }
}

fn qemu(platform: &Platform, guest: &Guest, dir: &Path, at: u64) -> Result<String> {
    let port = session::free_port()?;
    let script = dir.join("gdb");
    std::fs::write(&script, gdb_script(port, at, marker::address()))?;
    let session = boot(platform, guest, dir, Debugger::Gdb(port))?;
    let output = debug::batch(&script, &[], Instant::now() + LIMIT);
    drop(session);
    output
}

/// gdb's stub has no TSC: an RDTSC is put where the machine stands, executed, and all is put back.
fn gdb_script(port: u16, entry: u64, end: u64) -> String {
    format!(
        "\
set confirm off
set language c
set architecture i386:x86-64
target remote 127.0.0.1:{port}
define ptime
  set $at = $pc
  set $code = *(unsigned short *)$at
  set $a = $rax
  set $d = $rdx
  set *(unsigned short *)$at = 0x310f
  stepi
  printf \"ptime: %lu\\n\", (($rdx & 0xffffffff) << 32) | ($rax & 0xffffffff)
  set *(unsigned short *)$at = $code
  set $pc = $at
  set $rax = $a
  set $rdx = $d
end
hbreak *{entry:#x}
continue
ptime
delete
hbreak *{end:#x}
continue
ptime
kill
"
    )
}

/// Ticks between the debugger's two answers to `ptime`.
fn between(output: &str) -> Result<u64> {
    let pattern = Regex::new(r"(?m)^ptime: (\d+)")?;
    let times: Vec<u64> = pattern.captures_iter(output).map(|c| Ok(c[1].parse()?)).collect::<Result<_>>()?;
    match times[..] {
        [a, b] if b > a => Ok(b - a),
        _ => bail!("the debugger did not stop at the kernel's entry and at the end mark (ptime: {times:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debugger_must_have_stopped_twice() {
        assert_eq!(between("Next at t=5\nptime: 273724069\nNext at t=9\nptime: 273724169\n").unwrap(), 100);
        assert!(between("ptime: 273724069\n").unwrap_err().to_string().contains("273724069"));
    }

    #[test]
    fn the_entry_is_behind_the_preferred_address() {
        let mut kernel = vec![0; 0x260];
        assert!(entry(&kernel).is_err());
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
        assert_eq!(entry(&kernel).unwrap(), 0x100_0200);
        kernel.truncate(0x25f);
        assert!(entry(&kernel).is_err());
    }

    #[test]
    fn gdb_stops_at_both_ends_and_counts() {
        let text = gdb_script(7, 0x100, 0x200);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.ends_with(&[
            "hbreak *0x100",
            "continue",
            "ptime",
            "delete",
            "hbreak *0x200",
            "continue",
            "ptime",
            "kill"
        ]));
        assert!(lines.contains(&"target remote 127.0.0.1:7"));
    }
}
