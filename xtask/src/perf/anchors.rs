//! What other kernels need for the same: `perf/anchors.toml`, which says how they were measured.
//!
//! Key types: [`Anchors`], [`Anchor`].

use crate::tree;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    #[serde(rename = "kernel")]
    pub kernels: Vec<Kernel>,
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
    #[serde(rename = "anchor")]
    anchors: Vec<Anchor>,
}

/// Another kernel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    id: String,
    pub name: String,
    pub version: String,
    pub source: String,
    pub build: String,
    pub how: String,
}

/// A row of the suite that others are compared by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub row: String,
    pub title: String,
    /// It is on the README's picture.
    #[serde(default)]
    pub picture: bool,
}

/// What a kernel needs for a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    kernel: String,
    row: String,
    pub ticks: u64,
    on: Option<String>,
    note: Option<String>,
    words: Option<u64>,
}

impl Anchors {
    /// The file of the tree.
    pub fn load() -> Result<Anchors> {
        let anchors: Anchors = toml::from_str(&tree::read_text(&tree::root().join("perf/anchors.toml"))?)?;
        for a in &anchors.anchors {
            let known = anchors.kernels.iter().any(|k| k.id == a.kernel);
            ensure!(known, "perf/anchors.toml: there is no kernel {:?}", a.kernel);
        }
        Ok(anchors)
    }

    /// Those of a row: for whom, and the figure; the smallest first.
    pub fn of(&self, row: &str) -> Vec<(String, u64)> {
        let mut list: Vec<_> = self.anchors.iter().filter(|a| a.row == row).map(|a| (self.label(a), a.ticks)).collect();
        list.sort_by_key(|(_, ticks)| *ticks);
        list
    }

    fn label(&self, a: &Anchor) -> String {
        let name = self.kernels.iter().find(|k| k.id == a.kernel).map_or(&a.kernel, |k| &k.name);
        let notes: Vec<&str> = a.on.iter().chain(&a.note).map(String::as_str).collect();
        if notes.is_empty() { name.clone() } else { format!("{name} ({})", notes.join(", ")) }
    }

    /// Calls and replies of that kernel: words and ticks.
    pub fn by_words(&self, kernel: &str) -> Vec<(u64, u64)> {
        let of = self.anchors.iter().filter(|a| a.kernel == kernel);
        let mut points: Vec<_> = of.filter_map(|a| Some((a.words.or(words(&a.row))?, a.ticks))).collect();
        points.sort_unstable();
        points
    }

    /// The kernel's name.
    pub fn name(&self, kernel: &str) -> Result<&str> {
        let found = self.kernels.iter().find(|k| k.id == kernel);
        found.map(|k| k.name.as_str()).with_context(|| format!("perf/anchors.toml: there is no kernel {kernel:?}"))
    }
}

/// How many words a row of calls to another PD carries each way.
pub fn words(row: &str) -> Option<u64> {
    row.strip_prefix("call_reply_other_pd_")?.strip_suffix('w')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_what_is_drawn() {
        let a = Anchors::load().unwrap();
        assert!(a.groups.iter().all(|g| !a.of(&g.row).is_empty()), "a group without others to compare with");
        let ipc = a.of("call_reply_other_pd_1w");
        assert_eq!((ipc[0].0.as_str(), ipc[0].1), ("NOVA", 278));
        assert!(ipc.iter().any(|(label, _)| label == "seL4 (fast path)"));
        assert_eq!(a.by_words("nova"), [(1, 278), (8, 348), (64, 908)]);
        assert_eq!(a.by_words("sel4"), [(1, 395), (4, 395), (10, 1572)]);
        assert!(a.name("sel4").unwrap() == "seL4" && a.name("minix").is_err());
    }

    #[test]
    fn words_are_in_the_name_of_the_row() {
        assert_eq!(words("call_reply_other_pd_64w"), Some(64));
        assert_eq!([words("call_reply_same_pd_64w"), words("call_reply_other_pd_1w_server_without_fpu")], [None; 2]);
    }
}
