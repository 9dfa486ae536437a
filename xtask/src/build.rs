//! Our own binaries: the kernel, the root task, the components. Built by cargo, stripped into `build/images`.

use crate::progress::Step;
use crate::{exec, lint, tree};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Package and binary of the root task.
pub const ROOT_TASK: &str = "core-task";

/// A binary as the linker made it, and as it goes into the boot image.
pub struct Binary {
    /// With symbols.
    pub linked: PathBuf,
    /// Stripped.
    pub image: PathBuf,
}

/// Builds the kernel: a package of its own, with its own code-generation flags.
pub fn kernel() -> Result<Binary> {
    let dir = tree::root().join("hypervisor/kernel");
    let step = Step::begin("building the kernel");
    let target = dir.join("target");
    exec::run(cargo().args(["build", "--release", "--target-dir"]).arg(&target).current_dir(&dir), &step)?;
    let linked = target.join("x86_64-unknown-linux-gnu/release/hypervisor");
    let image = strip(&linked, "hypervisor", &[], &step)?;
    step.done("");
    Ok(Binary { linked, image })
}

/// Builds the root task and the components; they come back in the order of `binaries`, the root task first.
pub fn user_land(binaries: &[String]) -> Result<(Binary, Vec<Binary>)> {
    let step = Step::begin(format!("building {ROOT_TASK} {}", binaries.join(" ")));
    let target = tree::build("components");
    let mut c = cargo();
    c.args(["build", "--release", "--target-dir"]).arg(&target).current_dir(tree::root());
    for b in std::iter::once(ROOT_TASK).chain(binaries.iter().map(String::as_str)) {
        c.args(["--package", b, "--features", &format!("{b}/component")]);
    }
    exec::run(&mut c, &step)
        .context("a component's binary is a package of that name with the feature \"component\"")?;
    let linked = |name: &str| target.join("release").join(name);
    // The kernel maps the root task's file as it lies in memory, and adds nothing to it.
    let bss = ["--set-section-flags", ".bss=alloc,load,contents"];
    let root = linked(ROOT_TASK);
    let root = Binary { image: strip(&root, ROOT_TASK, &bss, &step)?, linked: root };
    lint::check_root_task(&root.image)?;
    let components = binaries
        .iter()
        .map(|b| Ok(Binary { image: strip(&linked(b), b, &[], &step)?, linked: linked(b) }))
        .collect::<Result<_>>()?;
    step.done("");
    Ok((root, components))
}

fn cargo() -> std::process::Command {
    // The cargo that runs us, if one does.
    exec::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn strip(from: &Path, name: &str, more: &[&str], step: &Step) -> Result<PathBuf> {
    let to = tree::build_dir("images")?.join(name);
    // Not in place: images made before share the file by hard links.
    let new = tree::scratch(&to);
    exec::run(exec::command("objcopy").arg("--strip-all").args(more).arg(from).arg(&new), step)?;
    tree::publish(&new, &to)?;
    Ok(to)
}
