//! `cargo xtask image`: the bootable ISO of a system. [`make`] serves the other verbs.

use crate::build::{self, Binary, Flavour};
use crate::iso::{self, Module, Payload};
use crate::progress::Step;
use crate::system::System;
use crate::{guest, packages, tree};
use anyhow::Result;
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
    let image = make(&System::load(&args.system)?, &args.system, "", Flavour::Release)?;
    println!("{}", image.iso.display());
    Ok(ExitCode::SUCCESS)
}

/// A boot image, and what it was made of.
pub struct Image {
    /// The image.
    pub iso: PathBuf,
    /// The kernel.
    pub kernel: Binary,
    /// The root task.
    pub root_task: Binary,
    /// Component binaries with their names.
    pub components: Vec<(String, Binary)>,
}

/// Builds everything and makes `build/ferronova-<label>.iso`.
pub fn make(system: &System, label: &str, kernel_cmdline: &str, flavour: Flavour) -> Result<Image> {
    let text = tree::build_dir("images")?.join(format!("system-{label}.toml"));
    tree::write_if_changed(&text, system.text.as_bytes())?;
    let roms = roms(&system.roms)?;
    let kernel = build::kernel(flavour)?;
    let (root_task, components) = build::user_land(&system.binaries, flavour)?;
    let components: Vec<_> = system.binaries.iter().cloned().zip(components).collect();
    let step = Step::begin("making the boot image");
    let iso = tree::build(format!("ferronova-{label}.iso"));
    let payload = Payload::Hypervisor {
        kernel: kernel.image.clone(),
        cmdline: kernel_cmdline.into(),
        modules: modules(root_task.image.clone(), text, &components, roms),
        madt: None,
    };
    iso::make(&payload, &iso, &step)?;
    step.done(&tree::shown(&iso));
    Ok(Image { iso, kernel, root_task, components })
}

/// The root task is the first: that is how the kernel knows it.
fn modules(root_task: PathBuf, system: PathBuf, components: &[(String, Binary)], roms: Vec<Module>) -> Vec<Module> {
    let first = [("core", root_task), ("system", system)].map(|(name, file)| Module { name: name.into(), file });
    let components = components.iter().map(|(name, b)| Module { name: name.clone(), file: b.image.clone() });
    first.into_iter().chain(components).chain(roms).collect()
}

/// The files behind the names of ROMs.
pub fn roms(names: &[String]) -> Result<Vec<Module>> {
    names.iter().map(|name| Ok(Module { name: name.clone(), file: guest::rom(name)? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_task_is_the_first_module() {
        let binary = Binary { linked: "/l".into(), image: "/i".into() };
        let roms = vec![Module { name: "bzImage".into(), file: "/b".into() }];
        let list = modules("/core".into(), "/sys".into(), &[("uart16550".into(), binary)], roms);
        let list: Vec<_> = list.iter().map(|m| (m.name.as_str(), m.file.to_str().unwrap())).collect();
        assert_eq!(list, [("core", "/core"), ("system", "/sys"), ("uart16550", "/i"), ("bzImage", "/b")]);
    }
}
