//! The initial RAM disk of Linux guests: Debian's BusyBox, and what `guests/linux/` says.

use crate::{marker, packages, tree};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Largest initramfs; it is copied and unpacked in an emulator at each boot.
const INITRAMFS_MAX: usize = 2_500_000;

/// File types of cpio modes.
mod mode {
    pub const DIR: u32 = 0o040_000;
    pub const FILE: u32 = 0o100_000;
    pub const LINK: u32 = 0o120_000;
    pub const CHAR: u32 = 0o020_000;
}

/// Fetches and makes it, if that was not done before.
pub fn make() -> Result<PathBuf> {
    let busybox = packages::unpacked(&packages::Wanted::named("busybox-static"))?;
    let dir = tree::build_dir("guest/linux")?;
    let file = dir.join("initramfs");
    tree::write_if_changed(&file, &archive(&busybox.dir.join("bin/busybox"))?)?;
    tree::write_if_changed(&dir.join("initramfs.version"), format!("{}\n", busybox.version).as_bytes())?;
    Ok(file)
}

fn archive(busybox: &Path) -> Result<Vec<u8>> {
    let recipe = tree::root().join("guests/linux");
    let mut a = Archive::new();
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        a.push(dir, mode::DIR | 0o755, (0, 0), b"")?;
    }
    // The kernel opens it for /init before anything is mounted.
    a.push("dev/console", mode::CHAR | 0o600, (5, 1), b"")?;
    a.push("bin/busybox", mode::FILE | 0o755, (0, 0), &tree::read_bytes(busybox)?)?;
    for name in applets(&tree::read_text(&recipe.join("applets"))?) {
        a.push(&format!("bin/{name}"), mode::LINK | 0o777, (0, 0), b"busybox")?;
    }
    a.push("bin/marker", mode::FILE | 0o755, (0, 0), &marker::program())?;
    a.push("init", mode::FILE | 0o755, (0, 0), &tree::read_bytes(&recipe.join("init"))?)?;
    a.push("etc/inittab", mode::FILE | 0o644, (0, 0), &tree::read_bytes(&recipe.join("inittab"))?)?;
    a.push("etc/loads", mode::FILE | 0o644, (0, 0), &tree::read_bytes(&recipe.join("loads"))?)?;
    let bytes = a.finish()?;
    ensure!(bytes.len() <= INITRAMFS_MAX, "the initramfs has {} bytes, more than {INITRAMFS_MAX}", bytes.len());
    Ok(bytes)
}

/// Words outside comments, sorted, each once.
fn applets(text: &str) -> BTreeSet<&str> {
    text.lines().flat_map(|l| l.split('#').next().unwrap_or_default().split_whitespace()).collect()
}

/// A newc archive. Inode numbers count up, times are 0: the same input gives the same bytes.
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn new() -> Archive {
        Archive { bytes: Vec::new(), inode: 1 }
    }

    fn push(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) -> Result<()> {
        let header = cpio::newc::Builder::new(name).ino(self.inode).mode(mode).nlink(1).rdev_major(major);
        let mut w = header.rdev_minor(minor).write(&mut self.bytes, u32::try_from(data.len())?);
        std::io::Write::write_all(&mut w, data)?;
        w.finish()?;
        self.inode += 1;
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(cpio::newc::trailer(self.bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_read_back() {
        let mut a = Archive::new();
        a.push("d", mode::DIR | 0o755, (0, 0), b"").unwrap();
        a.push("d/c", mode::CHAR | 0o600, (5, 1), b"").unwrap();
        a.push("f", mode::FILE | 0o644, (0, 0), b"hello").unwrap();
        let bytes = a.finish().unwrap();
        let mut rest: &[u8] = &bytes;
        let mut seen = Vec::new();
        loop {
            let r = cpio::newc::Reader::new(rest).unwrap();
            let e = r.entry();
            if e.is_trailer() {
                break;
            }
            seen.push((e.name().to_owned(), e.mode(), e.rdev_major(), e.rdev_minor(), e.file_size()));
            rest = r.finish().unwrap();
        }
        assert_eq!(
            seen,
            [
                ("d".to_owned(), 0o040_755, 0, 0, 0),
                ("d/c".to_owned(), 0o020_600, 5, 1, 0),
                ("f".to_owned(), 0o100_644, 0, 0, 5)
            ]
        );
    }

    #[test]
    fn applet_lists_have_comments_and_no_doubles() {
        assert_eq!(applets("# all\nsh ls # list\nls  cat\n").into_iter().collect::<Vec<_>>(), ["cat", "ls", "sh"]);
    }

    #[test]
    fn the_recipe_has_what_init_needs() {
        let dir = tree::root().join("guests/linux");
        let text = tree::read_text(&dir.join("applets")).unwrap();
        let have = applets(&text);
        for a in ["sh", "mount", "cttyhack", "init", "poweroff", "dd", "sync", "printf", "uname"] {
            assert!(have.contains(a), "{a}");
        }
        assert!(tree::read_text(&dir.join("init")).unwrap().starts_with("#!/bin/sh\n"));
    }
}
