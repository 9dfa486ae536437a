//! Debug sessions: gdb on the stub of QEMU, with the symbols of the kernel and of one component at a time.
//!
//! The kernel is linked to the top 2 GiB and stays there wherever the loader puts it in physical memory, so its symbols
//! hold as they are; only the few instructions before paging run elsewhere. All components are linked to the same
//! addresses: the script's command `component NAME` chooses whose symbols count.
//!
//! Key types: [`Symbols`].

use crate::build::{Binary, ROOT_TASK};
use crate::{exec, tree};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often we look whether gdb has ended.
const POLL: Duration = Duration::from_millis(50);

/// The linked binaries of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// The kernel.
    pub kernel: PathBuf,
    /// The folder that holds the root task and the components.
    pub components: PathBuf,
    /// Their names.
    pub names: Vec<String>,
}

impl Symbols {
    /// Those of a system of that kernel, root task and components.
    pub fn of(kernel: &Binary, root_task: &Binary, components: impl Iterator<Item = String>) -> Symbols {
        let names = std::iter::once(ROOT_TASK.to_owned()).chain(components).collect();
        let components = root_task.linked.parent().unwrap_or(Path::new(".")).to_path_buf();
        Symbols { kernel: kernel.linked.clone(), components, names }
    }

    /// gdb's script: symbols, the connection, and the command to choose a component.
    fn script(&self, port: u16) -> String {
        let mut s = String::from("set confirm off\nset architecture i386:x86-64\n");
        let _ = writeln!(s, "exec-file {0}\nadd-symbol-file {0}", self.kernel.display());
        let _ = writeln!(s, "define component\n  symbol-file {}/$arg0\nend", self.components.display());
        let _ = writeln!(s, "document component\ncomponent NAME: symbols of a component, instead of another's.");
        let _ = writeln!(s, "NAME: {}\nend", self.names.join(", "));
        let _ = writeln!(s, "target remote 127.0.0.1:{port}");
        let _ = writeln!(s, "echo Stopped before the first instruction. Kernel: `hbreak kernel_main`, `continue`.\\n");
        let _ = writeln!(s, "echo `component NAME` adds a component's symbols: {}.\\n", self.names.join(", "));
        s
    }

    /// Writes the script into the machine's directory. Returns its path.
    pub fn write_script(&self, dir: &Path, port: u16) -> Result<PathBuf> {
        let path = dir.join("gdb");
        std::fs::write(&path, self.script(port)).with_context(|| format!("writing {}", tree::shown(&path)))?;
        Ok(path)
    }
}

/// gdb with the script; it dies with us.
fn gdb(script: &Path, more: &[&str]) -> Command {
    let mut c = exec::command("setpriv");
    // Nothing of the user's settings: what the guide says must hold.
    c.args(["--pdeathsig", "KILL", "gdb", "-q", "-nx"]).args(more).arg("-x").arg(script);
    c.current_dir(tree::root());
    c
}

/// The command for another terminal, to be typed in the root of the workspace.
pub fn command_line(script: &Path) -> String {
    format!("gdb -q -x {}", tree::shown(script))
}

/// gdb on the user's terminal, until the user leaves it.
pub fn interactive(script: &Path) -> Result<()> {
    gdb(script, &[]).stdin(Stdio::inherit()).status().context("starting gdb").map(drop)
}

/// gdb with these commands; all that it printed.
pub fn batch(script: &Path, commands: &[String], deadline: Instant) -> Result<String> {
    let out = script.with_extension("out");
    let file = File::create(&out)?;
    let mut c = gdb(script, &["-batch"]);
    for line in commands {
        c.args(["-ex", line]);
    }
    let mut child = c.stdout(file.try_clone()?).stderr(file).spawn().context("starting gdb")?;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            child.wait()?;
            bail!("gdb did not end in time; it printed:\n{}", tree::read_text(&out)?);
        }
        std::thread::sleep(POLL);
    }
    tree::read_text(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> Symbols {
        let binary = |linked: &str| Binary { linked: linked.into(), image: "/i".into() };
        Symbols::of(&binary("/k/hypervisor"), &binary("/c/debug/core-task"), ["vmm".to_owned()].into_iter())
    }

    #[test]
    fn the_script_knows_all_symbols_and_the_port() {
        let text = symbols().script(4321);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.contains(&"add-symbol-file /k/hypervisor"));
        assert!(lines.contains(&"  symbol-file /c/debug/$arg0"));
        assert!(lines.contains(&"target remote 127.0.0.1:4321"));
        assert!(text.contains("core-task, vmm"));
    }

    #[test]
    fn the_script_is_named_as_typed() {
        assert_eq!(command_line(&tree::build("run/1/gdb")), "gdb -q -x build/run/1/gdb");
    }
}
