//! Emulators: how each is started, and what its end means.

pub mod bochs;
pub mod qemu;

use crate::exec;
use crate::platform::{Emulator, Platform};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

/// A machine to be started.
pub struct Machine {
    /// CPUs, RAM and so on.
    pub platform: Platform,
    /// What it boots.
    pub iso: PathBuf,
    /// Directory for the emulator's files.
    pub dir: PathBuf,
    /// TCP port on which the emulator offers COM1, and waits for us before it starts the machine.
    pub port: u16,
    /// What a debugger is to do.
    pub debugger: Debugger,
}

/// What a debugger is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Debugger {
    /// Nothing.
    #[default]
    Off,
    /// These commands of Bochs' own debugger.
    Script(Vec<String>),
    /// Bochs' own debugger waits for commands on its standard input.
    Prompt,
    /// QEMU waits for gdb on this TCP port before the first instruction.
    Gdb(u16),
    /// QEMU's monitor is on this TCP port.
    Monitor(u16),
}

/// Why an emulator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The machine switched itself off.
    PowerOff,
    /// The debugger script came to its end.
    Script,
    /// Anything else; why, as far as the emulator says.
    Died(String),
}

impl Machine {
    /// Writes the emulator's files, and makes the command. The emulator dies with us: it gets SIGKILL when the
    /// thread that starts it ends.
    pub fn command(&self) -> Result<Command> {
        let mut c = exec::command("setpriv");
        c.args(["--pdeathsig", "KILL"]).current_dir(&self.dir);
        match (self.platform.emulator, &self.debugger) {
            (Emulator::Bochs, Debugger::Gdb(_)) => {
                bail!("Debian's Bochs has no stub for gdb, but a debugger of its own: see docs/guide/debug.md")
            }
            (Emulator::Bochs, Debugger::Monitor(_)) => bail!("only QEMU has a monitor"),
            (Emulator::Qemu, Debugger::Script(_) | Debugger::Prompt) => bail!("only Bochs has a debugger of its own"),
            (Emulator::Bochs, _) => bochs::prepare(self, &mut c)?,
            (Emulator::Qemu, _) => qemu::prepare(self, &mut c)?,
        }
        Ok(c)
    }

    /// What there is to do once the emulator offers its serial line, where it has said what it says at its start.
    pub fn started(&self, stderr: &str) {
        match self.platform.emulator {
            Emulator::Bochs => bochs::drain_screen(stderr),
            Emulator::Qemu => {}
        }
    }

    /// What the emulator's end means.
    pub fn end(&self, status: ExitStatus, stderr: &str) -> End {
        match self.platform.emulator {
            Emulator::Bochs => bochs::end(status.code(), stderr),
            Emulator::Qemu => qemu::end(status.code(), stderr),
        }
    }
}
