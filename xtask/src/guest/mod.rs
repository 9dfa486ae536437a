//! Guests (`configs/guests/*.toml`; its README is the reference): where their kernels come from, and how one takes the
//! place of the guest that a system file has.
//!
//! Key types: [`Guest`], [`Kernel`]. [`initramfs`] makes what Linux guests have in common.

mod ext2;
mod initramfs;
mod kernel;
mod realmode;

use crate::system::System;
use crate::{build, inits, tree};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use toml::{Table, Value};

pub use kernel::Kernel;

/// The default guest.
const DEFAULT: &str = "debian";
/// Name of the ROM with the initial RAM disk.
const INITRAMFS: &str = "initramfs";

/// A guest: its kernel, and the configuration of its virtual machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// Where the ROM that `config.kernel` names comes from.
    kernel: Kernel,
    /// The `config` table of a VMM, which checks it when it runs.
    config: Table,
}

impl Guest {
    /// `configs/guests/<name>.toml`.
    pub fn load(name: &str) -> Result<Guest> {
        let all = all()?;
        let known: Vec<_> = all.iter().map(|(n, _)| n.clone()).collect();
        let found = all.into_iter().find(|(n, _)| n == name).map(|(_, guest)| guest);
        found.with_context(|| format!("there is no guest {name:?}; configs/guests has: {}", known.join(", ")))
    }

    fn parse(text: &str) -> Result<Guest> {
        let guest: Guest = toml::from_str(text)?;
        ensure!(guest.text("kernel").is_some(), "config.kernel: no name of a ROM");
        Ok(guest)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.config.get(key).and_then(Value::as_str)
    }

    /// Kernel, initial RAM disk and modules, which may have arguments.
    fn roms(&self) -> Vec<Value> {
        let modules = self.config.get("modules").and_then(Value::as_array).into_iter().flatten();
        let names = ["kernel", "initrd"].iter().filter_map(|k| self.text(k)).chain(modules.filter_map(Value::as_str));
        names.filter_map(|n| n.split_whitespace().next()).map(Value::from).collect()
    }

    /// The system with this guest in place of that of its first VMM, which gets as much RAM beyond the guest's as it had.
    pub fn put_into(&self, system: &System) -> Result<System> {
        let mut file: Table = toml::from_str(&system.text)?;
        let components = file.get_mut("component").and_then(Value::as_array_mut).into_iter().flatten();
        let vmm = components
            .filter_map(Value::as_table_mut)
            .find(|c| c.get("binary").is_some_and(|b| b.as_str() == Some("vmm")));
        let vmm = vmm.context("the system has no component with the binary vmm: no guest can be put into it")?;
        let own = mib(vmm.get("ram")).zip(mib(vmm.get("config").and_then(|c| c.get("ram"))));
        let (all, guest) = own.context("the system's VMM has no `ram` in M, or no `config.ram`")?;
        let ram = mib(self.config.get("ram")).context("config.ram of the guest is not in M")?;
        vmm.insert("ram".into(), format!("{}M", ram + all.saturating_sub(guest)).into());
        // What it takes the guest's from.
        if let Some(spare) = mib(vmm.get("spare")) {
            vmm.insert("spare".into(), format!("{}M", ram + spare.saturating_sub(guest)).into());
        }
        vmm.insert("roms".into(), self.roms().into());
        vmm.insert("config".into(), self.config.clone().into());
        System::parse(toml::to_string(&file)?)
    }
}

/// `configs/systems/<name>.toml`, with a guest of `configs/guests` in place of its own if one is given.
pub fn system(name: &str, guest: Option<&str>) -> Result<System> {
    let system = System::load(name)?;
    match guest {
        None => Ok(system),
        Some(guest) => Guest::load(guest)?.put_into(&system).with_context(|| format!("guest {guest:?} in {name:?}")),
    }
}

/// A size such as "256M", in MiB.
fn mib(value: Option<&Value>) -> Option<u64> {
    value?.as_str()?.strip_suffix('M')?.parse().ok()
}

fn all() -> Result<Vec<(String, Guest)>> {
    let read = |(name, path): (String, PathBuf)| {
        let guest =
            Guest::parse(&tree::read_text(&path)?).with_context(|| format!("reading {}", tree::shown(&path)))?;
        Ok((name, guest))
    };
    tree::toml_files("configs/guests")?.into_iter().map(read).collect()
}

/// What a Linux guest boots from.
pub struct Linux {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial root file system.
    pub initramfs: PathBuf,
}

/// Fetches and makes what the default guest needs.
pub fn linux() -> Result<Linux> {
    Ok(Linux { kernel: Guest::load(DEFAULT)?.kernel.file()?, initramfs: initramfs::make()? })
}

/// The file behind the name of a ROM; made if it is not there.
pub fn rom(name: &str) -> Result<PathBuf> {
    match name {
        INITRAMFS => return initramfs::make(),
        "testkernel" => return build::test_kernel(),
        "realmode" => return realmode::make(),
        "ext2" => return ext2::make(),
        _ => {}
    }
    if let Some(config) = inits::file(name) {
        return Ok(config);
    }
    let guests = all()?;
    let mut kernels = guests.iter().filter_map(|(_, g)| Some((g.text("kernel")?, &g.kernel)));
    match kernels.find(|(n, _)| *n == name) {
        Some((_, kernel)) => kernel.file().with_context(|| format!("making the ROM {name:?}")),
        None => bail!("nothing makes a ROM {name:?}; there are {}", Vec::from_iter(roms()?).join(", ")),
    }
}

/// The names of ROMs that can be made.
pub fn roms() -> Result<BTreeSet<String>> {
    let guests = all()?;
    let kernels = guests.iter().filter_map(|(_, g)| g.text("kernel"));
    let made = kernels.chain([INITRAMFS, "ext2", "realmode", "testkernel"]).map(String::from);
    Ok(made.chain(inits::all()?.into_keys()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rom_has_the_same_source_in_all_guests() {
        let all = all().unwrap();
        for (name, guest) in &all {
            for (other, g) in all.iter().filter(|(_, g)| g.text("kernel") == guest.text("kernel")) {
                assert_eq!(g.kernel, guest.kernel, "{name} and {other}");
            }
        }
        assert_eq!(Guest::load(DEFAULT).unwrap().text("kernel"), Some("bzImage"), "the name that system files use");
    }

    #[test]
    fn every_guest_fits_into_the_default_system() {
        let system = System::load("linux").unwrap();
        for (name, guest) in all().unwrap() {
            let with = guest.put_into(&system).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            assert!(with.roms.starts_with(&[guest.text("kernel").unwrap().to_owned()]), "{name}");
            assert!(with.roms.ends_with(&[INITRAMFS.to_owned()]), "{name}");
            assert_eq!(with.binaries, system.binaries);
        }
    }

    #[test]
    fn a_guest_takes_the_place_of_the_first_vmms() {
        let text = "[[component]]\nname='a'\nbinary='x'\n[[component]]\nname='vm'\nbinary='vmm'\nram='70M'\nspare='66M'\nroms=['k']\n\
                    config={ram='64M',kernel='k',vcpus=2}\n[[component]]\nname='w'\nbinary='vmm'\nram='70M'\nroms=['k']\n";
        let guest = "kernel={package='p'}\n[config]\nram='128M'\nkernel='z'\nvcpus=1\nmodules=['m a=1']\n";
        let with = Guest::parse(guest).unwrap().put_into(&System::parse(text.into()).unwrap()).unwrap();
        let file: Table = toml::from_str(&with.text).unwrap();
        let vm = &file["component"][1];
        assert_eq!(vm["spare"].as_str(), Some("130M"));
        assert_eq!((vm["ram"].as_str(), vm["roms"].as_array().map(Vec::len)), (Some("134M"), Some(2)));
        assert_eq!((vm["config"]["kernel"].as_str(), vm["config"]["vcpus"].as_integer()), (Some("z"), Some(1)));
        assert_eq!(
            (with.roms, with.binaries),
            (["z", "m", "k"].map(String::from).to_vec(), vec!["x".to_owned(), "vmm".to_owned()])
        );
    }

    #[test]
    fn what_cannot_be_put_together_is_refused() {
        let guest = Guest::parse("kernel={package='p'}\n[config]\nram='128M'\nkernel='z'\n").unwrap();
        let none = System::parse("[[component]]\nname='a'\nbinary='x'\n".into()).unwrap();
        assert!(guest.put_into(&none).unwrap_err().to_string().contains("no component with the binary vmm"));
        assert!(
            Guest::parse("kernel={package='p'}\n[config]\nram='1M'\n")
                .unwrap_err()
                .to_string()
                .contains("config.kernel")
        );
        assert!(Guest::parse("kernel={package='p', from='x'}\n[config]\nkernel='z'\n").is_err());
        let e = Guest::load("no-such-guest").unwrap_err().to_string();
        assert!(e.contains("no-such-guest") && e.contains("debian-full"), "{e}");
        let e = rom("no-such-rom").unwrap_err().to_string();
        assert!(e.contains("there are bzImage, "), "{e}");
    }
}
