//! What was measured, as it is kept in a file: `perf/README.md` describes the fields.
//!
//! The file is written as figures come, and says until the end that it is not complete: what ends the command early, even a
//! power failure, leaves what was measured up to there.
//!
//! Key types: [`Results`], [`Run`], [`Machine`], [`Keeper`].

use super::budgets::Check;
use super::guest::{Boot, Sizes};
use super::paths::Path;
use super::prompt::Prompt;
use super::revision::Revision;
use super::several::Several;
use super::suite::Suite;
use crate::platform::{Emulator, Platform};
use crate::{exec, tree};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Version of the format. A field that is added does not change it, one that means something else does.
pub const SCHEMA: u32 = 1;
/// Where results go, without the endings.
pub const DEFAULT: &str = "build/perf";

/// All that one command measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub schema: u32,
    /// Whether the command came to its end and measured all it was to measure.
    pub complete: bool,
    /// What it could not measure, and why.
    pub failed: Vec<String>,
    /// The command line.
    pub made_by: String,
    /// When it began (RFC 3339).
    pub date: String,
    /// What was measured; not known of a log.
    pub revision: Option<Revision>,
    /// One for each machine.
    pub runs: Vec<Run>,
    pub prompt: Option<Prompt>,
    pub sizes: Option<Sizes>,
    /// The promises, and whether they are kept.
    pub budgets: Vec<Check>,
}

/// What was measured on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the platform's file, or what a log was said to be of.
    pub platform: String,
    pub machine: Machine,
    #[serde(default)]
    pub suite: Option<Suite>,
    #[serde(default)]
    pub boots: Vec<Boot>,
    /// What the guest does beyond that of its quiet boot.
    #[serde(default)]
    pub loads: Vec<Boot>,
    /// Small guests, one and more at once.
    #[serde(default)]
    pub several: Vec<Several>,
    /// Where the instructions of a path go.
    #[serde(default)]
    pub paths: Vec<Path>,
}

/// A machine, as far as it is known from outside. What it says of itself is in [`Suite::machine`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name and version; none if it is a real one.
    pub emulator: Option<String>,
    /// CPU model and machine, in the emulator's words.
    pub model: Option<String>,
    pub cpus: Option<u32>,
    /// How it runs guests: VT-x or SVM.
    pub virtualisation: Option<String>,
    /// A tick of the TSC is an executed instruction, and runs repeat exactly.
    pub counted: bool,
}

impl Machine {
    /// The one of that platform.
    pub fn of(p: &Platform) -> Machine {
        let version = |package: &str| {
            let mut query = exec::command("dpkg-query");
            exec::query(query.args(["-W", "-f", "${Version}", package])).unwrap_or_else(|_| "of unknown version".into())
        };
        let emulator = match p.emulator {
            Emulator::Bochs => format!("Bochs {}", version("bochs")),
            Emulator::Qemu => format!("QEMU {}", version("qemu-system-x86")),
        };
        let more: String = p.args.iter().map(|a| format!(" {a}")).collect();
        let model = format!("{} ({}, {} MiB){more}", p.model, p.machine, p.memory_mib);
        let names = [("vmx", "VT-x"), ("svm", "SVM")];
        let virtualisation = names.into_iter().find(|(can, _)| p.can.iter().any(|c| c == can));
        Machine {
            emulator: Some(emulator),
            model: Some(model),
            cpus: Some(p.cpus),
            virtualisation: virtualisation.map(|(_, name)| name.into()),
            counted: p.is_counted(),
        }
    }

    /// In a line.
    pub fn show(&self) -> String {
        let emulator = self.emulator.as_deref().unwrap_or("a real machine, as far as is known");
        let model = self.model.as_ref().map_or(String::new(), |m| format!(": {m}"));
        let cpus = self.cpus.map_or(String::new(), |n| format!(", {n} CPU{}", if n == 1 { "" } else { "s" }));
        format!("{emulator}{model}{cpus}")
    }

    /// What a tick is.
    pub fn tick(&self) -> &'static str {
        if self.counted { "an executed instruction" } else { "a cycle of the TSC" }
    }
}

impl Results {
    /// Of a command that begins now.
    pub fn begin(made_by: &str) -> Results {
        Results {
            schema: SCHEMA,
            complete: false,
            failed: vec![],
            made_by: made_by.into(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            revision: Revision::of(&tree::root()),
            runs: vec![],
            prompt: None,
            sizes: None,
            budgets: vec![],
        }
    }

    /// The run on that platform.
    pub fn run(&mut self, platform: &Platform) -> &mut Run {
        self.named(&platform.name, || Machine::of(platform))
    }

    /// The run of that name.
    pub fn named(&mut self, name: &str, machine: impl FnOnce() -> Machine) -> &mut Run {
        let at = self.runs.iter().position(|r| r.platform == name).unwrap_or_else(|| {
            let (platform, machine) = (name.to_owned(), machine());
            let (boots, loads, several, paths) = Default::default();
            self.runs.push(Run { platform, machine, suite: None, boots, loads, several, paths });
            self.runs.len() - 1
        });
        &mut self.runs[at]
    }

    /// From a file's text.
    pub fn parse(text: &str) -> Result<Results> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64);
        let schema = schema.context("these are no results of `cargo xtask perf`: no schema")?;
        ensure!(schema == u64::from(SCHEMA), "results of schema {schema}; this command knows {SCHEMA}");
        Ok(serde_json::from_value(value)?)
    }
}

/// Files that results go to.
#[derive(Clone, Debug)]
pub struct Place {
    pub json: PathBuf,
    pub html: PathBuf,
}

impl Place {
    /// Of that name, with or without an ending; from the root of the tree if it is the usual one.
    pub fn of(out: &std::path::Path) -> Place {
        let out = if out == std::path::Path::new(DEFAULT) { tree::root().join(out) } else { out.to_owned() };
        let ending = |e: &str| match out.extension().and_then(|e| e.to_str()) {
            Some("json" | "html") => out.with_extension(e),
            _ => PathBuf::from(format!("{}.{e}", out.display())),
        };
        Place { json: ending("json"), html: ending("html") }
    }
}

/// Results that are written whenever they change.
#[derive(Clone)]
pub struct Keeper {
    results: Arc<Mutex<Results>>,
    place: Place,
}

impl Keeper {
    /// Nothing is written yet.
    pub fn new(place: Place, results: Results) -> Keeper {
        Keeper { results: Arc::new(Mutex::new(results)), place }
    }

    fn lock(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes them, and writes.
    pub fn change(&self, how: impl FnOnce(&mut Results)) -> Result<()> {
        let mut results = self.lock();
        how(&mut results);
        save(&results, &self.place)
    }

    /// Does a part. If it fails, the others are done nevertheless.
    pub fn attempt(&self, what: &str, part: impl FnOnce() -> Result<()>) {
        if let Err(e) = part() {
            eprintln!("  {what}: {e:#}");
            let _ = self.change(|r| r.failed.push(format!("{what}: {e:#}")));
        }
    }

    /// All has been tried.
    pub fn end(self, judge: impl FnOnce(&Results) -> Vec<Check>) -> Result<(Results, Place)> {
        self.change(|r| {
            r.complete = r.failed.is_empty();
            r.budgets = judge(r);
        })?;
        let results = self.lock().clone();
        Ok((results, self.place))
    }
}

/// Writes the JSON, all or nothing.
pub fn save(results: &Results, place: &Place) -> Result<()> {
    if let Some(dir) = place.json.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    tree::write_if_changed(&place.json, (serde_json::to_string_pretty(results)? + "\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place::of(&tree::build_dir("unit-tests").unwrap().join(format!("{name}-{}", std::process::id())))
    }

    #[test]
    fn what_was_measured_is_kept_though_nothing_ends_well() {
        let keeper = Keeper::new(place("kept"), Results::begin("t"));
        let platform = Platform::load("bochs").unwrap();
        let copy = keeper.clone();
        keeper.attempt("suite", || {
            copy.change(|r| r.run(&platform).suite = Some(Suite::parse("bochs", "perf: x missing: y\n").unwrap()))?;
            anyhow::bail!("the emulator died")
        });
        let kept = Results::parse(&tree::read_text(&keeper.place.json).unwrap()).unwrap();
        assert!(!kept.complete && kept.failed == ["suite: the emulator died"], "{kept:?}");
        assert_eq!(kept.runs[0].suite.as_ref().unwrap().missing.len(), 1);
        let (ended, place) = keeper.end(|_| vec![]).unwrap();
        assert!(!ended.complete, "a part failed");
        std::fs::remove_file(place.json).unwrap();
    }

    #[test]
    fn files_of_others_are_refused_with_the_reason() {
        let error = |text: &str| Results::parse(text).unwrap_err().to_string();
        assert!(error("{}").contains("no schema"));
        assert!(error(r#"{"schema": 99}"#).contains("99"));
        let r = Results::begin("cargo xtask perf");
        assert_eq!(Results::parse(&serde_json::to_string(&r).unwrap()).unwrap(), r);
        assert!(r.date.ends_with('Z'), "{}", r.date);
    }

    #[test]
    fn endings_may_be_given_or_not() {
        for name in ["a/b", "a/b.json", "a/b.html"] {
            let p = Place::of(std::path::Path::new(name));
            assert_eq!((p.json, p.html), ("a/b.json".into(), "a/b.html".into()));
        }
        assert_eq!(Place::of(std::path::Path::new("v1.2")).json, std::path::Path::new("v1.2.json"));
    }
}
