//! Configurations of inits that are boot modules: the files of `configs/inits`, by their names with the ending. Other ROMs are
//! made by `guest`.

use crate::tree;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FOLDER: &str = "configs/inits";

/// The file of that name.
pub fn file(name: &str) -> Option<PathBuf> {
    let path = tree::root().join(FOLDER).join(name);
    let plain = Path::new(name).components().count() == 1 && name.ends_with(".toml");
    (plain && path.is_file()).then_some(path)
}

/// All of them.
pub fn all() -> Result<BTreeMap<String, PathBuf>> {
    Ok(tree::toml_files(FOLDER)?.into_iter().map(|(name, path)| (format!("{name}.toml"), path)).collect())
}

/// Those that an init can read in a system that is described in `config`: all of them, and what is beside it, if it is not one of
/// the tree's own.
pub fn beside(config: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = all()?;
    let folder = config.parent().filter(|folder| *folder != tree::root().join("configs/systems"));
    for entry in folder.map(std::fs::read_dir).transpose()?.into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".toml") && path != config {
            found.insert(name, path);
        }
    }
    Ok(found)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A new folder for a test of that name.
    pub fn folder(name: &str) -> PathBuf {
        tree::build_dir(format!("unit-tests/inits-{name}-{}", std::process::id())).unwrap()
    }

    #[test]
    fn a_name_is_that_of_a_file_there_and_of_nothing_else() {
        let ticker = file("ticker.toml").unwrap();
        assert_eq!(all().unwrap().get("ticker.toml"), Some(&ticker));
        for name in ["ticker", "no-such.toml", "../systems/hello.toml", "/etc/passwd", ""] {
            assert_eq!(file(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_is_beside_a_system_counts_but_for_systems_beside_systems() {
        let hello = tree::root().join("configs/systems/hello.toml");
        assert_eq!(beside(&hello).unwrap(), all().unwrap());
        let dir = folder("beside");
        for name in ["system.toml", "inner.toml", "ticker.toml", "other.txt"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        let found = beside(&dir.join("system.toml")).unwrap();
        assert!(
            found.contains_key("inner.toml") && !found.contains_key("system.toml") && !found.contains_key("other.txt")
        );
        assert_eq!(found["ticker.toml"], dir.join("ticker.toml"), "the nearer one");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
