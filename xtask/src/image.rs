//! `cargo xtask image`: the bootable ISO of a system. [`make`] serves the other verbs.

use crate::build::{self, Binary, Flavour};
use crate::iso::{self, Module, Payload};
use crate::progress::Step;
use crate::system::System;
use crate::{guest, lint, packages, tree};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `image`.
#[derive(clap::Args)]
pub struct Args {
    /// A file of configs/systems, without its ending.
    #[arg(default_value = "linux")]
    system: String,
    /// A root task of your own, instead of a system: an ELF file, written for NOVA.
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    root: Option<PathBuf>,
    /// Words for the end of the kernel's command line, such as "no-pcid": docs/design/0017.
    #[arg(long, value_name = "WORDS", default_value = "")]
    kernel_cmdline: String,
    /// Where the image goes; build/ferronova-NAME.iso if not given.
    #[arg(long, value_name = "ISO")]
    out: Option<PathBuf>,
}

/// Prints the path of the image.
pub fn main(args: &Args) -> Result<ExitCode> {
    // Before anything takes time.
    args.root.as_deref().map_or(Ok(()), lint::check_foreign_root)?;
    args.out.as_deref().map_or(Ok(()), in_a_folder)?;
    packages::ensure_installed(packages::FOR_IMAGES)?;
    let made = match &args.root {
        Some(root) => foreign(root, &args.kernel_cmdline, args.out.as_deref())?,
        None => make(&System::load(&args.system)?, &args.system, &args.kernel_cmdline, Flavour::Release)?.iso,
    };
    let iso = args.out.clone().unwrap_or_else(|| made.clone());
    if iso != made {
        std::fs::copy(&made, &iso).with_context(|| format!("writing {}", iso.display()))?;
    }
    println!("{}", iso.display());
    Ok(ExitCode::SUCCESS)
}

fn in_a_folder(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir() && !file.is_dir(), "{}: no file can be written there", file.display());
    Ok(())
}

/// The kernel with a root task of somebody else.
fn foreign(root: &Path, kernel_cmdline: &str, out: Option<&Path>) -> Result<PathBuf> {
    let root = root.canonicalize()?;
    let kernel = build::kernel(Flavour::Release)?.image;
    let step = Step::begin("making the boot image");
    let iso = match out {
        Some(out) => out.to_path_buf(),
        None => tree::build(format!("ferronova-{}.iso", root.file_stem().unwrap_or_default().to_string_lossy())),
    };
    // It is all that there is: what it needs besides, it brings along.
    let modules = vec![Module { name: "root".into(), file: root }];
    let payload = Payload::Hypervisor { kernel, cmdline: kernel_cmdline.into(), modules, madt: None };
    iso::make(&payload, &iso, &step)?;
    step.done(&tree::shown(&iso));
    Ok(iso)
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
    let (binaries, roms_of_others) = build::ours(system.binaries.clone(), system.roms.clone())?;
    let roms = roms(&roms_of_others)?;
    let kernel = build::kernel(flavour)?;
    let (root_task, components) = build::user_land(&binaries, flavour)?;
    let components: Vec<_> = binaries.into_iter().zip(components).collect();
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
    fn where_no_image_can_be_written_is_told_first() {
        let error = |path: &str| in_a_folder(Path::new(path)).unwrap_err().to_string();
        assert!(error("/no/such/folder/x.iso").contains("/no/such/folder/x.iso"));
        assert!(error("/tmp").contains("/tmp"));
        in_a_folder(Path::new("x.iso")).unwrap();
    }

    #[test]
    fn the_root_task_is_the_first_module() {
        let binary = Binary { linked: "/l".into(), image: "/i".into() };
        let roms = vec![Module { name: "bzImage".into(), file: "/b".into() }];
        let list = modules("/core".into(), "/sys".into(), &[("uart16550".into(), binary)], roms);
        let list: Vec<_> = list.iter().map(|m| (m.name.as_str(), m.file.to_str().unwrap())).collect();
        assert_eq!(list, [("core", "/core"), ("system", "/sys"), ("uart16550", "/i"), ("bzImage", "/b")]);
    }
}
