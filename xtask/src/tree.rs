//! Where things are in the source tree, and where things made from it go (`build/`).

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Root of the workspace: the parent of this package at run time (`cargo run` sets the variable), so that a moved
/// tree works; else where this was compiled.
pub fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// `build/<path>`.
pub fn build(path: impl AsRef<Path>) -> PathBuf {
    root().join("build").join(path)
}

/// `build/<path>` as a directory that exists.
pub fn build_dir(path: impl AsRef<Path>) -> Result<PathBuf> {
    let dir = build(path);
    std::fs::create_dir_all(&dir).with_context(|| format!("making the directory {}", dir.display()))?;
    Ok(dir)
}

/// `build/run/<our process>/<name>`: a directory that no command running beside us uses. Removes those of commands that
/// ended without tidying up.
pub fn run_dir(name: &str) -> Result<PathBuf> {
    let own = std::process::id();
    for entry in std::fs::read_dir(build_dir("run")?)?.flatten() {
        let pid = entry.file_name().to_string_lossy().parse::<u32>();
        if pid.is_ok_and(|p| p != own && !Path::new("/proc").join(p.to_string()).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    build_dir(Path::new("run").join(own.to_string()).join(name))
}

/// Removes what [`run_dir`] made for this process.
pub fn remove_run_dirs() {
    let _ = std::fs::remove_dir_all(build("run").join(std::process::id().to_string()));
}

/// `path` as the user would type it: relative to the workspace root where it is below.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The `*.toml` files of a folder of the workspace, as (name without the ending, path), sorted.
pub fn toml_files(folder: &str) -> Result<Vec<(String, PathBuf)>> {
    let dir = root().join(folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("reading {folder}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            found.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{folder} holds no .toml file");
    Ok(found)
}

/// The text of the file, with its name in the error.
pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", shown(path)))
}

/// Bytes of the file, with its name in the error.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", shown(path)))
}

/// A name beside `path` that no other process uses: what is made there is then renamed, so that commands that run side by
/// side never see half a file.
pub fn scratch(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], ""));
    path.with_file_name(name)
}

/// Puts what was made at [`scratch`] in its place.
pub fn publish(scratch: &Path, path: &Path) -> Result<()> {
    std::fs::rename(scratch, path).with_context(|| format!("moving {} to {}", shown(scratch), shown(path)))
}

/// Writes the file unless it already has this content, so that what depends on its time is not made again.
pub fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let new = scratch(path);
    std::fs::write(&new, content).with_context(|| format!("writing {}", shown(&new)))?;
    publish(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_only_when_they_change() {
        let file = build_dir("unit-tests").unwrap().join(format!("changed-{}", std::process::id()));
        let time = |f: &Path| std::fs::metadata(f).unwrap().modified().unwrap();
        write_if_changed(&file, b"one").unwrap();
        let first = time(&file);
        write_if_changed(&file, b"one").unwrap();
        assert_eq!(time(&file), first);
        write_if_changed(&file, b"two").unwrap();
        assert_eq!(read_text(&file).unwrap(), "two");
        assert!(!scratch(&file).exists());
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn directories_of_dead_commands_are_removed() {
        // Larger than any process number.
        let dead = build_dir("run/4194305").unwrap();
        let own = run_dir("unit-test").unwrap();
        assert!(own.is_dir() && !dead.exists());
        assert!(run_dir("unit-test-2").unwrap().starts_with(own.parent().unwrap()));
        remove_run_dirs();
        assert!(!own.parent().unwrap().exists());
    }

    #[test]
    fn paths_are_shown_as_typed() {
        assert_eq!(shown(&build("x/y")), "build/x/y");
        assert_eq!(shown(Path::new("/etc/passwd")), "/etc/passwd");
    }

    #[test]
    fn scratch_names_are_beside_and_differ_by_thread() {
        let path = Path::new("/a/b.iso");
        let other = std::thread::spawn(move || scratch(path)).join().unwrap();
        assert_eq!(scratch(path).parent(), path.parent());
        assert_ne!(scratch(path), other);
    }
}
