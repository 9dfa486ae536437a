//! What programs of others are linked with: `rt` in place of glibc, by flags alone.
//!
//! Key type: [`Runtime`].

use crate::build::cargo;
use crate::progress::Step;
use crate::{exec, lint, tree};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The target, named so that flags reach no build script.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
/// How components are linked.
const LINK_ARGS: &str = include_str!("../../../roottask/rt/link-args.txt");
/// Cargo's folder for it, below `build`.
pub const FOLDER: &str = "ports/rt";

/// `rt` and what it needs, as libraries for the linker.
pub struct Runtime {
    /// Each before those that it needs.
    libraries: Vec<PathBuf>,
    /// Folder with empty archives in place of the C libraries that std names.
    empty: PathBuf,
    /// Changes with their contents.
    pub hash: u64,
}

impl Runtime {
    pub fn build(step: &Step) -> Result<Runtime> {
        let mut c = cargo();
        c.args(["build", "--release", "--package", "rt", "--target", TARGET, "--message-format", "json"]);
        // Machine code, not what a later link would compile.
        c.env("CARGO_PROFILE_RELEASE_LTO", "off").arg("--target-dir").arg(tree::build_dir(FOLDER)?);
        Runtime::of(&exec::run(c.current_dir(tree::root()), step)?)
    }

    /// From cargo's messages, a line each.
    fn of(messages: &str) -> Result<Runtime> {
        let (mut libraries, mut empty) = (Vec::new(), None);
        for line in messages.lines() {
            let message: serde_json::Value = serde_json::from_str(line).context("a message of cargo")?;
            let paths = |key: &str| -> Vec<PathBuf> {
                message[key].as_array().into_iter().flatten().filter_map(|p| p.as_str().map(PathBuf::from)).collect()
            };
            match message["reason"].as_str() {
                Some("compiler-artifact") => {
                    let of_target = |p: &PathBuf| {
                        p.extension().is_some_and(|e| e == "rlib") && p.components().any(|c| c.as_os_str() == TARGET)
                    };
                    libraries.extend(paths("filenames").into_iter().filter(of_target));
                }
                Some("build-script-executed") if message["package_id"].as_str().is_some_and(is_rt) => {
                    empty = message["out_dir"].as_str().map(PathBuf::from);
                }
                _ => {}
            }
        }
        // Cargo tells of a package after those that it needs.
        libraries.reverse();
        ensure!(!libraries.is_empty(), "cargo has built no libraries for {TARGET}");
        let empty = empty.context("cargo does not tell where the build script of rt writes")?;
        let mut hasher = DefaultHasher::new();
        for library in &libraries {
            tree::read_bytes(library)?.hash(&mut hasher);
        }
        (LINK_ARGS, &empty).hash(&mut hasher);
        Ok(Runtime { libraries, empty, hash: hasher.finish() })
    }

    /// Flags of rustc.
    pub fn flags(&self) -> Vec<String> {
        let codegen = |flag: String| ["-C".to_owned(), flag];
        let linked = LINK_ARGS.lines().map(str::to_owned).chain(["-Wl,-u,_start".to_owned()]);
        let linked = linked.chain(self.libraries.iter().map(|l| l.display().to_string()));
        let mut flags: Vec<String> = ["target-feature=+crt-static", "relocation-model=static"]
            .map(str::to_owned)
            .into_iter()
            .chain(linked.map(|arg| format!("link-arg={arg}")))
            .flat_map(codegen)
            .collect();
        flags.extend(["-L".to_owned(), format!("native={}", self.empty.display())]);
        // The first: system calls by the C library's functions, not by instructions. The other has everything built
        // anew when the runtime is another, which cargo does not see.
        let runtime = format!("ferronova_rt=\"{:016x}\"", self.hash);
        flags.extend(["rustix_use_libc".to_owned(), runtime].into_iter().flat_map(|cfg| ["--cfg".to_owned(), cfg]));
        flags
    }

    /// A program with system calls of its own would make hypercalls that it does not mean.
    pub fn check(&self, program: &Path) -> Result<()> {
        let symbols =
            exec::query(exec::command("nm").args(["--defined-only", "--format=just-symbols"]).args(&self.libraries))?;
        let ours: BTreeSet<&str> = symbols.lines().collect();
        let code = lint::Disassembly::of(program)?;
        let strange: BTreeSet<&str> = code.system_calls().filter(|f| !ours.contains(f)).collect();
        let names: Vec<&str> = strange.iter().copied().collect();
        ensure!(names.is_empty(), "it enters the kernel by itself, as if that were Linux, in {}", names.join(", "));
        ensure!(code.len() > 0, "nothing of it could be disassembled");
        Ok(())
    }
}

/// Whether that is the identifier of our runtime's package.
fn is_rt(package: &str) -> bool {
    package.split(['#', ' ']).next().is_some_and(|path| path.ends_with("/roottask/rt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_is_what_cargo_has_built_for_the_target() {
        let dir = std::env::temp_dir().join(format!("ferronova-port-{}", std::process::id()));
        let lib = dir.join(TARGET).join("librt.rlib");
        std::fs::create_dir_all(lib.parent().unwrap()).unwrap();
        std::fs::write(&lib, "x").unwrap();
        let artifact = |p: &Path| serde_json::json!({"reason": "compiler-artifact", "filenames": [p]}).to_string();
        let id = "path+file:///x/roottask/rt#0.1.0";
        let script = serde_json::json!({"reason": "build-script-executed", "package_id": id, "out_dir": "/out"});
        let host = artifact(Path::new("/x/release/libsyn.rlib"));
        let messages = format!("{host}\n{}\n{script}\n", artifact(&lib));
        let runtime = Runtime::of(&messages).unwrap();
        assert_eq!((runtime.libraries.as_slice(), runtime.empty.as_path()), (&[lib.clone()][..], Path::new("/out")));
        let flags = runtime.flags().join(" ");
        assert!(flags.contains("-C link-arg=-static") && flags.contains(&format!("-C link-arg={}", lib.display())));
        std::fs::write(&lib, "y").unwrap();
        assert_ne!(Runtime::of(&messages).unwrap().hash, runtime.hash);
        assert!(Runtime::of(&host).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
