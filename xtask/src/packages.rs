//! Debian packages: those that must be installed (emulator, GRUB), and those whose content we only unpack (the guest's
//! kernel and BusyBox).
//!
//! Key types: [`Need`], [`Missing`], [`Unpacked`].

use crate::progress::Step;
use crate::{exec, tree};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that must be on the machine, and the Debian package that has it.
pub struct Need {
    /// A program name, or an absolute path.
    pub probe: &'static str,
    /// The package.
    pub package: &'static str,
}

const fn need(probe: &'static str, package: &'static str) -> Need {
    Need { probe, package }
}

/// To make a boot image with the guest in it.
pub const FOR_IMAGES: &[Need] = &[
    need("grub-mkrescue", "grub-common"),
    need("/usr/lib/grub/i386-pc/multiboot2.mod", "grub-pc-bin"),
    need("/usr/lib/grub/x86_64-efi/multiboot2.mod", "grub-efi-amd64-bin"),
    need("xorriso", "xorriso"),
    need("mformat", "mtools"),
    need("objcopy", "binutils"),
    need("dpkg-deb", "dpkg"),
];
/// To run Bochs.
pub const FOR_BOCHS: &[Need] = &[
    need("bochs", "bochs"),
    need("/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so", "bochs-term"),
    need("/usr/share/bochs/BIOS-bochs-latest", "bochsbios"),
    need("/usr/share/vgabios/vgabios.bin", "vgabios"),
    need("setpriv", "util-linux"),
];
/// To run QEMU.
pub const FOR_QEMU: &[Need] = &[need("qemu-system-x86_64", "qemu-system-x86"), need("setpriv", "util-linux")];

/// To build C programs.
pub const FOR_C: &[Need] =
    &[need("cc", "gcc"), need("make", "make"), need("tar", "tar"), need("gzip", "gzip"), need("xz", "xz-utils")];

/// UEFI for QEMU.
pub const FOR_UEFI: &[Need] = &[need("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf")];
/// To make file system images.
pub const FOR_EXT2: &[Need] = &[need("/sbin/mke2fs", "e2fsprogs")];
/// To debug.
pub const FOR_GDB: &[Need] = &[need("gdb", "gdb"), need("setpriv", "util-linux")];

/// Packages that are needed and that we may not install: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("needed packages are not installed; install them with:\n    {command}")]
pub struct Missing {
    command: String,
}

/// What Debian 12 is called.
const RELEASE: &str = "bookworm";

fn present(n: &Need) -> bool {
    if n.probe.starts_with('/') { Path::new(n.probe).exists() } else { exec::find(n.probe) }
}

/// The packages of those needs that are not met, each once.
pub fn missing<'a>(needs: impl IntoIterator<Item = &'a Need>) -> Vec<&'static str> {
    let mut list = Vec::new();
    for n in needs {
        if !list.contains(&n.package) && !present(n) {
            list.push(n.package);
        }
    }
    list
}

/// Meets the needs, installing packages if we may, else says what to install ([`Missing`]).
pub fn ensure_installed<'a>(needs: impl IntoIterator<Item = &'a Need>) -> Result<()> {
    let packages = missing(needs);
    if packages.is_empty() {
        return Ok(());
    }
    let command = format!("sudo apt-get install --no-install-recommends {}", packages.join(" "));
    let Some(privileged) = Privilege::find().filter(|_| exec::find("apt-get")) else {
        return Err(Missing { command }.into());
    };
    let step = Step::begin(format!("installing {} with apt-get", packages.join(", ")));
    // A source that cannot be reached does not matter unless the packages are there.
    let updated = privileged.update(&step);
    let mut apt = privileged.command("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends"]).args(&packages);
    if let Err(e) = exec::run(&mut apt, &step) {
        updated.context("updating the package lists")?;
        return Err(e);
    }
    step.done("");
    Ok(())
}

/// How we get root's rights.
#[derive(Clone, Copy)]
enum Privilege {
    Root,
    Sudo,
}

impl Privilege {
    /// `None` if we have no way that asks no question.
    fn find() -> Option<Privilege> {
        if rustix::process::geteuid().is_root() {
            return Some(Privilege::Root);
        }
        let sudo = exec::find("sudo") && exec::query(exec::command("sudo").args(["-n", "true"])).is_ok();
        sudo.then_some(Privilege::Sudo)
    }

    fn command(self, program: &str) -> Command {
        let mut c = match self {
            Privilege::Root => exec::command("env"),
            Privilege::Sudo => exec::command("sudo"),
        };
        if let Privilege::Sudo = self {
            c.args(["-n", "env"]);
        }
        c.args(["DEBIAN_FRONTEND=noninteractive", program]);
        c
    }

    fn update(self, step: &Step) -> Result<()> {
        exec::run(self.command("apt-get").arg("update"), step).map(drop)
    }
}

/// The content of a package, unpacked.
pub struct Unpacked {
    /// Where.
    pub dir: PathBuf,
    /// Name and version, such as `busybox-static 1:1.35.0-4`.
    pub version: String,
}

/// A package whose content is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name.
    pub package: &'a str,
    /// The named package only depends on the wanted one, whose name begins so: Debian's `linux-image-cloud-amd64` only
    /// names the newest kernel's package.
    pub via: Option<&'a str>,
    /// Suite such as `bookworm-backports`, from the server that apt has for Debian 12; else what apt itself finds.
    pub suite: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// A package as such.
    pub fn named(package: &'a str) -> Self {
        Wanted { package, via: None, suite: None }
    }

    /// Name for files.
    fn label(&self) -> String {
        self.suite.map_or(self.package.into(), |suite| format!("{}_{suite}", self.package))
    }
}

/// Fetches the package into `build/packages` and unpacks it, unless that was done before.
pub fn unpacked(wanted: &Wanted) -> Result<Unpacked> {
    let (base, label) = (tree::build_dir("packages")?, wanted.label());
    let (dir, record) = (base.join(&label), base.join(format!("{label}.version")));
    if let Ok(version) = std::fs::read_to_string(&record)
        && dir.is_dir()
    {
        return Ok(Unpacked { dir, version: version.trim().to_owned() });
    }
    let step = Step::begin(format!("fetching {label}"));
    let deb = fetch(wanted, &base, &step)?;
    let version = exec::query(exec::command("dpkg-deb").args(["--show"]).arg(&deb))?.trim().replace('\t', " ");
    let _ = std::fs::remove_dir_all(&dir);
    exec::run(exec::command("dpkg-deb").arg("-x").arg(&deb).arg(&dir), &step)?;
    std::fs::write(&record, &version)?;
    std::fs::remove_file(&deb)?;
    step.done(&version);
    Ok(Unpacked { dir, version })
}

/// A source package, unpacked.
pub struct Source {
    /// Where.
    pub dir: PathBuf,
    /// Name and version, such as `musl 1.2.3`.
    pub version: String,
}

/// Fetches what upstream has published of a source package of Debian 12, as Debian has it, into `build/packages` and unpacks
/// it, unless that was done before. Apt checks it; Debian's own changes are left out.
pub fn source(package: &str, step: &Step) -> Result<Source> {
    let base = tree::build_dir("packages")?;
    let (dir, record) = (base.join(format!("{package}-source")), base.join(format!("{package}-source.version")));
    if let Ok(version) = std::fs::read_to_string(&record)
        && dir.is_dir()
    {
        return Ok(Source { dir, version });
    }
    let lists = Lists::of_sources(step).with_context(|| format!("fetching the source of {package}"))?;
    let into = base.join(format!("{package}-source.download"));
    let _ = std::fs::remove_dir_all(&into);
    std::fs::create_dir_all(&into)?;
    step.note(&format!("fetching the source of {package}"));
    exec::run(lists.apt("apt-get").args(["source", "--download-only", package]).current_dir(&into), step)?;
    let files: Vec<PathBuf> = std::fs::read_dir(&into)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    let (archive, version) = files
        .iter()
        .find_map(|f| Some((f, upstream(f)?)))
        .with_context(|| format!("the source package {package} has no archive of upstream that is named as such"))?;
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let mut tar = exec::command("tar");
    exec::run(tar.arg("--extract").arg("--file").arg(archive).arg("--strip-components=1").arg("-C").arg(&dir), step)?;
    std::fs::write(&record, &version)?;
    std::fs::remove_dir_all(&into)?;
    Ok(Source { dir, version })
}

/// Name and version of an archive such as `musl_1.2.3.orig.tar.gz`.
fn upstream(file: &Path) -> Option<String> {
    let (name, kind) = file.file_name()?.to_str()?.split_once(".orig.tar.")?;
    let (package, version) = name.split_once('_')?;
    ["gz", "xz", "bz2"].contains(&kind).then(|| format!("{package} {version}"))
}

/// Downloads; a second time after an update of the package lists if these are missing or out of date.
fn fetch(wanted: &Wanted, base: &Path, step: &Step) -> Result<PathBuf> {
    let package = wanted.package;
    if !exec::find("apt-get") {
        bail!("{package} is taken from Debian's package and there is no apt-get on this machine");
    }
    if let Some(suite) = wanted.suite {
        let lists = Lists::of_suite(suite, step)?;
        return lists.download(wanted, base, step).with_context(|| format!("fetching {package} of {suite}"));
    }
    let first = Lists::System.download(wanted, base, step);
    if first.is_ok() {
        return first;
    }
    let lists = Lists::updated(step).with_context(|| format!("updating the package lists to find {package}"))?;
    lists.download(wanted, base, step).with_context(|| {
        format!("fetching {package}: it is in Debian 12; is a source with it in /etc/apt/sources.list?")
    })
}

/// Which package lists apt uses: the system's, or lists below `build/`: for a user who may not update the system's, and
/// for a suite that is not among the system's sources.
enum Lists {
    System,
    Private(PathBuf),
    Suite(PathBuf),
}

impl Lists {
    fn updated(step: &Step) -> Result<Lists> {
        step.note("updating the package lists");
        if let Some(p) = Privilege::find() {
            p.update(step)?;
            return Ok(Lists::System);
        }
        let lists = Lists::Private(private_dir("apt")?);
        exec::run(lists.apt("apt-get").arg("update"), step)?;
        Ok(lists)
    }

    /// The lists of one suite alone.
    fn of_suite(suite: &str, step: &Step) -> Result<Lists> {
        let release = suite.split('-').next().unwrap_or(suite);
        let format =
            ["--no-release-info", "--format", "$(RELEASE) $(REPO_URI)", "indextargets", "Created-By: Packages"];
        let targets = exec::query(exec::command("apt-get").args(format)).context("asking apt for its sources")?;
        let server = server(&targets, release).with_context(|| {
            format!("{suite} comes from the server of {release}, and none of apt's sources in /etc/apt has {release}")
        })?;
        Lists::fetched(&format!("apt-{suite}"), &line("deb", server, suite), step)
            .with_context(|| format!("the package lists of {suite} cannot be had from the server of {release}"))
    }

    /// The source packages of Debian 12.
    fn of_sources(step: &Step) -> Result<Lists> {
        let format =
            ["--no-release-info", "--format", "$(RELEASE) $(REPO_URI)", "indextargets", "Created-By: Packages"];
        let targets = exec::query(exec::command("apt-get").args(format)).context("asking apt for its sources")?;
        let server = server(&targets, RELEASE).context("none of apt's sources in /etc/apt has Debian 12")?;
        Lists::fetched("apt-sources", &line("deb-src", server, RELEASE), step)
            .context("the lists of source packages cannot be had from the server of Debian 12")
    }

    /// Lists of what that line of a sources.list names, and nothing else.
    fn fetched(folder: &str, line: &str, step: &Step) -> Result<Lists> {
        let dir = private_dir(folder)?;
        std::fs::write(dir.join("sources.list"), line)?;
        step.note(&format!("updating the package lists in {folder}"));
        let lists = Lists::Suite(dir);
        // Whatever cannot be had would only be a warning otherwise.
        exec::run(lists.apt("apt-get").args(["-o", "APT::Update::Error-Mode=any", "update"]), step)?;
        Ok(lists)
    }

    fn apt(&self, program: &str) -> Command {
        let mut c = exec::command(program);
        let mut option = |key: &str, value: &Path| {
            c.arg("-o").arg(format!("{key}={}", value.display()));
        };
        if let Lists::Private(dir) | Lists::Suite(dir) = self {
            option("Dir::State::Lists", &dir.join("lists"));
            option("Dir::Cache", &dir.join("cache"));
        }
        if let Lists::Suite(dir) = self {
            option("Dir::Etc::SourceList", &dir.join("sources.list"));
            option("Dir::Etc::SourceParts", Path::new("-"));
        }
        // As root, apt would drop to a user that may not write below `build/`, and say so at length.
        c.args(["-o", "APT::Sandbox::User=root"]);
        c
    }

    fn download(&self, wanted: &Wanted, base: &Path, step: &Step) -> Result<PathBuf> {
        let package = wanted.package;
        let name = match wanted.via {
            None => package.to_owned(),
            Some(prefix) => {
                let text = exec::query(self.apt("apt-cache").args(["depends", package]))?;
                dependency(&text, prefix)
                    .with_context(|| format!("{package} depends on no package whose name begins with {prefix}"))?
            }
        };
        let into = base.join(format!("{}.download", wanted.label()));
        let _ = std::fs::remove_dir_all(&into);
        std::fs::create_dir_all(&into)?;
        exec::run(self.apt("apt-get").args(["download", &name]).current_dir(&into), step)?;
        let file = std::fs::read_dir(&into)?.next().context("apt-get download left no file")??.path();
        let deb = base.join(format!("{}.deb", wanted.label()));
        std::fs::rename(file, &deb)?;
        std::fs::remove_dir(&into)?;
        Ok(deb)
    }
}

/// A directory with what apt wants in it.
fn private_dir(name: &str) -> Result<PathBuf> {
    let dir = Path::new("packages").join(name);
    for d in ["lists/partial", "cache/archives/partial"] {
        tree::build_dir(dir.join(d))?;
    }
    tree::build_dir(dir)
}

/// The server of a release, among lines with release and server.
fn server<'a>(targets: &'a str, release: &str) -> Option<&'a str> {
    targets.lines().filter_map(|l| l.split_once(' ')).find(|(r, _)| *r == release).map(|(_, server)| server)
}

/// A line of a sources.list, for packages or sources. The key is named because it need not be among those that apt trusts for
/// everything.
fn line(kind: &str, server: &str, suite: &str) -> String {
    let key = Some("/usr/share/keyrings/debian-archive-keyring.gpg").filter(|k| Path::new(k).exists());
    let options = key.map_or(String::new(), |k| format!("[signed-by={k}] "));
    format!("{kind} {options}{server} {suite} main\n")
}

/// The first dependency in the output of `apt-cache depends` whose name begins with `prefix`.
fn dependency(text: &str, prefix: &str) -> Option<String> {
    text.lines().filter_map(|l| l.trim().strip_prefix("Depends: ")).find(|n| n.starts_with(prefix)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_kernel_package_is_found_among_dependencies() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependency(text, "linux-image-").unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(dependency("x\n  Suggests: linux-image-1\n", "linux-image-"), None);
    }

    #[test]
    fn a_suite_is_fetched_from_the_server_of_its_release() {
        let targets = "bookworm-updates http://a.example/debian/\nbookworm http://b.example/debian/\n";
        assert_eq!(server(targets, "bookworm"), Some("http://b.example/debian/"));
        assert_eq!(server(targets, "trixie"), None);
        let line = line("deb", "http://b.example/debian/", "bookworm-backports");
        assert!(
            line.starts_with("deb ") && line.ends_with("http://b.example/debian/ bookworm-backports main\n"),
            "{line}"
        );
    }

    #[test]
    fn upstream_s_archive_is_told_from_debian_s() {
        let of = |name: &str| upstream(Path::new(name));
        assert_eq!(of("/x/musl_1.2.3.orig.tar.gz").as_deref(), Some("musl 1.2.3"));
        assert_eq!(of("/x/lua5.4_5.4.4.orig.tar.xz").as_deref(), Some("lua5.4 5.4.4"));
        for other in ["/x/musl_1.2.3-1.debian.tar.xz", "/x/musl_1.2.3-1.dsc", "/x/musl_1.2.3.orig.tar.gz.asc"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn packages_of_different_suites_do_not_mix() {
        let main = Wanted::named("x");
        assert_eq!((main.label(), Wanted { suite: Some("s"), ..main }.label()), ("x".into(), "x_s".into()));
    }

    #[test]
    fn unmet_needs_name_their_packages_once() {
        let needs = [need("sh", "dash"), need("/no/such", "a"), need("no-such-program", "a"), need("/nor/this", "b")];
        assert_eq!(missing(&needs), ["a", "b"]);
    }

    #[test]
    fn what_to_install_is_a_command_to_paste() {
        let m = Missing { command: "sudo apt-get install bochs".into() };
        assert!(m.to_string().contains("    sudo apt-get install bochs"));
    }
}
