//! A root task that checks what the kernel promises to a root task and to nobody else: the state at boot, the information
//! page, the NOVA spaces, interrupts, scheduling contexts, power. `probe` checks what it promises to all.
//!
//! One module a page or part of a page of docs/spec, each with a table `CHECKS`, as in `probe`, whose `check` and `scene`
//! it shares. `early` is where the kernel enters; `firmware` has what a root task needs to live. At the end it switches the
//! machine off; if the second boot module says so, it resets it first.
//!
//! UNSAFETY: the purpose is to make hypercalls by hand, with arguments that Rust cannot vouch for.
#![allow(unsafe_code)]

mod boot;
#[path = "../../probe/src/check.rs"]
#[allow(dead_code, reason = "a part of probe, not all of which is used here")]
mod check;
mod console;
mod create_sc;
mod early;
mod firmware;
mod info;
mod interrupts;
mod nova;
mod own;
#[path = "../../probe/src/poor.rs"]
mod poor;
mod ports;
mod power;
#[path = "../../probe/src/scene.rs"]
#[allow(dead_code, reason = "a part of probe, not all of which is used here")]
mod scene;
mod schedule;

use check::{Check, NOT_HERE};
use vcpu_tests::{Emulator, Facts};

const PAGES: [(&str, &[Check]); 8] = [
    ("boot", boot::CHECKS),
    ("abi", info::CHECKS),
    ("console", console::CHECKS),
    ("spaces", nova::CHECKS),
    ("create_sc", create_sc::CHECKS),
    ("objects", schedule::CHECKS),
    ("assign_int", interrupts::CHECKS),
    ("ctrl_hw", power::CHECKS),
];

fn main() {
    // What can only be seen before the console has its ports.
    let no_ports = ports::none_yet();
    if let Err(why) = firmware::heap().and_then(|()| firmware::open_console()) {
        println!("root: FAIL memory and console: {why}");
    }
    if power::is_second_start() {
        println!("root: the machine was reset");
        power::off();
    }
    if Facts::here().emulator == Emulator::Tcg {
        scene::be_patient(5);
    }
    println!("root: {} CPUs", firmware::hip().cpu_num);
    let (mut passed, mut failed) = (0, 0);
    let mut report = |page: &str, name: &str, outcome: check::Outcome| match outcome {
        Ok(()) => {
            passed += 1;
            println!("root: ok {page}: {name}");
        }
        Err(why) if why.starts_with(NOT_HERE) => println!("root: left out {page}: {name}: {why}"),
        Err(why) => {
            failed += 1;
            println!("root: FAIL {page}: {name}: {why}");
        }
    };
    report("boot", ports::NONE_YET.1, no_ports);
    report("objects", ports::OTHER_DOMAIN.1, ports::other_domain());
    for (page, checks) in PAGES {
        for (_, name, check) in checks {
            report(page, name, check());
        }
    }
    println!("root: {passed} checks passed, {failed} failed");
    if firmware::wants_reset() { power::reset() } else { power::off() }
}
