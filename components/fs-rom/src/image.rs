//! The image and the files in it.
//!
//! Key types: [`Image`], [`Entry`].

use ext4_view::{Ext4, Ext4Error, Ext4Read, File};
use std::error::Error;
use thiserror::Error;

/// Where the superblock begins.
const SUPERBLOCK: usize = 1024;
/// Its field `s_blocks_count_lo`: blocks of the file system.
const BLOCKS_COUNT: usize = SUPERBLOCK + 4;
/// Its field `s_log_block_size`: blocks have 1024 bytes, times two to the power of this.
const LOG_BLOCK_SIZE: usize = SUPERBLOCK + 24;
/// Its field `s_magic`.
const MAGIC: usize = SUPERBLOCK + 56;
/// What that has to be.
const EXT_MAGIC: [u8; 2] = [0x53, 0xef];
/// Most symbolic links on the way to a file, as in Linux.
const MAX_LINKS: usize = 40;
/// Longest symbolic link in bytes.
const MAX_LINK_LEN: u64 = 4095;
/// Largest `s_log_block_size`: 64 KiB.
const LOG_MAX: u32 = 6;

/// Why an image cannot be used.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Too short, or something else.
    #[error("an image of {0} bytes is no ext2, ext3 or ext4 file system: it has no superblock at byte 1024")]
    NotExt(usize),
    /// A part of it is missing.
    #[error("the image has {found} bytes, but its file system has {wanted}: a part of it is missing")]
    Cut {
        /// Bytes that are there.
        found: u64,
        /// Bytes of the file system.
        wanted: u64,
    },
    /// What the file system's description says is wrong, or needs something that is not supported.
    #[error("the file system in the image cannot be read: {0}")]
    Unreadable(Ext4Error),
}

/// Why there is no such ROM.
#[derive(Debug, Error)]
pub enum FileError {
    /// No name of a file.
    #[error("{0:?} is no path of a file: it is empty, too long, or has \".\", \"..\" or nothing between slashes")]
    Path(String),
    /// No such file, or not one that can be read.
    #[error("{0:?}: {1}")]
    File(String, Ext4Error),
    /// Something else than a file.
    #[error("{0:?} is no regular file")]
    NoFile(String),
    /// Longer than the configuration allows.
    #[error("{path:?} has {len} bytes; the longest ROM that is allowed has {max}")]
    Long {
        /// Its path.
        path: String,
        /// Its length.
        len: u64,
        /// `max_kib`, in bytes.
        max: u64,
    },
    /// It ends before its end.
    #[error("{0:?} has fewer bytes than its description says: the file system is corrupt")]
    Short(String),
}

/// A file system image.
pub struct Image(Ext4);

struct Rom<B>(B);

#[derive(Debug, Error)]
#[error("bytes {0} to {1} are beyond the end of the image")]
struct Beyond(u64, u64);

impl<B: AsRef<[u8]>> Ext4Read for Rom<B> {
    fn read(&mut self, start: u64, to: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        let end = start.saturating_add(to.len() as u64);
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let from = range.and_then(|(start, end)| self.0.as_ref().get(start..end));
        to.copy_from_slice(from.ok_or(Beyond(start, end))?);
        Ok(())
    }
}

impl Image {
    /// Looks at the file system's description; files are looked at when they are opened.
    pub fn open(bytes: impl AsRef<[u8]> + 'static) -> Result<Image, ImageError> {
        let len = bytes.as_ref().len();
        let (found, wanted) = (len as u64, extent(bytes.as_ref()).ok_or(ImageError::NotExt(len))?);
        // First, so that nobody takes memory for what is not there.
        if found < wanted {
            return Err(ImageError::Cut { found, wanted });
        }
        Ext4::load(Box::new(Rom(bytes))).map(Image).map_err(ImageError::Unreadable)
    }

    /// The file with that path, from the root of the file system, if it has at most `max` bytes.
    pub fn file(&self, path: &str, max: u64) -> Result<Entry, FileError> {
        let plain = path.strip_prefix('/').unwrap_or(path);
        // Names that begin and end with a slash, or lead up, are somebody's mistake or attempt.
        if plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(FileError::Path(path.into()));
        }
        let failed = |e| match e {
            Ext4Error::MalformedPath | Ext4Error::PathTooLong => FileError::Path(path.into()),
            e => FileError::File(path.into(), e),
        };
        let absolute = self.resolve(plain).map_err(failed)?;
        let metadata = self.0.symlink_metadata(absolute.as_str()).map_err(failed)?;
        if !metadata.file_type().is_regular_file() {
            return Err(FileError::NoFile(path.into()));
        }
        let len = metadata.len();
        if len > max {
            return Err(FileError::Long { path: path.into(), len, max });
        }
        let file = self.0.open(absolute.as_str()).map_err(failed)?;
        Ok(Entry { path: path.into(), len, file })
    }

    /// The same path without symbolic links. `ext4-view` follows them as well, but takes memory for as many bytes of a
    /// link as the file system says that it has.
    fn resolve(&self, path: &str) -> Result<String, Ext4Error> {
        let parts = |path: &str| path.split('/').rev().map(String::from).collect::<Vec<_>>();
        let (mut todo, mut done, mut links) = (parts(path), Vec::new(), 0);
        let join = |done: &[String]| format!("/{}", done.join("/"));
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let here = join(&done);
            let metadata = self.0.symlink_metadata(here.as_str())?;
            if !metadata.is_symlink() {
                continue;
            }
            links += 1;
            if links > MAX_LINKS || metadata.len() > MAX_LINK_LEN {
                return Err(Ext4Error::TooManySymlinks);
            }
            let target = self.0.read_link(here.as_str())?;
            let target = std::str::from_utf8(target.as_ref()).map_err(|_| Ext4Error::NotUtf8)?;
            done.pop();
            if target.starts_with('/') {
                done.clear();
            }
            todo.extend(parts(target));
        }
        Ok(join(&done))
    }
}

/// Bytes of the file system, if there is one.
fn extent(image: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    let magic = image.get(MAGIC..MAGIC + EXT_MAGIC.len())?;
    let (blocks, log) = (word(BLOCKS_COUNT)?, word(LOG_BLOCK_SIZE)?);
    (magic == EXT_MAGIC && log <= LOG_MAX).then(|| u64::from(blocks) << (10 + log))
}

/// A file that is open.
#[derive(Debug)]
pub struct Entry {
    path: String,
    len: u64,
    file: File,
}

impl Entry {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hands its content out in order, piece by piece.
    pub fn read(&mut self, mut to: impl FnMut(&[u8])) -> Result<(), FileError> {
        let (mut piece, mut left) = ([0; 4096], self.len);
        while left > 0 {
            let room = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.file.read_bytes(&mut piece[..room]);
            let count = read.map_err(|e| FileError::File(self.path.clone(), e))?.min(room);
            if count == 0 {
                return Err(FileError::Short(self.path.clone()));
            }
            to(&piece[..count]);
            left -= count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::OnceLock;

    /// What is in the test image.
    const HELLO: &[u8] = b"hello\n";

    fn long() -> Vec<u8> {
        (0..300_000u32).map(|n| (n / 7) as u8).collect()
    }

    /// An image that `mke2fs` makes; every Debian has it.
    fn image(kind: &str) -> Vec<u8> {
        let dir: PathBuf = std::env::temp_dir().join(format!("fs-rom-{kind}-{}", std::process::id()));
        let (tree, file) = (dir.join("tree"), dir.join("image"));
        std::fs::create_dir_all(tree.join("boot/empty")).unwrap();
        std::fs::write(tree.join("boot/hello"), HELLO).unwrap();
        std::fs::write(tree.join("long"), long()).unwrap();
        std::fs::write(tree.join("nothing"), b"").unwrap();
        for (name, target) in [
            ("link", "boot/hello"),
            ("link2", "link2"),
            ("boot/up", ".././boot/../long"),
            ("boot/root", "/boot/up"),
            ("folder", "boot/empty/.."),
            ("far", &"boot/../".repeat(100)),
        ] {
            std::os::unix::fs::symlink(target, tree.join(name)).unwrap();
        }
        let mut make = Command::new("/sbin/mke2fs");
        make.args(["-q", "-t", kind, "-d"]).arg(&tree).arg(&file).arg("1M");
        let out = make.output().expect("/sbin/mke2fs, of Debian's e2fsprogs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        bytes
    }

    fn ext2() -> &'static [u8] {
        static IMAGE: OnceLock<&'static [u8]> = OnceLock::new();
        IMAGE.get_or_init(|| Box::leak(image("ext2").into()))
    }

    fn read(image: &Image, path: &str) -> Result<Vec<u8>, String> {
        let mut entry = image.file(path, 1 << 20).map_err(|e| e.to_string())?;
        let mut out = Vec::new();
        entry.read(|piece| out.extend_from_slice(piece)).map_err(|e| e.to_string())?;
        assert_eq!((out.len() as u64, out.is_empty()), (entry.len(), entry.is_empty()));
        Ok(out)
    }

    #[test]
    fn files_are_read_by_their_paths() {
        for image in [ext2().to_vec(), image("ext4")] {
            let image = Image::open(image).unwrap();
            assert_eq!(read(&image, "boot/hello").as_deref(), Ok(HELLO));
            assert_eq!(read(&image, "/boot/hello").as_deref(), Ok(HELLO));
            assert_eq!(read(&image, "link").as_deref(), Ok(HELLO));
            assert_eq!(read(&image, "folder/hello").as_deref(), Ok(HELLO));
            assert_eq!(read(&image, "far/link").as_deref(), Ok(HELLO));
            assert_eq!(read(&image, "boot/root"), Ok(long()));
            assert_eq!(read(&image, "long"), Ok(long()));
            assert_eq!(read(&image, "nothing"), Ok(vec![]));
        }
    }

    #[test]
    fn what_is_no_file_is_refused_with_its_path() {
        let image = Image::open(ext2()).unwrap();
        for (path, want) in [
            ("boot", "\"boot\" is no regular file"),
            ("boot/bye", "\"boot/bye\": file not found"),
            ("boot/hello/x", "\"boot/hello/x\": "),
            ("", "\"\" is no path"),
            ("/", "\"/\" is no path"),
            ("boot//hello", "is no path"),
            ("../boot/hello", "is no path"),
            ("./long", "is no path"),
            ("link2", "\"link2\": too many levels of symbolic links"),
            ("folder", "is no regular file"),
            ("a\0b", "is no path"),
        ] {
            let e = read(&image, path).unwrap_err();
            assert!(e.contains(want), "{path:?}: {e}");
        }
        let e = image.file("long", 299_999).unwrap_err().to_string();
        assert_eq!(e, "\"long\" has 300000 bytes; the longest ROM that is allowed has 299999");
        assert!(image.file("long", 300_000).is_ok());
        assert!(read(&image, &"x".repeat(5000)).is_err());
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let open = |bytes: Vec<u8>| Image::open(bytes).map(|_| ()).map_err(|e| e.to_string());
        let no = |n: usize| format!("an image of {n} bytes is no ext2, ext3 or ext4 file system");
        assert!(open(vec![]).unwrap_err().starts_with(&no(0)));
        assert!(open(vec![0; 4096]).unwrap_err().starts_with(&no(4096)));
        assert!(open(ext2()[..1080].into()).unwrap_err().starts_with(&no(1080)));
        let cut = open(ext2()[..1 << 19].into()).unwrap_err();
        assert_eq!(cut, "the image has 524288 bytes, but its file system has 1048576: a part of it is missing");
        let mut odd = ext2().to_vec();
        odd[LOG_BLOCK_SIZE] = 7;
        assert!(open(odd).unwrap_err().starts_with(&no(1 << 20)));
        let mut unknown = ext2().to_vec();
        // s_feature_incompat: one that nobody has.
        unknown[SUPERBLOCK + 96 + 3] = 0x80;
        let e = open(unknown).unwrap_err();
        assert!(e.starts_with("the file system in the image cannot be read: "), "{e}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Nothing is promised of what comes out, but that something does.
        #[test]
        fn a_corrupt_image_is_an_error_or_other_bytes(
            flips in prop::collection::vec((prop_oneof![3 => 1024usize..16384, 1 => 0usize..1 << 20], any::<u8>()), 1..8),
        ) {
            let mut bytes = ext2().to_vec();
            flips.iter().for_each(|&(at, byte)| bytes[at] = byte);
            if let Ok(image) = Image::open(bytes) {
                for path in ["boot/hello", "link", "long", "nothing", "boot/empty/x", "link2", "boot/root", "far/link"] {
                    let _ = read(&image, path);
                }
            }
        }
    }
}
