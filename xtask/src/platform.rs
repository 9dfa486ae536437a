//! Platform files (`configs/platforms/*.toml`): an emulator, the machine that it emulates, and what that can do.
//!
//! Key types: [`Platform`], [`Presence`].

use crate::{kvm, packages, tree};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Which emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emulator {
    /// Bochs.
    Bochs,
    /// QEMU.
    Qemu,
}

impl Emulator {
    fn needs(self) -> &'static [packages::Need] {
        match self {
            Emulator::Bochs => packages::FOR_BOCHS,
            Emulator::Qemu => packages::FOR_QEMU,
        }
    }
}

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The emulator.
    #[default]
    Tcg,
    /// The host's CPU, by KVM.
    Kvm,
}

/// What the machine starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// The emulator's own BIOS.
    #[default]
    Bios,
    /// OVMF (QEMU).
    Uefi,
}

/// Whether a platform can be used here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Now.
    Present,
    /// When these packages are installed.
    NotInstalled(Vec<&'static str>),
    /// Not on this machine; why.
    Unfit(String),
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
    /// What executes the instructions (QEMU).
    #[serde(default)]
    pub accel: Accel,
    /// What the machine starts from.
    #[serde(default)]
    pub firmware: Firmware,
    /// The machine, in the emulator's own words (QEMU).
    #[serde(default = "pc")]
    pub machine: String,
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
    /// Why tests that do not name it do not run here. Without it, tests that name no platform run here.
    pub not: Option<String>,
    /// Why a test that hangs here is run once more: a defect of the emulator that strikes at random. The report names
    /// every test that needed it.
    pub second_try: Option<String>,
    /// What the machine can do, such as "vmx".
    pub can: Vec<String>,
}

/// QEMU's clock advances by a nanosecond with each instruction, and its TSC by a tick.
const COUNTED: [&str; 2] = ["-icount", "shift=0,sleep=off"];

fn pc() -> String {
    "pc".into()
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

    /// The same with a TSC that ticks once an instruction, where the emulator can do that. Bochs always does.
    pub fn counted(mut self) -> Platform {
        if self.emulator == Emulator::Qemu && self.accel == Accel::Tcg && !self.is_counted() {
            self.args.extend(COUNTED.map(String::from));
        }
        self
    }

    /// The same with more words for the kernel.
    pub fn with_kernel_words(mut self, words: &str) -> Platform {
        self.kernel_cmdline = format!("{} {words}", self.kernel_cmdline).trim().into();
        self
    }

    /// Whether a tick of its TSC is an executed instruction.
    pub fn is_counted(&self) -> bool {
        self.emulator == Emulator::Bochs || self.args.iter().any(|a| a == COUNTED[0])
    }

    /// What must be installed to run it.
    pub fn needs(&self) -> impl Iterator<Item = &'static packages::Need> {
        let firmware = if self.firmware == Firmware::Uefi { packages::FOR_UEFI } else { &[] };
        self.emulator.needs().iter().chain(firmware)
    }

    /// Whether it can be used here.
    pub fn presence(&self) -> Presence {
        if let (Accel::Kvm, Err(why)) = (self.accel, kvm::offered()) {
            return Presence::Unfit(why.to_string());
        }
        match packages::missing(self.needs()) {
            list if list.is_empty() => Presence::Present,
            list => Presence::NotInstalled(list),
        }
    }
}

/// All platforms.
pub fn all() -> Result<Vec<Platform>> {
    tree::toml_files("configs/platforms")?
        .into_iter()
        .map(|(name, path)| {
            let text = tree::read_text(&path)?;
            parse(name, &text).with_context(|| format!("reading {}", tree::shown(&path)))
        })
        .collect()
}

fn parse(name: String, text: &str) -> Result<Platform> {
    let p = Platform { name, ..toml::from_str(text)? };
    let plain = p.accel == Accel::Tcg && p.firmware == Firmware::Bios && p.machine == pc() && p.args.is_empty();
    ensure!(p.emulator == Emulator::Qemu || plain, "`accel`, `firmware`, `machine` and `args` are for QEMU only");
    ensure!(p.cpus > 0, "`cpus` is 0: a machine has one at least");
    Ok(p)
}

/// The platform asked for, if it can be used here; or the best one: lowest rank first, and one whose emulator is
/// installed before one whose is not.
pub fn choose(asked: Option<&str>) -> Result<Platform> {
    match asked {
        Some(name) => Platform::load(name).and_then(|p| usable(p, Platform::presence)),
        None => best(all()?, Platform::presence).context("no platform has a rank; choose one with --on"),
    }
}

fn usable(p: Platform, presence: impl Fn(&Platform) -> Presence) -> Result<Platform> {
    match presence(&p) {
        Presence::Unfit(why) => bail!("the platform {} cannot be used on this machine: {why}", p.name),
        _ => Ok(p),
    }
}

fn best(platforms: Vec<Platform>, presence: impl Fn(&Platform) -> Presence) -> Option<Platform> {
    let ranked = platforms.into_iter().filter(|p| p.rank.is_some()).map(|p| (presence(&p), p));
    let fit = ranked.filter(|(presence, _)| !matches!(presence, Presence::Unfit(_)));
    fit.min_by_key(|(presence, p)| (*presence != Presence::Present, p.rank)).map(|(_, p)| p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(name: &str, rank: Option<u32>) -> Platform {
        Platform {
            name: name.into(),
            about: String::new(),
            emulator: Emulator::Bochs,
            accel: Accel::Tcg,
            firmware: Firmware::Bios,
            machine: pc(),
            model: String::new(),
            memory_mib: 1,
            cpus: 1,
            rank,
            args: vec![],
            ips: None,
            kernel_cmdline: String::new(),
            not: None,
            second_try: None,
            can: vec![],
        }
    }

    #[test]
    fn the_best_present_platform_is_chosen() {
        let all = || vec![platform("c", None), platform("b", Some(2)), platform("a", Some(1))];
        let to_install = || Presence::NotInstalled(vec!["x"]);
        let pick = |presence: &dyn Fn(&Platform) -> Presence| best(all(), presence).unwrap().name;
        assert_eq!(pick(&|_| Presence::Present), "a");
        assert_eq!(pick(&|p| if p.name == "a" { to_install() } else { Presence::Present }), "b");
        assert_eq!(pick(&|_| to_install()), "a");
        assert_eq!(pick(&|p| if p.name == "a" { Presence::Unfit("no KVM".into()) } else { to_install() }), "b");
        assert!(best(vec![platform("c", None)], |_| Presence::Present).is_none());
        assert!(best(all(), |_| Presence::Unfit(String::new())).is_none());
    }

    #[test]
    fn what_cannot_work_here_is_refused_with_the_reason() {
        let e = usable(platform("kvm", None), |_| Presence::Unfit("neither".into())).unwrap_err().to_string();
        assert!(e.contains("kvm") && e.contains("neither"), "{e}");
        usable(platform("bochs", None), |_| Presence::NotInstalled(vec!["bochs"])).unwrap();
    }

    #[test]
    fn words_for_the_kernel_come_behind_those_of_the_file() {
        let p = platform("p", None).with_kernel_words("").with_kernel_words("no-a no-b").with_kernel_words("no-c");
        assert_eq!(p.kernel_cmdline, "no-a no-b no-c");
    }

    #[test]
    fn contradictions_in_a_file_are_told() {
        let with = |more: &str| {
            let text = format!("about = ''\nemulator = 'bochs'\nmodel = ''\nmemory_mib = 1\ncan = []\n{more}");
            parse("p".into(), &text)
        };
        assert_eq!(with("").unwrap().cpus, 1);
        for of_qemu in ["accel = 'kvm'", "firmware = 'uefi'", "machine = 'q35'", "args = ['-x']"] {
            assert!(with(of_qemu).unwrap_err().to_string().contains("QEMU only"));
        }
        assert!(with("cpus = 0").unwrap_err().to_string().contains("at least"));
        assert!(format!("{:#}", with("kpus = 0").unwrap_err()).contains("kpus"));
    }

    #[test]
    fn the_files_are_valid_and_have_an_order() {
        let pick = |unfit: &[&str]| {
            let presence = |p: &Platform| match unfit.contains(&p.name.as_str()) {
                true => Presence::Unfit(String::new()),
                false => Presence::Present,
            };
            best(all().unwrap(), presence).unwrap().name
        };
        assert_eq!([pick(&[]), pick(&["kvm"]), pick(&["kvm", "bochs"])], ["kvm", "bochs", "qemu"]);
    }

    #[test]
    fn instructions_are_counted_where_that_can_be() {
        let counted = |name| Platform::load(name).unwrap().counted();
        assert!(counted("qemu").is_counted() && !Platform::load("qemu").unwrap().is_counted());
        assert_eq!(counted("qemu").counted(), counted("qemu"));
        assert_eq!(counted("bochs"), Platform::load("bochs").unwrap());
        assert!(counted("bochs").is_counted() && !counted("kvm").is_counted());
    }

    #[test]
    fn uefi_needs_a_package_more() {
        let needs = |name| Platform::load(name).unwrap().needs().map(|n| n.package).collect::<Vec<_>>();
        assert!(needs("qemu-uefi").contains(&"ovmf") && !needs("qemu").contains(&"ovmf"));
    }

    #[test]
    fn unknown_platforms_name_the_known_ones() {
        let e = Platform::load("abacus").unwrap_err().to_string();
        assert!(e.contains("abacus") && e.contains("bochs"), "{e}");
    }
}
