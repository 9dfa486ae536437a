//! `cargo xtask sessions`: the reference pages of interfaces, `docs/sessions/NAME.md`, made from their tables.

use crate::tree;
use anyhow::{Context, Result};
use rpc::{Interface, Table};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Interfaces with a page.
const INTERFACES: &[&Table] = &[
    <dyn services::Journal as Interface>::TABLE,
    <dyn services::Report as Interface>::TABLE,
    <dyn services::Dataspace as Interface>::TABLE,
    <dyn services::IoPort as Interface>::TABLE,
    <dyn services::Irq as Interface>::TABLE,
    <dyn services::IoMem as Interface>::TABLE,
    <dyn services::Children as Interface>::TABLE,
    <dyn services::Pd as Interface>::TABLE,
    <dyn services::Rm as Interface>::TABLE,
    <dyn services::Rom as Interface>::TABLE,
    <dyn services::Rtc as Interface>::TABLE,
    <dyn services::Parent as Interface>::TABLE,
    <dyn services::Log as Interface>::TABLE,
    <dyn services::Terminal as Interface>::TABLE,
    <dyn services::Timer as Interface>::TABLE,
    <dyn services::Trace as Interface>::TABLE,
    <dyn services::Vm as Interface>::TABLE,
    <dyn rpc_test::Tally as Interface>::TABLE,
];

fn folder() -> PathBuf {
    tree::root().join("docs/sessions")
}

/// Name and text of each page.
fn pages() -> impl Iterator<Item = (String, String)> {
    INTERFACES.iter().map(|t| (format!("{}.md", t.name.to_lowercase()), rpc::page(t)))
}

/// Writes all pages.
pub fn main() -> Result<ExitCode> {
    for (name, text) in pages() {
        let path = folder().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("  {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pages_are_what_the_tables_say() {
        for (name, text) in pages() {
            let there = fs::read_to_string(folder().join(&name)).unwrap_or_default();
            assert_eq!(there, text, "{name}: `cargo xtask sessions` makes it anew");
            assert!(text.lines().all(|l| l.chars().count() <= 120), "{name} has lines that are too long");
        }
    }

    #[test]
    fn there_are_no_other_pages_and_the_readme_lists_them() {
        let files = fs::read_dir(folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        let want: BTreeSet<_> = pages().map(|(name, _)| name).chain(["README.md".to_string()]).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), want);
        let readme = fs::read_to_string(folder().join("README.md")).unwrap();
        for (name, _) in pages() {
            assert!(readme.contains(&format!("({name})")), "{name}");
        }
    }
}
