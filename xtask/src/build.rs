//! Our own binaries: the kernel, the root task, the components. Built by cargo, stripped into `build/images`.

use crate::progress::Step;
use crate::{exec, lint, port, tree};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// Package and binary of the root task.
pub const ROOT_TASK: &str = "core-task";
/// Package and binary of the foreign root task.
pub const NOVA_ROOT: &str = "novaroot";

/// How our binaries are built. The two are kept side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Optimised, as measured and tested.
    #[default]
    Release,
    /// Cargo's profile `dev`: with debug information and assertions, hardly optimised.
    Debug,
    /// As `Release`, but the kernel's allocations can be made to fail (its feature `inject`).
    Inject,
}

impl Flavour {
    fn cargo_args(self) -> &'static [&'static str] {
        match self {
            Flavour::Release | Flavour::Inject => &["--release"],
            Flavour::Debug => &[],
        }
    }

    /// The environment of cargo: CI spares debug information (`.ci/run`), but not where gdb needs it.
    fn environment(self) -> Option<(&'static str, &'static str)> {
        (self == Flavour::Debug).then_some(("CARGO_PROFILE_DEV_DEBUG", "full"))
    }

    /// More arguments for the kernel, where cargo puts it, and the name of what is stripped.
    fn kernel(self) -> (&'static [&'static str], &'static str, &'static str) {
        match self {
            Flavour::Release | Flavour::Debug => (&[], "target", "hypervisor"),
            Flavour::Inject => (&["--features", "inject"], "target/inject", "hypervisor-inject"),
        }
    }

    /// Cargo's folder, and that in `build/` for what is stripped.
    fn folders(self) -> (&'static str, &'static str) {
        match self {
            Flavour::Release | Flavour::Inject => ("release", "images"),
            Flavour::Debug => ("debug", "images/debug"),
        }
    }
}

/// A binary as the linker made it, and as it goes into the boot image.
pub struct Binary {
    /// With symbols.
    pub linked: PathBuf,
    /// Stripped.
    pub image: PathBuf,
}

/// Builds the kernel: a package of its own, with its own code-generation flags.
pub fn kernel(flavour: Flavour) -> Result<Binary> {
    let dir = tree::root().join("hypervisor/kernel");
    let step = Step::begin("building the kernel");
    let (more, folder, name) = flavour.kernel();
    let target = dir.join(folder);
    let mut c = cargo();
    c.arg("build").args(flavour.cargo_args()).args(more).arg("--target-dir").arg(&target);
    exec::run(c.envs(flavour.environment()).current_dir(&dir), &step)?;
    let linked = target.join("x86_64-unknown-linux-gnu").join(flavour.folders().0).join("hypervisor");
    let image = strip(&linked, name, flavour, &[], &step)?;
    step.done("");
    Ok(Binary { linked, image })
}

/// Builds the test kernel (`guests/testkernel`), also a package of its own: a 32-bit ELF file around 64-bit code, as
/// Multiboot wants it.
pub fn test_kernel() -> Result<PathBuf> {
    let dir = tree::root().join("guests/testkernel");
    let step = Step::begin("building the test kernel");
    let target = tree::build("testkernel");
    exec::run(cargo().args(["build", "--release", "--target-dir"]).arg(&target).current_dir(&dir), &step)?;
    let linked = target.join("x86_64-unknown-linux-gnu/release/testkernel");
    let image = strip(&linked, "testkernel", Flavour::Release, &["-O", "elf32-i386"], &step)?;
    step.done("");
    Ok(image)
}

/// Builds a root task: [`ROOT_TASK`], or one that tests the kernel.
pub fn root_task(name: &str, flavour: Flavour) -> Result<Binary> {
    if name == NOVA_ROOT {
        return nova_root();
    }
    // The kernel maps the root task's file as it lies in memory, and adds nothing to it.
    let root_task = component(name, flavour, &["--set-section-flags", ".bss=alloc,load,contents"])?;
    lint::check_root_task(&root_task.image)?;
    Ok(root_task)
}

/// Builds `tests/novaroot`, a package of its own as well: a root task of which NOVA's specification is all it knows.
fn nova_root() -> Result<Binary> {
    let dir = tree::root().join("tests/novaroot");
    let step = Step::begin("building novaroot");
    let target = tree::build("novaroot");
    exec::run(cargo().args(["build", "--release", "--target-dir"]).arg(&target).current_dir(&dir), &step)?;
    let linked = target.join("x86_64-unknown-linux-gnu/release").join(NOVA_ROOT);
    let image = strip(&linked, NOVA_ROOT, Flavour::Release, &[], &step)?;
    lint::check_foreign_root(&image)?;
    step.done("");
    Ok(Binary { linked, image })
}

/// Builds the root task and the components; they come back in the order of `binaries`, the root task first.
pub fn user_land(binaries: &[String], flavour: Flavour) -> Result<(Binary, Vec<Binary>)> {
    check_packages(binaries)?;
    let root_task = root_task(ROOT_TASK, flavour)?;
    let components = binaries.iter().map(|b| component(b, flavour, &[])).collect::<Result<_>>()?;
    Ok((root_task, components))
}

/// Each by itself: built together, the features of what they share would be the sum of what all want, and a component
/// would depend on which others there are.
fn component(name: &str, flavour: Flavour, objcopy: &[&str]) -> Result<Binary> {
    let step = Step::begin(format!("building {name}"));
    if let Some(port) = port::find(name)? {
        let linked = port.build(name, &step)?;
        let image = strip(&linked, name, flavour, objcopy, &step)?;
        step.done("");
        return Ok(Binary { linked, image });
    }
    let target = tree::build("components");
    let package =
        binaries()?.into_iter().find(|(binary, _)| binary == name).map_or(name.into(), |(_, package)| package);
    let mut c = cargo();
    c.arg("build").args(flavour.cargo_args());
    c.args(["--package", &package, "--features", "component", "--target-dir"]).arg(&target);
    c.envs(flavour.environment());
    exec::run(c.current_dir(tree::root()), &step)?;
    let linked = target.join(flavour.folders().0).join(name);
    let image = strip(&linked, name, flavour, objcopy, &step)?;
    step.done("");
    Ok(Binary { linked, image })
}

/// A component's binary is one of a package with the feature `component`, or a port.
fn check_packages(binaries: &[String]) -> Result<()> {
    let known = packages()?;
    for b in binaries {
        ensure!(
            known.contains(b),
            "the system file names the binary {b:?}, but no package with a binary of that name has the feature \"component\", and there is no ports/{b}.toml; there are: {}",
            known.join(", ")
        );
    }
    Ok(())
}

/// Binaries of components: packages and ports.
pub fn packages() -> Result<Vec<String>> {
    let components = binaries()?.into_iter().map(|(binary, _)| binary);
    let components = components.filter(|n| n != ROOT_TASK && n != port::C_PROGRAM).collect();
    Ok([components, port::names()?].concat())
}

/// The same names with those of our components all among the binaries: an init that follows a configuration which is not there
/// yet has routes to what its components will be, as to ROMs.
pub fn ours(mut binaries: Vec<String>, roms: Vec<String>) -> Result<(Vec<String>, Vec<String>)> {
    if roms.is_empty() {
        return Ok((binaries, roms));
    }
    let known = packages()?;
    let (more, roms): (Vec<_>, Vec<_>) = roms.into_iter().partition(|rom| known.contains(rom));
    binaries.extend(more.into_iter().filter(|name| !binaries.contains(name)).collect::<Vec<_>>());
    Ok((binaries, roms))
}

/// Binaries of packages with the feature `component`, each with its package.
fn binaries() -> Result<Vec<(String, String)>> {
    let mut c = cargo();
    let text = exec::query(c.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(tree::root()))?;
    Ok(component_binaries(&serde_json::from_str(&text)?))
}

fn component_binaries(metadata: &serde_json::Value) -> Vec<(String, String)> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut all = Vec::new();
    for p in packages.filter(|p| p["features"].get("component").is_some()) {
        let targets = p["targets"].as_array().into_iter().flatten();
        let bins = targets.filter(|t| t["kind"].as_array().is_some_and(|k| k.iter().any(|k| k == "bin")));
        let text = |value: &serde_json::Value| value["name"].as_str().unwrap_or_default().to_owned();
        all.extend(bins.map(|t| (text(t), text(p))));
    }
    all
}

/// Cargo.
pub fn cargo() -> std::process::Command {
    // The cargo that runs us, if one does.
    exec::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn strip(from: &Path, name: &str, flavour: Flavour, more: &[&str], step: &Step) -> Result<PathBuf> {
    let to = tree::build_dir(flavour.folders().1)?.join(name);
    // Not in place: images made before share the file by hard links.
    let new = tree::scratch(&to);
    exec::run(exec::command("objcopy").arg("--strip-all").args(more).arg(from).arg(&new), step)?;
    tree::publish(&new, &to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_packages_with_the_feature() {
        let metadata = serde_json::json!({"packages": [
            {"name": "init-task", "features": {"component": ["dep:rt"]},
             "targets": [{"name": "init_logic", "kind": ["lib"]}, {"name": "init", "kind": ["bin"]}]},
            {"name": "xtask", "features": {}, "targets": [{"name": "xtask", "kind": ["bin"]}]},
        ]});
        assert_eq!(component_binaries(&metadata), [("init".to_string(), "init-task".to_string())]);
    }

    #[test]
    fn an_unknown_binary_is_named_with_the_known_ones() {
        let e = check_packages(&["nonesuch".into()]).unwrap_err().to_string();
        assert!(e.contains("nonesuch") && e.contains("uart16550"), "{e}");
    }
}
