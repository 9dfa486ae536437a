//! Platform files (`configs/platforms/*.toml`): an emulator, the machine that it emulates, and what that can do.

use crate::{packages, tree};
use anyhow::{Context, Result};
use serde::Deserialize;

/// Which emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emulator {
    /// Bochs.
    Bochs,
    /// QEMU with TCG.
    Qemu,
}

impl Emulator {
    /// What must be installed to run it.
    pub fn needs(self) -> &'static [packages::Need] {
        match self {
            Emulator::Bochs => packages::FOR_BOCHS,
            Emulator::Qemu => packages::FOR_QEMU,
        }
    }
}

/// A platform.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Name of its file.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub about: String,
    /// The emulator.
    pub emulator: Emulator,
    /// The CPU model, in the emulator's own words.
    pub model: String,
    /// RAM of the machine.
    pub memory_mib: u32,
    /// Emulated processors.
    #[serde(default = "one")]
    pub cpus: u32,
    /// Order of choice when none is asked for, lowest first; without it, only on request.
    pub rank: Option<u32>,
    /// More arguments of the emulator (QEMU).
    #[serde(default)]
    pub args: Vec<String>,
    /// Instructions a second that the emulated clock assumes (Bochs).
    pub ips: Option<u32>,
    /// Command line of the kernel.
    #[serde(default)]
    pub kernel_cmdline: String,
    /// What the machine can do, such as "vmx".
    pub can: Vec<String>,
}

fn one() -> u32 {
    1
}

impl Platform {
    /// `configs/platforms/<name>.toml`.
    pub fn load(name: &str) -> Result<Platform> {
        let all = all()?;
        let names = all.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        all.iter()
            .find(|p| p.name == name)
            .cloned()
            .with_context(|| format!("there is no platform {name:?}; configs/platforms has: {names}"))
    }

    /// Packages that are not installed and that it needs.
    pub fn absent(&self) -> Vec<&'static str> {
        packages::missing(self.emulator.needs())
    }
}

/// All platforms.
pub fn all() -> Result<Vec<Platform>> {
    tree::toml_files("configs/platforms")?
        .into_iter()
        .map(|(name, path)| {
            let text = tree::read_text(&path)?;
            let p: Platform = toml::from_str(&text).with_context(|| format!("reading {}", tree::shown(&path)))?;
            Ok(Platform { name, ..p })
        })
        .collect()
}

/// The platform asked for, or the best one: lowest rank first, and one whose emulator is installed before one whose
/// is not.
pub fn choose(asked: Option<&str>) -> Result<Platform> {
    match asked {
        Some(name) => Platform::load(name),
        None => best(all()?, |p| p.absent().is_empty()).context("no platform has a rank; choose one with --on"),
    }
}

fn best(platforms: Vec<Platform>, is_present: impl Fn(&Platform) -> bool) -> Option<Platform> {
    platforms.into_iter().filter(|p| p.rank.is_some()).min_by_key(|p| (!is_present(p), p.rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(name: &str, rank: Option<u32>) -> Platform {
        Platform {
            name: name.into(),
            about: String::new(),
            emulator: Emulator::Bochs,
            model: String::new(),
            memory_mib: 1,
            cpus: 1,
            rank,
            args: vec![],
            ips: None,
            kernel_cmdline: String::new(),
            can: vec![],
        }
    }

    #[test]
    fn the_best_present_platform_is_chosen() {
        let all = || vec![platform("c", None), platform("b", Some(2)), platform("a", Some(1))];
        let pick = |present: fn(&Platform) -> bool| best(all(), present).unwrap().name;
        assert_eq!(pick(|_| true), "a");
        assert_eq!(pick(|p| p.name != "a"), "b");
        assert_eq!(pick(|_| false), "a", "to be installed");
        assert!(best(vec![platform("c", None)], |_| true).is_none());
    }

    #[test]
    fn the_files_are_valid_and_bochs_comes_first() {
        let all = all().unwrap();
        assert!(all.iter().any(|p| p.name == "qemu"));
        assert_eq!(best(all, |_| true).unwrap().name, "bochs");
    }

    #[test]
    fn unknown_platforms_name_the_known_ones() {
        let e = Platform::load("abacus").unwrap_err().to_string();
        assert!(e.contains("abacus") && e.contains("bochs"), "{e}");
    }
}
