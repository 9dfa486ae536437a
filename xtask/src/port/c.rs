//! C programs from Debian's source, with musl as their C library, whose source is Debian's as well. Of musl two headers are
//! ours: how a system call is made, and where the thread is (`ports/libc`).
//!
//! Key type: [`Program`].

use super::runtime::{FOLDER, Runtime, TARGET};
use crate::build::cargo;
use crate::packages::{self, Source};
use crate::progress::Step;
use crate::{exec, tree};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package of the Rust side.
pub const PACKAGE: &str = "c-program";
/// Our part of the C library.
const LIBC: &str = "ports/libc";
/// Of that, what goes in place of musl's headers.
const HEADERS: [&str; 2] = ["syscall_arch.h", "pthread_arch.h"];
/// Members of musl's library that are not used: the runtime ends programs, and this one's weak names would hide others.
const UNUSED: &str = "exit.lo";
/// What C is compiled with.
const FLAGS: [&str; 6] =
    ["-O2", "-ffunction-sections", "-fdata-sections", "-fno-pie", "-fno-asynchronous-unwind-tables", "-nostdinc"];

/// Files of a source package that are one program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Debian's source package.
    source: String,
    /// Folder in it: all `*.c` there are compiled.
    files: String,
    /// But these.
    #[serde(default)]
    without: Vec<String>,
    /// More flags for the compiler.
    #[serde(default)]
    flags: Vec<String>,
}

/// Changes with our part of the C library.
pub fn libc_hash() -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for name in HEADERS.into_iter().chain(["start.c"]) {
        tree::read_bytes(&tree::root().join(LIBC).join(name))?.hash(&mut hasher);
    }
    (UNUSED, FLAGS).hash(&mut hasher);
    Ok(hasher.finish())
}

impl Program {
    /// Compiles it and links it to `program`.
    pub fn build(&self, runtime: &Runtime, dir: &Path, program: &Path, step: &Step) -> Result<()> {
        packages::ensure_installed(packages::FOR_C)?;
        let libc = Libc::build(step)?;
        let Source { dir: source, .. } = packages::source(&self.source, step)?;
        let objects = self.compile(&source, &libc, dir, step)?;
        let wrap = ["-Wl,--wrap=main", "-Wl,--wrap=exit"].map(PathBuf::from);
        let linked = wrap.into_iter().chain(objects).chain([libc.start, libc.library]);
        let mut c = cargo();
        c.args(["rustc", "--release", "--package", PACKAGE, "--features", "component", "--target", TARGET]);
        c.arg("--target-dir").arg(tree::build_dir(FOLDER)?).arg("--");
        linked.for_each(|arg| _ = c.arg("-C").arg(format!("link-arg={}", arg.display())));
        // Cargo does not see when these are others.
        c.arg("--cfg").arg(format!("made_of=\"{:016x}\"", hash_of(&self.source, runtime)?));
        c.env("CARGO_PROFILE_RELEASE_LTO", "off");
        exec::run(c.current_dir(tree::root()), step)?;
        std::fs::create_dir_all(program.parent().context("no folder for the program")?)?;
        let made = tree::build(FOLDER).join(TARGET).join("release").join(PACKAGE);
        std::fs::copy(&made, program).with_context(|| format!("copying {}", tree::shown(&made)))?;
        // So that the next program is linked, whatever cargo thinks of it.
        std::fs::remove_file(&made)?;
        Ok(())
    }

    fn compile(&self, source: &Path, libc: &Libc, dir: &Path, step: &Step) -> Result<Vec<PathBuf>> {
        let (from, to) = (source.join(&self.files), dir.join("objects"));
        std::fs::create_dir_all(&to)?;
        let mut files = c_files(&from)?;
        for name in &self.without {
            ensure!(files.iter().any(|f| f.ends_with(name)), "{} has no {name} to leave out", tree::shown(&from));
        }
        files.retain(|f| !self.without.iter().any(|name| f.ends_with(name)));
        ensure!(!files.is_empty(), "{} has no C files", tree::shown(&from));
        let compile = |file: &PathBuf| {
            let object = to.join(file.file_name().unwrap_or_default()).with_extension("o");
            let mut c = exec::command("cc");
            c.args(FLAGS).args(&self.flags).arg("-isystem").arg(&libc.include).arg("-isystem").arg(&libc.compiler);
            exec::run(c.arg("-c").arg(file).arg("-o").arg(&object), step)?;
            Ok(object)
        };
        files.iter().map(compile).collect()
    }
}

/// Programs are one package to cargo, and each has its own objects.
fn hash_of(name: &str, runtime: &Runtime) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    (name, runtime.hash, libc_hash()?).hash(&mut hasher);
    Ok(hasher.finish())
}

/// The C files of a folder, in the order of their names.
fn c_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", tree::shown(dir)))?;
    let mut files: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "c"));
    files.sort();
    Ok(files)
}

/// The C library, built.
struct Libc {
    /// Its headers.
    include: PathBuf,
    /// The compiler's own, such as `stddef.h`.
    compiler: PathBuf,
    /// What is linked with each program.
    start: PathBuf,
    /// The archive.
    library: PathBuf,
}

impl Libc {
    fn build(step: &Step) -> Result<Libc> {
        let source = packages::source("musl", step)?;
        let dir = tree::build_dir("ports/musl")?;
        let (copy, stamp) = (dir.join("source"), dir.join("stamp"));
        let compiler = exec::query(exec::command("cc").arg("-print-file-name=include"))?;
        let libc = Libc {
            include: dir.join("include"),
            compiler: compiler.trim().into(),
            start: dir.join("start.o"),
            library: dir.join("libc.a"),
        };
        let made_of = format!("{} {:016x}", source.version, libc_hash()?);
        if std::fs::read_to_string(&stamp).is_ok_and(|there| there == made_of) {
            return Ok(libc);
        }
        step.note("building musl");
        let _ = std::fs::remove_dir_all(&copy);
        exec::run(exec::command("cp").arg("-a").arg(&source.dir).arg(&copy), step)?;
        let ours = tree::root().join(LIBC);
        for header in HEADERS {
            let to = copy.join("arch/x86_64").join(header);
            std::fs::copy(ours.join(header), &to).with_context(|| format!("replacing {}", to.display()))?;
        }
        let within = |program: &str| -> Command {
            let mut c = exec::command(program);
            c.current_dir(&copy);
            c
        };
        exec::run(within("./configure").args(["--disable-shared", "--enable-wrapper=no"]), step)?;
        let jobs = std::thread::available_parallelism()?.to_string();
        exec::run(within("make").args(["-j", &jobs, "lib/libc.a"]), step)?;
        let prefix = format!("prefix={}", dir.display());
        exec::run(within("make").args([&prefix, "install-headers"]), step)?;
        std::fs::copy(copy.join("lib/libc.a"), &libc.library)?;
        exec::run(within("ar").arg("d").arg(&libc.library).arg(UNUSED), step)?;
        let inside = "-std=c99 -ffreestanding -D_XOPEN_SOURCE=700 -Iarch/x86_64 -Iarch/generic -Iobj/src/internal \
                      -Isrc/include -Isrc/internal -Iobj/include -Iinclude";
        let mut c = within("cc");
        c.args(FLAGS).args(inside.split_whitespace()).arg("-c").arg(ours.join("start.c")).arg("-o").arg(&libc.start);
        exec::run(&mut c, step)?;
        std::fs::write(&stamp, made_of)?;
        Ok(libc)
    }
}
