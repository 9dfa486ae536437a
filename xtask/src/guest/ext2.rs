//! A file system image for tests, as `mke2fs` makes one of a folder without privileges.

use crate::{exec, packages, progress::Step, tree};
use anyhow::Result;
use std::path::PathBuf;

/// A short file, a long one and a link to it, and an empty one; `tests/components/services` knows what is in them.
pub fn make() -> Result<PathBuf> {
    packages::ensure_installed(packages::FOR_EXT2)?;
    let dir = tree::build_dir("guest/ext2")?;
    let folder = dir.join("tree");
    std::fs::create_dir_all(folder.join("boot"))?;
    let long: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
    for (name, content) in [("boot/hello", &b"hello\n"[..]), ("nothing", b""), ("boot/long", &long)] {
        tree::write_if_changed(&folder.join(name), content)?;
    }
    if !folder.join("link").is_symlink() {
        std::os::unix::fs::symlink("boot/long", folder.join("link"))?;
    }
    let (file, step) = (dir.join("ext2"), Step::begin("making a file system image"));
    let new = tree::scratch(&file);
    let mut make = exec::command("/sbin/mke2fs");
    make.args(["-q", "-F", "-t", "ext2", "-d"]).arg(&folder).arg(&new).arg("1M");
    exec::run(&mut make, &step)?;
    tree::publish(&new, &file)?;
    step.done("");
    Ok(file)
}
