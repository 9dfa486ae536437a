//! Scenarios: tests of a whole system as data (`tests/system/*.toml`; `tests/system/README.md` is the reference).
//!
//! Key types: [`Scenario`], [`Step`], [`Edit`]. [`crate::trial`] runs them.

use crate::build::Flavour;
use crate::platform::Platform;
use crate::system::System;
use crate::{guest, tree};
use anyhow::{Context, Result, ensure};
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::Path;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of its file, and `@PLATFORM`.
    #[serde(skip)]
    pub name: String,
    /// Name of its file.
    #[serde(skip)]
    pub base: String,
    /// What it shows, in a line.
    pub about: String,
    /// Tags of docs/spec of what it shows; [`crate::spec`] reads them in the file.
    #[serde(rename = "spec")]
    _spec: Option<String>,
    /// A file of `configs/systems`; else `parts` and `text` are the system file.
    system: Option<String>,
    /// Package of a root task of its own, which takes the place of ours and needs no system file.
    pub root: Option<String>,
    /// A file of `configs/guests` that takes the place of the system's guest.
    guest: Option<String>,
    /// With `system`: words for the end of each guest's command line.
    cmdline: Option<String>,
    /// Files of `tests/system/parts`, put before `text`.
    #[serde(default)]
    parts: Vec<String>,
    #[serde(default)]
    text: String,
    /// Boot modules, if they cannot be taken from the system file because it is wrong on purpose.
    modules: Option<Vec<String>>,
    /// The platforms; each makes a test of its own.
    #[serde(default = "everywhere")]
    platforms: Vec<String>,
    /// Why it does not run on a platform, by the platform's name.
    #[serde(default)]
    pub not: BTreeMap<String, String>,
    /// Identifiers of local APICs that the MADT is to claim, whatever processors there are.
    pub processors: Option<Vec<u8>>,
    /// RAM of the machine, if not what the platform file says.
    memory_mib: Option<u32>,
    /// The platform of this test.
    #[serde(skip)]
    pub platform: String,
    /// It runs the perf suite, whose rows must keep the limits of `perf/budgets.toml`: instructions are counted.
    #[serde(default)]
    pub budgets: bool,
    /// Words for the end of the kernel's command line.
    #[serde(default)]
    kernel_cmdline: String,
    /// A kernel built for tests.
    kernel: Option<TestKernel>,
    /// Bound of the whole run.
    pub timeout_s: u64,
    /// Changes to boot modules.
    #[serde(default, rename = "module")]
    pub edits: Vec<Edit>,
    /// What is waited for and typed, in order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// A session with gdb, before the steps: the machine stands before its first instruction.
    pub gdb: Option<Gdb>,
    /// Failures that are known and not mended.
    #[serde(default)]
    known: Vec<Known>,
    /// What the screen must show at once after the steps, in text mode (QEMU).
    #[serde(default, deserialize_with = "patterns")]
    pub screen: Vec<Regex>,
    /// How it ends.
    pub end: Ending,
}

fn everywhere() -> Vec<String> {
    vec!["bochs".into(), "qemu".into()]
}

/// Kernels that are built for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TestKernel {
    /// Its allocations can be made to fail.
    Inject,
}

/// How the run must end after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The machine switches itself off.
    PowerOff,
    /// It goes on running.
    Running,
}

/// A session with gdb.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gdb {
    /// Its commands.
    pub commands: Vec<String>,
    /// What its output must hold, in this order.
    #[serde(deserialize_with = "patterns")]
    pub expect: Vec<Regex>,
}

/// ELF64, as the linker lays it out: program headers behind the header.
mod elf {
    pub const HEADER: usize = 64;
    pub const PROGRAM_HEADER: usize = 56;
    /// PT_LOAD.
    pub const LOAD: [u8; 4] = [1, 0, 0, 0];
}

/// A change to one boot module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Name of the module.
    pub name: String,
    /// Leave it out.
    #[serde(default)]
    pub remove: bool,
    /// Keep only the first bytes.
    pub keep_bytes: Option<usize>,
    /// This text instead.
    pub text: Option<String>,
    /// As many zero bytes instead.
    pub zero_bytes: Option<usize>,
    /// A byte of the header of its first segment to load (ELF64) that changes: offset there, value.
    pub segment: Option<(usize, u8)>,
}

impl Edit {
    /// The new content, made from the old; `None`: there is no such module any more.
    pub fn apply(&self, old: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Edit { remove: true, .. } => None,
            Edit { text: Some(t), .. } => Some(t.clone().into_bytes()),
            Edit { zero_bytes: Some(n), .. } => Some(vec![0; *n]),
            Edit { keep_bytes: Some(n), .. } => Some(old[..old.len().min(*n)].to_vec()),
            Edit { segment: Some((at, byte)), .. } => {
                let mut new = old;
                let headers = (elf::HEADER..new.len()).step_by(elf::PROGRAM_HEADER);
                let load = headers.into_iter().find(|h| new[*h..].starts_with(&elf::LOAD))?;
                new.get_mut(load + at).map(|b| *b = *byte)?;
                Some(new)
            }
            Edit { .. } => Some(old),
        }
    }

    fn changes(&self) -> usize {
        let (keep, zero) = (self.keep_bytes.is_some(), self.zero_bytes.is_some());
        let options = [keep, zero, self.text.is_some(), self.segment.is_some(), self.remove];
        options.iter().filter(|o| **o).count()
    }
}

/// A step: wait for `expect`, check that `never` has not come up to there, type `send`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Must come after what the steps before matched.
    #[serde(default, deserialize_with = "pattern")]
    pub expect: Option<Regex>,
    /// Must not be anywhere in the text so far.
    #[serde(default, deserialize_with = "pattern")]
    pub never: Option<Regex>,
    /// Text to type.
    pub send: Option<String>,
}

/// `^` and `$` match at lines, whose ends may be CR LF.
fn pattern<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Regex>, D::Error> {
    line(d).map(Some)
}

fn line<'de, D: Deserializer<'de>>(d: D) -> Result<Regex, D::Error> {
    let text = String::deserialize(d)?;
    RegexBuilder::new(&text).multi_line(true).crlf(true).build().map_err(serde::de::Error::custom)
}

fn patterns<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Regex>, D::Error> {
    let texts = Vec::<String>::deserialize(d)?;
    texts.iter().map(|t| Regex::new(&format!("(?m){t}")).map_err(serde::de::Error::custom)).collect()
}

/// A failure that comes now and then on one platform, and that nobody has understood yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The platform.
    on: String,
    /// What is on the serial line then.
    #[serde(deserialize_with = "line")]
    says: Regex,
    /// What is known of it.
    why: String,
}

impl Scenario {
    /// Why a run that failed with that on its serial line is tried once more, though it is no hang.
    pub fn known_failure(&self, serial: &str) -> Option<String> {
        let known = |k: &&Known| k.on == self.platform && k.says.is_match(serial.as_bytes());
        self.known.iter().find(known).map(|k| k.why.clone())
    }

    /// Reads and checks a scenario file.
    pub fn parse(name: &str, text: &str) -> Result<Scenario> {
        let mut s = Scenario { name: name.into(), base: name.into(), ..toml::from_str(text)? };
        s.platform = s.platforms.first().context("`platforms` is empty: it would run nowhere")?.clone();
        ensure!(s.system.is_none() || (s.parts.is_empty() && s.text.is_empty()), "both `system` and `parts` or `text`");
        ensure!(s.root.is_none() || (s.system.is_none() && s.parts.is_empty()), "`root` with `system` or `parts`");
        ensure!(s.kernel.is_none() || s.gdb.is_none(), "both `kernel` and `gdb`");
        ensure!(s.screen.is_empty() || s.gdb.is_none(), "both `screen` and `gdb`");
        ensure!(s.guest.is_none() || s.system.is_some(), "`guest` without `system`");
        ensure!(s.cmdline.is_none() || s.system.is_some(), "`cmdline` without `system`");
        ensure!(s.steps.iter().any(|s| s.expect.is_some()), "it expects nothing, so it cannot fail");
        for e in &s.edits {
            ensure!(e.changes() == 1, "module {:?}: exactly one change is expected", e.name);
        }
        Ok(s)
    }

    /// One for each platform.
    pub fn on_each(self) -> Vec<Scenario> {
        let on = |p: &String| Scenario { name: format!("{}@{p}", self.base), platform: p.clone(), ..self.clone() };
        self.platforms.iter().map(on).collect()
    }

    /// How its binaries are built.
    pub fn flavour(&self) -> Flavour {
        match self.kernel {
            Some(TestKernel::Inject) => Flavour::Inject,
            None if self.gdb.is_some() => Flavour::Debug,
            None => Flavour::Release,
        }
    }

    /// The machine of this test.
    pub fn machine(&self) -> Result<Platform> {
        let p = Platform::load(&self.platform)?;
        let p = Platform { memory_mib: self.memory_mib.unwrap_or(p.memory_mib), ..p };
        let p = p.with_kernel_words(&self.kernel_cmdline);
        Ok(if self.budgets { p.counted() } else { p })
    }

    /// The system with its modules, before the edits.
    pub fn system(&self) -> Result<System> {
        if let Some(name) = &self.system {
            let system = guest::system(name, self.guest.as_deref())?;
            return self.cmdline.iter().try_fold(system, |s, more| s.with_cmdline(more));
        }
        let mut text = String::new();
        for p in &self.parts {
            text += &tree::read_text(&tree::root().join("tests/system/parts").join(format!("{p}.toml")))?;
        }
        text += &self.text;
        match &self.modules {
            None => System::parse(text).context("its system file is wrong; if on purpose, it must list `modules`"),
            Some(list) => {
                let (roms, binaries) = list.iter().cloned().partition(|m| ROMS.contains(&m.as_str()));
                Ok(System { text, binaries, roms })
            }
        }
    }
}

/// Modules that are no component binaries.
const ROMS: [&str; 2] = ["bzImage", "initramfs"];

/// All scenarios, by name.
pub fn all() -> Result<Vec<Scenario>> {
    let files = tree::toml_files("tests/system")?;
    let each: Vec<Scenario> = files.iter().map(|(name, path)| load(name, path)).collect::<Result<_>>()?;
    Ok(each.into_iter().flat_map(Scenario::on_each).collect())
}

fn load(name: &str, path: &Path) -> Result<Scenario> {
    Scenario::parse(name, &tree::read_text(path)?).with_context(|| format!("reading {}", tree::shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "about = 'a'\ntimeout_s = 5\nend = 'running'\n";

    fn error(text: &str) -> String {
        format!("{:#}", Scenario::parse("t", text).unwrap_err())
    }

    #[test]
    fn a_scenario_reads() {
        let more = "text = '[[component]]\nbinary = \"x\"'\n[[module]]\nname = 'x'\nkeep_bytes = 2\n";
        let steps = "[[step]]\nexpect = '^b$'\nsend = \"ls\\n\"\n[[step]]\nnever = 'c'\n";
        let s = Scenario::parse("t", &format!("{GOOD}{}{steps}", more.replace('\'', "'''"))).unwrap();
        assert_eq!((s.name.as_str(), s.platform.as_str(), s.end), ("t", "bochs", Ending::Running));
        assert!(s.steps[0].expect.as_ref().unwrap().is_match(b"a\r\nb\r\nc"));
        assert_eq!(s.steps[0].send.as_deref(), Some("ls\n"));
        assert_eq!(s.system().unwrap().binaries, ["x"]);
    }

    #[test]
    fn a_known_failure_is_that_of_its_platform() {
        let known = "[[known]]\non = 'qemu'\nsays = '^b$'\nwhy = 'of that'\n[[step]]\nexpect = 'a'";
        let all = Scenario::parse("t", &format!("{GOOD}platforms = ['bochs', 'qemu']\n{known}")).unwrap().on_each();
        let of = |i: usize, serial| all[i].known_failure(serial);
        assert_eq!((of(0, "a\r\nb\r\n"), of(1, "a\r\nbc\r\n")), (None, None));
        assert_eq!(of(1, "a\r\nb\r\n").as_deref(), Some("of that"));
    }

    #[test]
    fn several_platforms_make_several_tests() {
        let text = format!("{GOOD}platforms = ['bochs', 'qemu']\n[[step]]\nexpect = 'a'");
        let all = Scenario::parse("t", &text).unwrap().on_each();
        let got: Vec<_> = all.iter().map(|s| (s.name.as_str(), s.platform.as_str())).collect();
        assert_eq!(got, [("t@bochs", "bochs"), ("t@qemu", "qemu")]);
        let all = Scenario::parse("t", &format!("{GOOD}[[step]]\nexpect = 'a'")).unwrap().on_each();
        assert_eq!(all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["t@bochs", "t@qemu"]);
        assert!(error(&format!("{GOOD}platforms = []\n[[step]]\nexpect = 'a'")).contains("nowhere"));
    }

    #[test]
    fn ram_is_that_of_the_platform_unless_the_scenario_says_otherwise() {
        let mib = |more: &str| {
            let text = format!("{GOOD}{more}\n[[step]]\nexpect = 'a'");
            Scenario::parse("t", &text).unwrap().machine().unwrap().memory_mib
        };
        assert_eq!(mib(""), Platform::load("bochs").unwrap().memory_mib);
        assert_eq!(mib("memory_mib = 777"), 777);
    }

    #[test]
    fn where_limits_are_kept_instructions_are_counted() {
        let counted = |more: &str| {
            let text = format!("{GOOD}platforms = ['qemu']\n{more}\n[[step]]\nexpect = 'a'");
            Scenario::parse("t", &text).unwrap().machine().unwrap().is_counted()
        };
        assert!(counted("budgets = true") && !counted(""));
    }

    #[test]
    fn a_test_that_cannot_fail_is_refused() {
        assert!(error(&format!("{GOOD}[[step]]\nsend = 'x'")).contains("cannot fail"));
    }

    #[test]
    fn another_root_task_has_no_system() {
        let s = Scenario::parse("t", &format!("{GOOD}root = 'novaroot'\n[[step]]\nexpect = 'a'")).unwrap();
        let system = s.system().unwrap();
        assert!(system.binaries.is_empty() && system.roms.is_empty());
        assert!(error(&format!("{GOOD}root = 'r'\nsystem = 'hello'\n[[step]]\nexpect = 'a'")).contains("`root` with"));
    }

    #[test]
    fn mistakes_are_told() {
        assert!(error(&format!("{GOOD}[[step]]\nexpect = '('")).contains("unclosed group"));
        assert!(error(&format!("{GOOD}[[step]]\nexpekt = 'a'")).contains("expekt"));
        assert!(error(&format!("{GOOD}cmdline = 'x'\n[[step]]\nexpect = 'a'")).contains("without `system`"));
        assert!(error("about = 'a'\ntimeout_s = 1\nend = 'never'\nstep = []").contains("never"));
        let two = "[[step]]\nexpect = 'a'\n[[module]]\nname = 'x'\nremove = true\nzero_bytes = 1";
        assert!(error(&format!("{GOOD}{two}")).contains("exactly one change"));
    }

    #[test]
    fn a_wrong_system_file_needs_a_list_of_modules() {
        let with =
            |more: &str| Scenario::parse("t", &format!("{GOOD}text = ']'\n{more}[[step]]\nexpect = 'a'")).unwrap();
        assert!(with("").system().is_err());
        let s = with("modules = ['vmm', 'bzImage']\n").system().unwrap();
        assert_eq!((s.binaries, s.roms), (vec!["vmm".to_owned()], vec!["bzImage".to_owned()]));
    }

    #[test]
    fn edits_do_what_they_say() {
        let edit =
            |text: &str| toml::from_str::<Edit>(&format!("name = 'm'\n{text}")).unwrap().apply(b"hello".to_vec());
        assert_eq!(edit("remove = true"), None);
        assert_eq!(edit("keep_bytes = 2"), Some(b"he".to_vec()));
        assert_eq!(edit("keep_bytes = 9"), Some(b"hello".to_vec()));
        assert_eq!(edit("text = 'x'"), Some(b"x".to_vec()));
        assert_eq!(edit("zero_bytes = 3"), Some(vec![0; 3]));
        let long = toml::from_str::<Edit>("name = 'm'\nsegment = [2, 7]").unwrap();
        let elf = [vec![9; 120], vec![1, 0, 0, 0], vec![5; 60]].concat();
        let changed = long.apply(elf.clone()).unwrap();
        assert_eq!((changed[122], changed.len()), (7, elf.len()));
        assert_eq!(changed.iter().zip(&elf).filter(|(a, b)| a != b).count(), 1);
        assert_eq!(edit("segment = [2, 7]"), None);
    }

    #[test]
    fn the_scenarios_of_the_tree_are_valid() {
        let all = all().unwrap();
        assert!(all.iter().any(|s| s.name == "linux-shell@bochs"));
        for s in all {
            let system = s.system().unwrap_or_else(|e| panic!("{}: {e:#}", s.name));
            for e in &s.edits {
                let known = system.binaries.iter().chain(&system.roms).any(|m| *m == e.name)
                    || ["core", "system"].contains(&e.name.as_str());
                assert!(known, "{}: it changes {:?}, which is no module", s.name, e.name);
            }
            s.machine().unwrap_or_else(|e| panic!("{}: {e:#}", s.name));
        }
    }
}
