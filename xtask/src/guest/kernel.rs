//! Guest kernels from Debian's packages: as they are, unpacked, or the ELF file that is packed in a bzImage.

use crate::packages::{self, Wanted};
use crate::progress::Step;
use crate::tree;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest kernel that is believed.
const UNPACKED_MAX: u64 = 256 << 20;

/// Setup header of a bzImage (Linux, "The Linux/x86 Boot Protocol"): offsets.
mod header {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const MAGIC: usize = 0x202;
    pub const PAYLOAD_OFFSET: usize = 0x248;
    pub const PAYLOAD_LENGTH: usize = 0x24c;
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Debian's package, which depends on that of the newest kernel.
    package: String,
    /// How the name of that one begins.
    #[serde(default = "linux_image")]
    depends: String,
    /// How the name of its file in `/boot` begins.
    #[serde(default = "vmlinuz")]
    file: String,
    /// Suite such as `bookworm-backports`; Debian 12 itself if not given.
    suite: Option<String>,
    /// What of it.
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    /// The file as it is.
    Bzimage,
    /// The ELF file in a bzImage.
    Vmlinux,
    /// What gunzip makes of the file.
    Gzip,
}

fn linux_image() -> String {
    "linux-image-".into()
}

fn vmlinuz() -> String {
    "vmlinuz-".into()
}

impl Kernel {
    /// The kernel's file; fetched and made if it is not there.
    pub fn file(&self) -> Result<PathBuf> {
        let wanted = Wanted { package: &self.package, via: Some(&self.depends), suite: self.suite.as_deref() };
        let image = packages::unpacked(&wanted)?;
        let dir = tree::build_dir(format!("guest/{}", image.version.replace([' ', ':'], "_")))?;
        let made = dir.join(match self.format {
            Format::Bzimage => "bzImage",
            Format::Vmlinux => "vmlinux",
            Format::Gzip => "gunzipped",
        });
        // The version is in the path: what is there is right.
        if !made.exists() {
            let step = Step::begin(format!("making {}", tree::shown(&made)));
            let bytes = self.format.unpack(tree::read_bytes(&self.find(&image.dir)?)?)?;
            tree::write_if_changed(&made, &bytes)?;
            step.done(&format!("{} KiB", bytes.len() >> 10));
        }
        Ok(made)
    }

    /// The file in an unpacked package: neither an EFI program nor a configuration, which have the same beginning (Xen).
    fn find(&self, package: &Path) -> Result<PathBuf> {
        let boot = package.join("boot");
        let names = std::fs::read_dir(&boot).with_context(|| format!("reading {}", boot.display()))?;
        let names = names.filter_map(|f| f.ok()?.file_name().into_string().ok());
        let name = names.filter(|n| n.starts_with(&self.file) && !n.ends_with(".efi") && !n.ends_with(".config")).max();
        Ok(boot.join(name.with_context(|| format!("{} holds no {}*", boot.display(), self.file))?))
    }
}

impl Format {
    fn unpack(self, file: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Format::Bzimage => Ok(file),
            Format::Vmlinux => vmlinux(&file),
            Format::Gzip => gunzip(&file),
        }
    }
}

fn gunzip(file: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(file).take(UNPACKED_MAX).read_to_end(&mut unpacked).context("unpacking gzip")?;
    Ok(unpacked)
}

/// The ELF file in a bzImage.
fn vmlinux(bzimage: &[u8]) -> Result<Vec<u8>> {
    let elf = unpack(payload(bzimage)?)?;
    ensure!(elf.starts_with(b"\x7fELF"), "what is packed in the kernel is no ELF file");
    Ok(elf)
}

/// The packed part.
fn payload(bzimage: &[u8]) -> Result<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(bzimage.get(at..at + 4)?.try_into().ok()?) as usize);
    ensure!(bzimage.get(header::MAGIC..header::MAGIC + 4) == Some(b"HdrS"), "the kernel is not a bzImage");
    let setup = usize::from(bzimage[header::SETUP_SECTS]);
    // The protocol: 0 means 4.
    let code = (if setup == 0 { 4 } else { setup } + 1) * 512;
    let range = word(header::PAYLOAD_OFFSET).zip(word(header::PAYLOAD_LENGTH)).and_then(|(offset, len)| {
        let start = code.checked_add(offset)?;
        bzimage.get(start..start.checked_add(len)?)
    });
    range.context("the kernel is cut off: its payload is not in it")
}

/// Its format is found out by its first bytes, as the boot protocol says.
fn unpack(payload: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    match payload {
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => unpack_lz4(blocks, &mut unpacked)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(payload).context("unpacking the kernel's zstd")?;
            decoder.take(UNPACKED_MAX).read_to_end(&mut unpacked).context("unpacking the kernel's zstd")?;
        }
        [0x1f, 0x8b, ..] => return gunzip(payload),
        [0xfd, 0x37, ..] => {
            bail!("the kernel is packed by XZ with a filter for x86, which no crate in use here unpacks")
        }
        [a, b, ..] => bail!("the kernel is packed in a format that is not known here; it begins with {a:#x} {b:#x}"),
        _ => bail!("the kernel's payload is empty"),
    }
    Ok(unpacked)
}

/// LZ4's legacy frames: length and content of a block, and so on. The build of Linux adds the unpacked length, 4 bytes,
/// which a frame decoder would take for the length of another block.
fn unpack_lz4(mut rest: &[u8], unpacked: &mut Vec<u8>) -> Result<()> {
    /// What each block unpacks to at most.
    const BLOCK: usize = 8 << 20;
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        if tail.is_empty() {
            ensure!(len == unpacked.len(), "the kernel's LZ4 unpacks to {} bytes instead of {len}", unpacked.len());
            return Ok(());
        }
        let block = tail.get(..len).context("the kernel's LZ4 is cut off")?;
        unpacked.extend(lz4_flex::block::decompress(block, BLOCK).context("unpacking the kernel's LZ4")?);
        ensure!(unpacked.len() as u64 <= UNPACKED_MAX, "the kernel's LZ4 unpacks to more than {UNPACKED_MAX} bytes");
        rest = &tail[len..];
    }
    bail!("the kernel's LZ4 does not end with its unpacked length")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage around a payload.
    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut f = vec![0; 1024 + 16];
        f[header::SETUP_SECTS] = 1;
        f[header::MAGIC..header::MAGIC + 4].copy_from_slice(b"HdrS");
        f[header::PAYLOAD_OFFSET] = 16;
        f[header::PAYLOAD_LENGTH..header::PAYLOAD_LENGTH + 4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        [&f[..], payload, b"what follows"].concat()
    }

    /// Two blocks, and the length.
    fn lz4(content: &[u8]) -> Vec<u8> {
        let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
        for block in content.chunks(content.len().div_ceil(2)) {
            let block = lz4_flex::block::compress(block);
            packed.extend((block.len() as u32).to_le_bytes());
            packed.extend(block);
        }
        packed.extend((content.len() as u32).to_le_bytes());
        packed
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, content).unwrap();
        encoder.finish().unwrap()
    }

    fn refused(file: &[u8]) -> String {
        format!("{:#}", vmlinux(file).unwrap_err())
    }

    #[test]
    fn the_elf_file_comes_out_as_it_went_in() {
        let elf = [&b"\x7fELF"[..], &[7; 5000]].concat();
        assert_eq!(vmlinux(&bzimage(&lz4(&elf))).unwrap(), elf);
        let zstd = ruzstd::encoding::compress_to_vec(&elf[..], ruzstd::encoding::CompressionLevel::Fastest);
        let gzip = gzip(&elf);
        assert_eq!(vmlinux(&bzimage(&gzip)).unwrap(), elf);
        assert_eq!(Format::Gzip.unpack(gzip).unwrap(), elf);
        let with_length = [&zstd[..], &5004u32.to_le_bytes()].concat();
        assert_eq!(vmlinux(&bzimage(&with_length)).unwrap(), elf);
    }

    #[test]
    fn damage_is_named() {
        let good = lz4(b"\x7fELF and so on, and so on, and so on");
        assert_eq!(refused(b"MZ"), "the kernel is not a bzImage");
        assert!(refused(&bzimage(&good)[..1050]).contains("cut off"));
        assert!(refused(&bzimage(&lz4(b"no ELF at all"))).contains("no ELF file"));
        assert!(refused(&bzimage(&good[..good.len() - 4])).contains("does not end with its unpacked length"));
        assert!(refused(&bzimage(&good[..good.len() - 6])).contains("cut off"));
        let mut wrong = good.clone();
        *wrong.last_mut().unwrap() = 9;
        assert!(refused(&bzimage(&wrong)).contains("unpacks to 36 bytes instead of"), "{}", refused(&bzimage(&wrong)));
        assert!(refused(&bzimage(&[0xfd, 0x37, 0x7a])).contains("XZ"));
        assert!(refused(&bzimage(&[1, 2])).contains("begins with 0x1 0x2"));
        assert!(refused(&bzimage(&[])).contains("empty"));
    }

    #[test]
    fn sources_are_read() {
        let read = |text: &str| toml::from_str::<Kernel>(text);
        let k = read("package = 'p'\nsuite = 's-backports'\nformat = 'vmlinux'").unwrap();
        assert_eq!((k.package.as_str(), k.suite.as_deref(), k.format), ("p", Some("s-backports"), Format::Vmlinux));
        assert_eq!(read("package = 'p'").unwrap().format, Format::Bzimage);
        let k = read("package = 'p'\ndepends = 'd-'\nfile = 'f-'\nformat = 'gzip'").unwrap();
        assert_eq!((k.depends.as_str(), k.file.as_str(), k.format), ("d-", "f-", Format::Gzip));
        assert!(read("package = 'p'\nversion = 3").is_err());
        assert!(Format::Gzip.unpack(b"no gzip".to_vec()).is_err());
    }

    #[test]
    fn the_kernel_is_found_in_its_package() {
        let boot = tree::build_dir("unit-tests/package/boot").unwrap();
        for name in ["xen-4.17.config", "xen-4.17.efi", "xen-4.17.gz", "System.map"] {
            std::fs::write(boot.join(name), name).unwrap();
        }
        let package = boot.parent().unwrap();
        let named = |file: &str| toml::from_str::<Kernel>(&format!("package = 'p'\nfile = '{file}'")).unwrap();
        assert_eq!(named("xen-").find(package).unwrap(), boot.join("xen-4.17.gz"));
        let e = named("vmlinuz-").find(package).unwrap_err().to_string();
        assert!(e.ends_with("holds no vmlinuz-*"), "{e}");
        std::fs::remove_dir_all(package).unwrap();
    }
}
