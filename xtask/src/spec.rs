//! `cargo xtask spec`: the pages of the interface (docs/spec) against the code and the tests.
//!
//! [`page`] reads a page, [`tags`] compares what pages state with what tests name, [`layout`] compares tables with the
//! crate `abi`, [`handlers`] looks for the kernel's function of each call, [`soundness`] for the tests that docs/soundness.md
//! names. What they find is a list of faults, each one
//! line that says where.

mod handlers;
mod layout;
mod page;
mod soundness;
mod tags;

use crate::tree;
use anyhow::{Result, ensure};
use page::Page;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the pages are.
const PAGES: &str = "docs/spec";
/// Where tests name tags.
const TESTS: &str = "tests";
/// Where the kernel's functions of the hypercalls are.
const CALLS: &str = "hypervisor/kernel/src/call";
/// What is guaranteed, and which tests show it.
const SOUNDNESS: &str = "docs/soundness.md";
/// The page of what no test shows.
const UNTESTED: &str = "untested";

/// Checks the pages and prints what they hold.
pub fn main() -> Result<ExitCode> {
    let (coverage, faults) = check()?;
    println!("{coverage}");
    for f in &faults {
        eprintln!("{f}");
    }
    ensure!(faults.is_empty(), "{} faults in the pages of the interface, or in their tests", faults.len());
    Ok(ExitCode::SUCCESS)
}

/// How much of each page is tested, and everything that is wrong.
pub fn check() -> Result<(String, Vec<String>)> {
    let root = tree::root();
    let mut pages = Vec::new();
    for path in files(&root.join(PAGES), &["md"])? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        pages.push(Page::parse(&name, &tree::read_text(&path)?));
    }
    let mut tests = Vec::new();
    for path in files(&root.join(TESTS), &["rs", "toml"])? {
        tests.push((tree::shown(&path), tree::read_text(&path)?));
    }
    let mut calls = String::new();
    for path in files(&root.join(CALLS), &["rs"])? {
        calls += &tree::read_text(&path)?;
    }
    let (coverage, mut faults) = tags::check(&pages, &tests);
    faults.extend(pages.iter().flat_map(page::bare));
    faults.extend(layout::check(&pages));
    faults.extend(handlers::check(&pages, &calls));
    let tested = [TESTS, "hypervisor/ipc", "hypervisor/ptab", "hypervisor/smp", "hypervisor/speculation"];
    let mut named = Vec::new();
    for folder in tested {
        named.extend(files(&root.join(folder), &["rs", "toml"])?);
    }
    faults.extend(soundness::check(&tree::read_text(&root.join(SOUNDNESS))?, &named));
    faults.sort();
    Ok((coverage, faults))
}

/// The files below `folder` whose names end so, sorted.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, endings)?);
        } else if path.extension().is_some_and(|e| endings.iter().any(|w| e == *w)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_pages_and_tests() {
        let root = tree::root();
        assert!(files(&root.join(PAGES), &["md"]).unwrap().len() > 18);
        assert!(files(&root.join(TESTS), &["rs", "toml"]).unwrap().len() > 50);
    }
}
