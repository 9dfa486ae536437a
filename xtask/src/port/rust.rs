//! Programs of crates.io: `cargo install`, and flags for rustc.
//!
//! Key type: [`Program`].

use super::runtime::{Runtime, TARGET};
use crate::build::cargo;
use crate::progress::Step;
use crate::{exec, tree};
use anyhow::{Result, ensure};
use serde::Deserialize;
use std::path::Path;

/// A package with a program of its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The package.
    #[serde(rename = "crate")]
    package: String,
    /// Its version.
    version: String,
}

impl Program {
    /// The file has the program's name.
    pub fn check(&self, name: &str) -> Result<()> {
        ensure!(self.package == name, "the program is {:?}, so the file has to be {0}.toml", self.package);
        Ok(())
    }

    /// Installs it into `bin` in `dir`.
    pub fn build(&self, runtime: &Runtime, dir: &Path, step: &Step) -> Result<()> {
        let mut c = cargo();
        c.args(["install", &self.package, "--version", &format!("={}", self.version), "--locked", "--force"]);
        c.args(["--no-track", "--target", TARGET, "--root"]).arg(dir);
        c.arg("--target-dir").arg(tree::build_dir("ports/target")?);
        c.envs([("CARGO_PROFILE_RELEASE_PANIC", "abort"), ("CARGO_PROFILE_RELEASE_LTO", "off")]);
        c.env("CARGO_ENCODED_RUSTFLAGS", runtime.flags().join("\x1f"));
        exec::run(c.current_dir(dir), step).map(drop)
    }
}
