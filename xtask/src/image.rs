//! `cargo xtask image`: the bootable ISO of a system. [`prepare`] serves the other verbs.

use crate::build::{self, Binary};
use crate::iso::{self, Module, Payload};
use crate::progress::Step;
use crate::system::System;
use crate::{guest, packages, tree};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `image`.
#[derive(clap::Args)]
pub struct Args {
    /// A file of configs/systems, without its ending.
    #[arg(default_value = "linux")]
    system: String,
}

/// Prints the path of the image.
pub fn main(args: &Args) -> Result<ExitCode> {
    packages::ensure_installed(packages::FOR_IMAGES)?;
    let iso = make(&args.system, "")?;
    println!("{}", iso.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds everything and makes `build/ferronova-<system>.iso`.
pub fn make(name: &str, kernel_cmdline: &str) -> Result<PathBuf> {
    let system = System::load(name)?;
    let text = tree::build_dir("images")?.join(format!("system-{name}.toml"));
    tree::write_if_changed(&text, system.text.as_bytes())?;
    let parts = Parts::prepare(&system)?;
    let step = Step::begin("making the boot image");
    let iso = tree::build(format!("ferronova-{name}.iso"));
    iso::make(&parts.payload(text, kernel_cmdline), &iso, &step)?;
    step.done(&tree::shown(&iso));
    Ok(iso)
}

/// What a system's image is made of.
pub struct Parts {
    kernel: Binary,
    root_task: Binary,
    /// Components and ROMs.
    modules: Vec<Module>,
}

impl Parts {
    /// Builds or fetches all of it.
    pub fn prepare(system: &System) -> Result<Parts> {
        let roms = roms(&system.roms)?;
        let kernel = build::kernel()?;
        let (root_task, components) = build::user_land(&system.binaries)?;
        let names = system.binaries.iter().cloned();
        let components = names.zip(components).map(|(name, b)| Module { name, file: b.image });
        Ok(Parts { kernel, root_task, modules: components.chain(roms).collect() })
    }

    /// With the system file at `text`.
    fn payload(self, text: PathBuf, kernel_cmdline: &str) -> Payload {
        let first =
            [Module { name: "core".into(), file: self.root_task.image }, Module { name: "system".into(), file: text }];
        Payload::Hypervisor {
            kernel: self.kernel.image,
            cmdline: kernel_cmdline.into(),
            modules: first.into_iter().chain(self.modules).collect(),
        }
    }
}

/// The files behind the names of ROMs.
pub fn roms(names: &[String]) -> Result<Vec<Module>> {
    if names.is_empty() {
        return Ok(vec![]);
    }
    let linux = guest::linux()?;
    names
        .iter()
        .map(|name| {
            let file = match name.as_str() {
                "bzImage" => linux.kernel.clone(),
                "initramfs" => linux.initramfs.clone(),
                other => Err(anyhow::anyhow!("nothing makes a ROM {other:?}")).context("there are bzImage and initramfs")?,
            };
            Ok(Module { name: name.clone(), file })
        })
        .collect()
}
