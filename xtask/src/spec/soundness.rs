//! docs/soundness.md names tests: each of them is there.

use regex::Regex;
use std::path::{Path, PathBuf};

/// Faults. `text`: the page; `files`: all files of the tree that could be meant.
///
/// `a::b.rs` is a file `b.rs` somewhere below a folder `a`; `name@` is a scenario.
pub fn check(text: &str, files: &[PathBuf]) -> Vec<String> {
    let Ok(named) = Regex::new(r"`(?:([\w-]+)::([\w.-]+\.rs)|([\w-]+)@)`") else { return Vec::new() };
    let mut faults = Vec::new();
    let mut seen = 0;
    for c in named.captures_iter(text) {
        seen += 1;
        let (folder, file) = match (c.get(1), c.get(2), c.get(3)) {
            (Some(folder), Some(file), _) => (folder.as_str(), file.as_str().to_string()),
            (_, _, Some(scenario)) => ("system", format!("{}.toml", scenario.as_str())),
            _ => continue,
        };
        if !files.iter().any(|f| is(f, folder, &file)) {
            faults.push(format!("soundness: there is no {}", &c[0]));
        }
    }
    if seen == 0 {
        faults.push("soundness: no test is named".into());
    }
    faults
}

/// Whether a file has that name, below a folder of that name.
fn is(path: &Path, folder: &str, file: &str) -> bool {
    path.file_name().is_some_and(|n| n == file) && path.components().any(|c| c.as_os_str() == folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_has_to_be_there() {
        let files = ["tests/components/probe/src/isolation.rs", "tests/system/fuzz-smp.toml"].map(PathBuf::from);
        assert!(check("x `probe::isolation.rs`, `fuzz-smp@` y", &files).is_empty());
        assert_eq!(check("`probe::gone.rs` and `fuzz@`", &files).len(), 2);
        assert_eq!(check("`quota::isolation.rs`", &files), ["soundness: there is no `quota::isolation.rs`"]);
        assert_eq!(check("nothing `named`", &files).len(), 1);
    }
}
