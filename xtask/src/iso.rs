//! The boot image: a GRUB ISO for BIOS and UEFI machines with our kernel and its modules, or with a bare Linux (to compare
//! with).

use crate::progress::Step;
use crate::{exec, tree};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// GRUB for UEFI looks for all of these, and complains of each that is not there.
const PARTITIONS: &str =
    "part_acorn part_amiga part_apple part_bsd part_dfly part_dvh part_gpt part_msdos part_plan part_sun part_sunpc";

/// A Multiboot-2 module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The string that the root task knows it by.
    pub name: String,
    /// Its content.
    pub file: PathBuf,
}

/// What GRUB boots.
pub enum Payload {
    /// Our kernel.
    Hypervisor {
        /// The kernel.
        kernel: PathBuf,
        /// Its command line.
        cmdline: String,
        /// The first is the root task.
        modules: Vec<Module>,
        /// A MADT that takes the place of the firmware's.
        madt: Option<PathBuf>,
    },
    /// Linux on the bare machine.
    Linux {
        /// The bzImage.
        kernel: PathBuf,
        /// The initial root file system.
        initramfs: PathBuf,
        /// Its command line.
        cmdline: String,
    },
}

impl Payload {
    /// Files in the image: (path in it, file here).
    fn files(&self) -> Vec<(String, &Path)> {
        match self {
            Payload::Hypervisor { kernel, modules, madt, .. } => [("boot/hypervisor".to_owned(), &**kernel)]
                .into_iter()
                .chain(madt.iter().map(|m| ("boot/madt".to_owned(), &**m)))
                .chain(modules.iter().enumerate().map(|(i, m)| (module_path(i, &m.name), &*m.file)))
                .collect(),
            Payload::Linux { kernel, initramfs, .. } => {
                vec![("boot/bzImage".to_owned(), kernel), ("boot/initramfs".to_owned(), initramfs)]
            }
        }
    }

    /// GRUB's script.
    fn grub_cfg(&self) -> String {
        let mut s = String::from("set timeout=0\nset default=0\nmenuentry \"Ferronova\" {\n");
        match self {
            Payload::Hypervisor { cmdline, modules, madt, .. } => {
                if madt.is_some() {
                    s.push_str("    acpi --exclude=APIC /boot/madt\n");
                }
                let _ = writeln!(s, "    multiboot2 {}", join("/boot/hypervisor", cmdline));
                for (i, m) in modules.iter().enumerate() {
                    let _ = writeln!(s, "    module2 /{} {}", module_path(i, &m.name), m.name);
                }
            }
            Payload::Linux { cmdline, .. } => {
                let _ = writeln!(s, "    linux {}", join("/boot/bzImage", cmdline));
                s.push_str("    initrd /boot/initramfs\n");
            }
        }
        s.push_str("}\n");
        s
    }

    fn grub_modules(&self) -> String {
        let loader = match self {
            Payload::Hypervisor { .. } => "multiboot2 acpi",
            Payload::Linux { .. } => "linux",
        };
        format!("{loader} normal iso9660 {PARTITIONS}")
    }
}

/// Numbered, so that two modules of one name, or a name that is no file name, are no matter.
fn module_path(index: usize, name: &str) -> String {
    let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("boot/{index:02}-{safe}")
}

fn join(path: &str, cmdline: &str) -> String {
    if cmdline.is_empty() { path.to_owned() } else { format!("{path} {cmdline}") }
}

/// Makes the image at `iso`.
pub fn make(payload: &Payload, iso: &Path, step: &Step) -> Result<()> {
    let staging = tree::scratch(&iso.with_extension("tree"));
    let _ = std::fs::remove_dir_all(&staging);
    let new = tree::scratch(iso);
    for (path, file) in payload.files() {
        place(file, &staging.join(path))?;
    }
    std::fs::create_dir_all(staging.join("boot/grub"))?;
    std::fs::write(staging.join("boot/grub/grub.cfg"), payload.grub_cfg())?;
    let mut c = exec::command("grub-mkrescue");
    // No -d: GRUB for all firmware that is installed, packages::FOR_IMAGES at least.
    c.args(["--fonts=", "--themes=", "--locales="]);
    c.arg(format!("--install-modules={}", payload.grub_modules()));
    exec::run(c.arg("-o").arg(&new).arg(&staging), step)?;
    std::fs::remove_dir_all(&staging)?;
    tree::publish(&new, iso)
}

/// A hard link where possible: modules are large and there are many images.
fn place(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to.parent().context("no parent directory")?)?;
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).with_context(|| format!("copying {} into the image", tree::shown(from)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str) -> Module {
        Module { name: name.into(), file: format!("/x/{name}").into() }
    }

    #[test]
    fn grub_gets_kernel_then_modules_with_their_names() {
        let p = Payload::Hypervisor {
            kernel: "/k".into(),
            cmdline: "serial".into(),
            modules: vec![module("core"), module("bzImage")],
            madt: None,
        };
        let cfg = p.grub_cfg();
        let lines: Vec<_> = cfg.lines().map(str::trim).collect();
        assert!(lines.contains(&"set timeout=0"));
        assert_eq!(
            lines[3..6],
            ["multiboot2 /boot/hypervisor serial", "module2 /boot/00-core core", "module2 /boot/01-bzImage bzImage"]
        );
        assert_eq!(p.files()[1], ("boot/00-core".into(), Path::new("/x/core")));
    }

    #[test]
    fn linux_gets_its_own_commands() {
        let p = Payload::Linux { kernel: "/k".into(), initramfs: "/i".into(), cmdline: "console=ttyS0".into() };
        assert!(p.grub_cfg().contains("    linux /boot/bzImage console=ttyS0\n    initrd /boot/initramfs\n"));
        assert!(p.grub_modules().starts_with("linux "));
    }

    #[test]
    fn names_become_safe_paths() {
        assert_eq!(module_path(3, "../a b"), "boot/03-___a_b");
        assert_eq!(join("/k", ""), "/k");
    }
}
