//! Build script of every component package (`build = "../../roottask/rt/component_build.rs"`): how its binary is
//! linked. Without the feature `component` the package is an ordinary host library and nothing happens.

use std::env;

/// Packages of root tasks, which start at another entry point than the other components.
const ROOT_TASKS: &[(&str, &str)] =
    &[("core-task", "_start_root"), ("iommu-root", "_start_root"), ("root-probe", "root_probe_start")];

/// One fixed-address static ELF without libraries, interpreter, dynamic section or relocations, at parent::layout::IMAGE.
/// Whoever maps it gives each page the permissions of one segment, so no page may belong to two.
const ARGS: &str = include_str!("link-args.txt");

fn main() {
    // Nothing but the feature and the package name decides, and cargo runs the script again when those change.
    println!("cargo::rerun-if-env-changed=CARGO_FEATURE_COMPONENT");
    if env::var_os("CARGO_FEATURE_COMPONENT").is_none() {
        return;
    }
    for arg in ARGS.lines() {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
    let name = env::var("CARGO_PKG_NAME").unwrap_or_default();
    if let Some((_, entry)) = ROOT_TASKS.iter().find(|(n, _)| *n == name) {
        println!("cargo::rustc-link-arg-bins=-Wl,--entry={entry}");
    }
}
