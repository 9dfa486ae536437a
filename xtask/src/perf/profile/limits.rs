//! What `perf/budgets.toml` promises about kinds of instructions: `[counts.PLATFORM.ROW]`, at most so many of each.
//!
//! Key type: [`Limits`].

use super::kinds::Counts;
use super::record::Profile;
use crate::tree;
use anyhow::{Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Of the file, what matters here.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    counts: BTreeMap<String, BTreeMap<String, BTreeMap<String, u64>>>,
}

/// Limits of the rows of a platform.
#[derive(Debug, Default)]
pub struct Limits(BTreeMap<String, BTreeMap<String, u64>>);

impl Limits {
    pub fn load(platform: &str) -> Result<Limits> {
        Limits::parse(&tree::read_text(&tree::root().join("perf/budgets.toml"))?, platform)
    }

    fn parse(text: &str, platform: &str) -> Result<Limits> {
        let mut file: File = toml::from_str(text)?;
        let rows = file.counts.remove(platform).unwrap_or_default();
        for (row, kinds) in &rows {
            for kind in kinds.keys() {
                ensure!(Counts::names().any(|k| k == kind), "counts.{platform}.{row}: there is no kind {kind}");
            }
        }
        Ok(Limits(rows))
    }

    /// The rows that have limits.
    pub fn rows(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// What is above its limit.
    pub fn broken(&self, profile: &Profile) -> Vec<String> {
        self.above(&profile.row, &profile.counts()).iter().map(|w| format!("{}: {w}", profile.platform)).collect()
    }

    fn above(&self, row: &str, counts: &Counts) -> Vec<String> {
        let limits = self.0.get(row).into_iter().flatten();
        let above = limits.filter(|(kind, most)| counts.get(kind) > **most);
        above.map(|(k, most)| format!("{row}: {} {k}, promised at most {most}", counts.get(k))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::profile::step::{Mode, Step};

    #[test]
    fn more_than_promised_is_told() {
        let l = Limits::parse("a = 1\n[counts.qemu.call]\ncr3_writes = 1\nwrmsr = 0", "qemu").unwrap();
        let cr3 = Step { at: 0, mode: Mode::Kernel, code: vec![0x0f, 0x22, 0xd8] };
        assert!(l.above("call", &Counts::of([&cr3])).is_empty());
        assert_eq!(l.above("call", &Counts::of([&cr3, &cr3])), ["call: 2 cr3_writes, promised at most 1"]);
        assert_eq!(l.rows(), ["call"]);
        assert!(l.above("other", &Counts::of([&cr3, &cr3])).is_empty());
        assert!(
            Limits::parse("[counts.qemu.call]\nnonesuch = 1", "qemu").unwrap_err().to_string().contains("nonesuch")
        );
    }

    #[test]
    fn the_promises_in_the_tree_are_understood() {
        for platform in ["bochs", "qemu"] {
            assert!(!Limits::load(platform).unwrap().rows().is_empty());
        }
    }
}
