//! The perf suite: measures the kernel from inside, in ticks of the TSC, the same program on every platform. Where an
//! emulator counts instructions as ticks, these are exact; on a real machine they are cycles of the TSC.
//!
//! Prints lines that `xtask/src/perf/suite.rs` describes: on what it runs, each row, or why it cannot be measured here. Its
//! README lists the rows.
//!
//! UNSAFETY: it makes hypercalls by hand, with threads on bare code. What they may break is this component only.
#![allow(unsafe_code)]

mod bounds;
mod clock;
mod exits;
mod framework;
mod interrupts;
mod ipc;
mod machine;
mod memory;
mod objects;
mod packets;
mod peer;
mod rpc;
mod scaling;
mod semaphores;
mod servers;
mod threads;

/// Rows of a file, measured on that CPU.
type Run = fn(u16) -> Result<(), String>;

/// All of them but `pins`, `peer` and `begun`. `only = "NAME"` in the configuration chooses one.
const GROUPS: &[(&str, Run)] = &[
    ("ipc", ipc::run),
    ("rpc", rpc::run),
    ("semaphores", semaphores::run),
    ("memory", memory::run),
    ("objects", objects::run),
    ("exits", exits::run),
    ("interrupts", interrupts::run),
    ("scaling", scaling::run),
    ("bounds", bounds::run),
    ("packets", packets::run),
    ("framework", framework::run),
];

fn main() {
    let begun = rt::time::tsc();
    let config = rt::rom(parent::CONFIG_ROM).map(String::from_utf8_lossy).unwrap_or_default();
    let only = config.lines().find_map(|l| l.strip_prefix("only = \"")?.strip_suffix('"'));
    let cpu = rt::start_info().map_or(0, |i| i.cpu as u16);
    match only {
        Some("pins") => return interrupts::pins(cpu),
        Some("peer") => return peer::serve(cpu, begun),
        Some("begun") => rt::exit(begun),
        _ => {}
    }
    interrupts::wait_for_pins();
    machine::print();
    let nothing = clock::sample(|| Ok(clock::empty()));
    clock::report("clock_twice", nothing, 0);
    for (_, run) in GROUPS.iter().filter(|(name, _)| only.is_none_or(|o| o == *name)) {
        if let Err(why) = run(cpu) {
            println!("perf: stopped: {why}");
        }
    }
    println!("perf: done");
    if config.lines().any(|l| l == "stay = true") {
        clock::show();
    }
}
