//! Switches the sources of `smp` to loom, for this package alone and without any variable of the environment.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=loom");
}
