//! The developer's commands, one file a verb: `run`, `test`, `check`, `image`, `perf`, `spec`, `size`, `coverage`,
//! `sessions`, `platforms`.
//!
//! Below the verbs: [`packages`] (Debian packages), [`guest`] (kernel and initramfs of the guest), [`build`] (our
//! binaries), [`iso`] (the boot image), [`emulator`] (what boots it), [`session`] (a running emulator and its
//! serial line).
#![forbid(unsafe_code)]

mod build;
mod check;
mod cost;
mod coverage;
mod debug;
mod emulator;
mod exec;
mod failure;
mod guest;
mod host;
mod image;
mod inits;
mod iso;
mod kvm;
mod lint;
mod madt;
mod marker;
mod matrix;
mod packages;
mod perf;
mod platform;
mod platforms;
mod port;
mod progress;
mod run;
mod scenario;
mod screen;
mod session;
mod sessions;
mod size;
mod spec;
mod suite;
mod system;
mod terminal;
mod test;
mod trace;
mod tree;
mod trial;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Ferronova's commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build a system, boot it in an emulator and connect the terminal to its console.
    Run(run::Args),
    /// Run the host tests and the tests in emulators.
    Test(test::Args),
    /// Decide whether a configuration can work, and tell who can reach whom, without running anything.
    Check(check::Args),
    /// Make the bootable ISO of a system and print its path.
    Image(image::Args),
    /// Measure what perf/budgets.toml promises.
    Perf(perf::Args),
    /// Check the pages of the interface against code and tests, and print how much of them is tested.
    Spec,
    /// Count the lines of kernel-mode Rust, and compare with perf/size.toml.
    Size(size::Args),
    /// Measure which lines of the pure crates their host tests run, and compare with perf/coverage.toml.
    Coverage(coverage::Args),
    /// Make a trace for Perfetto of the kernel's trace in a log.
    Trace(trace::Args),
    /// Make the reference pages of interfaces anew, docs/sessions.
    Sessions,
    /// List the platforms and whether they can be used here.
    Platforms,
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Run(args) => run::main(&args),
        Verb::Test(args) => test::main(&args),
        Verb::Check(args) => check::main(&args),
        Verb::Image(args) => image::main(&args),
        Verb::Perf(args) => perf::main(&args),
        Verb::Spec => spec::main(),
        Verb::Sessions => sessions::main(),
        Verb::Size(args) => size::main(&args),
        Verb::Coverage(args) => coverage::main(&args),
        Verb::Trace(args) => trace::main(&args),
        Verb::Platforms => platforms::main(),
    };
    result.unwrap_or_else(|e| {
        eprintln!("error: {e:#}");
        ExitCode::from(if e.is::<packages::Missing>() { 2 } else { 1 })
    })
}
