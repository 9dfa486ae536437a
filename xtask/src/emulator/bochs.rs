//! Bochs 2.7 as Debian builds it: with the debugger, without a headless display.

use super::{Debugger, End, Machine};
use anyhow::Result;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Read;
use std::process::Command;

/// Emulated instructions a second unless the platform says otherwise: the frequency of the emulated TSC.
const IPS: u32 = 50_000_000;

/// Writes `bochsrc` and the debugger's script, and completes the command.
pub fn prepare(m: &Machine, c: &mut Command) -> Result<()> {
    std::fs::write(m.dir.join("bochsrc"), bochsrc(m))?;
    std::fs::write(m.dir.join("debugger.rc"), script(&m.debugger))?;
    // The display "term" opens a terminal of its own, and wants to know a kind.
    c.args(["bochs", "-f", "bochsrc", "-rc", "debugger.rc"]).env("TERM", "vt100");
    Ok(())
}

fn bochsrc(m: &Machine) -> String {
    let (mib, port, model, cpus) = (m.platform.memory_mib, m.port, &m.platform.model, m.platform.cpus);
    let (iso, ips) = (m.iso.display(), m.platform.ips.unwrap_or(IPS));
    // Each EPT violation is an "error" of the CPU on which it happens.
    let silent: String = (0..cpus).map(|i| format!(", cpu{i}=ignore")).collect();
    // sync=none and a fixed time make runs repeatable. realtime=0: likewise for the display.
    format!(
        "\
config_interface: textconfig
display_library: term
memory: guest={mib}, host={mib}
romimage: file=$BXSHARE/BIOS-bochs-latest, options=fastboot
vgaromimage: file=$BXSHARE/VGABIOS-lgpl-latest
vga: extension=vbe, update_freq=1, realtime=0
boot: cdrom
clock: sync=none, time0=946684800
cpu: model={model}, count={cpus}, ips={ips}, reset_on_triple_fault=0
ata0-master: type=cdrom, path=\"{iso}\", status=inserted
com1: enabled=1, mode=socket-server, dev=localhost:{port}
port_e9_hack: enabled=1
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
log: bochs.log
panic: action=fatal
error: action=report{silent}
info: action=ignore
debug: action=ignore
"
    )
}

/// Without commands of the caller: run. The debugger reads the next command when the machine stops in it, which is
/// the end.
fn script(debugger: &Debugger) -> String {
    match debugger {
        Debugger::Script(commands) => commands.join("\n") + "\nq\n",
        Debugger::Prompt => String::new(),
        _ => "c\nq\n".into(),
    }
}

/// Reads what the display "term" draws, and forgets it, as long as the emulator lives. Its terminal takes some 64 KiB that
/// nobody reads; then Bochs stands still where it draws.
pub fn drain_screen(stderr: &str) {
    let Some(path) = screen(stderr) else { return };
    // Not to become our terminal, and nothing is to be sent back as if it had been typed.
    let open = || {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut attributes = tcgetattr(&fd)?;
        attributes.make_raw();
        tcsetattr(&fd, OptionalActions::Now, &attributes)?;
        rustix::io::Result::Ok(File::from(fd))
    };
    if let Ok(mut screen) = open() {
        std::thread::spawn(move || {
            let mut drawn = [0; 4096];
            while let Ok(1..) = screen.read(&mut drawn) {}
        });
    }
}

/// The terminal that the display has opened.
fn screen(stderr: &str) -> Option<&str> {
    stderr.lines().find_map(|l| l.strip_prefix("Bochs connected to screen \"")?.strip_suffix('"'))
}

/// Bochs has no exit code for a machine that is switched off: it panics, and says why.
pub fn end(code: Option<i32>, stderr: &str) -> End {
    match code {
        Some(0) => End::Script,
        Some(1) if stderr.contains("ACPI control: soft power off") => End::PowerOff,
        Some(1) if stderr.contains("3rd (13) exception with no resolution") => End::Died("triple fault".into()),
        Some(n) => End::Died(format!("Bochs ended with code {n}: {}", reason(stderr))),
        None => End::Died("Bochs was killed".into()),
    }
}

/// The line of the error output that most likely says why.
fn reason(stderr: &str) -> &str {
    let mut lines = stderr.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("=="));
    let last = lines.clone().next_back().unwrap_or("it does not say why");
    lines.find(|l| l.contains("PANIC") || l.contains("error") || l.contains("rror:")).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    fn machine() -> Machine {
        let platform = Platform { ips: Some(7), cpus: 2, ..Platform::load("bochs").unwrap() };
        Machine { platform, iso: "/tmp/a b.iso".into(), dir: "/tmp".into(), port: 4242, debugger: Debugger::Off }
    }

    #[test]
    fn the_configuration_has_what_the_platform_says() {
        let text = bochsrc(&machine());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.contains(&"memory: guest=512, host=512"));
        assert!(lines.contains(&"com1: enabled=1, mode=socket-server, dev=localhost:4242"));
        assert!(lines.contains(&"ata0-master: type=cdrom, path=\"/tmp/a b.iso\", status=inserted"));
        assert!(lines.contains(&"cpu: model=corei7_haswell_4770, count=2, ips=7, reset_on_triple_fault=0"));
        assert!(lines.contains(&"error: action=report, cpu0=ignore, cpu1=ignore"));
    }

    #[test]
    fn scripts_end_in_quit() {
        assert_eq!(script(&Debugger::Off), "c\nq\n");
        assert_eq!(script(&Debugger::Prompt), "");
        assert_eq!(script(&Debugger::Script(vec!["pb 0x1000200".into(), "c".into()])), "pb 0x1000200\nc\nq\n");
    }

    #[test]
    fn the_terminal_of_the_display_is_found() {
        let said = "00000000000i[      ] reading configuration from bochsrc\n\
                    Bochs connected to screen \"/dev/pts/7\"\ncom1: waiting for client to connect\n";
        assert_eq!(screen(said), Some("/dev/pts/7"));
        assert_eq!(screen("com1: waiting"), None);
    }

    #[test]
    fn whatever_is_drawn_is_read() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let emulator = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&emulator).unwrap();
        unlockpt(&emulator).unwrap();
        let path = ptsname(&emulator, Vec::new()).unwrap().into_string().unwrap();
        drain_screen(&format!("Bochs connected to screen \"{path}\"\n"));
        let mut emulator = File::from(emulator);
        // Without a reader this stands still, half way.
        (0..100).for_each(|_| std::io::Write::write_all(&mut emulator, &[b'x'; 4096]).unwrap());
        rustix::io::ioctl_fionbio(&emulator, true).unwrap();
        assert!(emulator.read(&mut [0; 1]).is_err(), "nothing comes back as if it had been typed");
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(end(Some(1), ">>PANIC<< ACPI control: soft power off\n"), End::PowerOff);
        assert_eq!(end(Some(0), ""), End::Script);
        assert_eq!(
            end(Some(1), "exception(): 3rd (13) exception with no resolution"),
            End::Died("triple fault".into())
        );
        let End::Died(why) = end(Some(1), "====\n>>PANIC<< ROM: couldn't open\n====\n") else { panic!() };
        assert!(why.contains("couldn't open"), "{why}");
        assert!(matches!(end(None, ""), End::Died(_)));
    }
}
