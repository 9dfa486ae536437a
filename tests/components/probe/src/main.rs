//! Checks the kernel interface from inside the machine, as far as an ordinary component can reach it: one named check
//! for each line of the status tables and of the "after" sections of docs/spec.
//!
//! One module per page, each with a table `CHECKS`; `check` has what they report with, `scene` the threads, memory and
//! portals that they set up. A check that fails because the kernel is wrong stays in its table and fails.
//!
//! UNSAFETY: the purpose is to make hypercalls by hand, with arguments that Rust cannot vouch for. What they may break
//! is this component only.
#![allow(unsafe_code)]

mod abi_page;
mod check;
mod cpus;
mod create_ec;
mod create_pd;
mod create_pt;
mod create_sc;
mod create_sm;
mod ctrl_ec;
mod ctrl_pd;
mod ctrl_pt;
mod ctrl_sc;
mod ctrl_sm;
mod destroy;
mod foreign;
mod guest;
mod ipc_call;
mod ipc_reply;
mod isolation;
mod objects;
mod own;
mod platform;
mod poor;
mod registers;
mod scene;
mod set_window;
mod spaces;
mod state;
mod transfer;
mod unrouted;

use check::{Check, NOT_HERE};
use vcpu_tests::{Emulator, Facts, Why};

/// All pages.
const PAGES: &[(&str, &[Check])] = &[
    ("abi", abi_page::CHECKS),
    ("objects", objects::CHECKS),
    ("spaces", spaces::CHECKS),
    ("ipc_call", ipc_call::CHECKS),
    ("ipc_reply", ipc_reply::CHECKS),
    ("create_pd", create_pd::CHECKS),
    ("create_ec", create_ec::CHECKS),
    ("create_sc", create_sc::CHECKS),
    ("create_pt", create_pt::CHECKS),
    ("create_sm", create_sm::CHECKS),
    ("ctrl_pd", ctrl_pd::CHECKS),
    ("ctrl_ec", ctrl_ec::CHECKS),
    ("ctrl_sc", ctrl_sc::CHECKS),
    ("ctrl_pt", ctrl_pt::CHECKS),
    ("ctrl_sm", ctrl_sm::CHECKS),
    ("state", state::CHECKS),
    ("items", transfer::CHECKS),
    ("registers", registers::CHECKS),
    ("set_window", set_window::CHECKS),
    ("destroy", destroy::CHECKS),
    ("platform", platform::CHECKS),
    ("isolation", isolation::CHECKS),
];

/// The page for a component without a route for guests.
const UNROUTED: &str = "unrouted";

/// What QEMU's emulation of the CPU cannot show.
const NOT_ON_TCG: [(&str, &str); 2] = [
    ("exception: of the SIMD unit", "TCG raises no #XM"),
    ("exception: #GP by a privileged", "TCG's error code for a gate in long mode is not the SDM's"),
];

fn main() {
    let config = rt::rom(parent::CONFIG_ROM).map(String::from_utf8_lossy).unwrap_or_default();
    if config.contains("run = \"vcpu\"") {
        let cpu = config.lines().find_map(|l| l.strip_prefix("cpu = ")?.trim().parse().ok());
        return virtual_cpus(cpu.unwrap_or(scene::cpu()));
    }
    let only = config.lines().find_map(|l| l.strip_prefix("run = \"")?.strip_suffix('"'));
    let (mut passed, mut failed) = (0, 0);
    let guests = rt::start_info().is_some_and(|i| i.features & (abi::Features::VMX | abi::Features::SVM).bits() != 0);
    if !guests {
        println!("probe: no virtualisation, no checks of guests");
    }
    let tcg = Facts::here().emulator == Emulator::Tcg;
    if tcg {
        scene::be_patient(5);
    }
    let guest_pages = guests.then_some([("guest", guest::CHECKS), ("isolation", isolation::GUEST_CHECKS)]);
    // The last leaves threads that never end.
    let last = [("cpus", cpus::CHECKS), ("circles", ipc_call::CIRCLES)];
    let unrouted = only.filter(|only| *only == UNROUTED).map(|only| (only, unrouted::CHECKS));
    let pages = PAGES.iter().copied().chain(guest_pages.into_iter().flatten()).chain(last).chain(unrouted);
    for (page, checks) in pages.filter(|(page, _)| only.is_none_or(|o| o == *page)) {
        for (_, name, check) in checks {
            if let Some((_, why)) = NOT_ON_TCG.iter().find(|(n, _)| tcg && name.starts_with(n)) {
                println!("probe: left out {page}: {name}: {why}");
                continue;
            }
            match check() {
                Ok(()) => {
                    passed += 1;
                    println!("probe: ok {page}: {name}");
                }
                Err(why) if why.starts_with(NOT_HERE) => println!("probe: left out {page}: {name}: {why}"),
                Err(why) => {
                    failed += 1;
                    println!("probe: FAIL {page}: {name}: {why}");
                }
            }
        }
    }
    println!("probe: {passed} checks passed, {failed} failed");
}

/// Rounds of random state.
const FUZZ: (u64, u32) = (0x5eed_f00d, 60);

/// The tests that both back ends share, and random state for virtual CPUs.
fn virtual_cpus(cpu: u16) {
    let here = guest::Here::new(cpu);
    let (mut passed, mut failed, mut absent) = (0, 0, 0);
    for (group, tests) in vcpu_tests::GROUPS {
        for test in *tests {
            let verdict = match (test.run)(&here) {
                Ok(()) => {
                    passed += 1;
                    "ok".into()
                }
                Err(Why::NotHere(why)) => {
                    absent += 1;
                    format!("not here: {why}")
                }
                Err(Why::Failed(why)) => {
                    failed += 1;
                    format!("FAILED: {why}")
                }
            };
            println!("test {group}::{} ... {verdict}", test.name);
        }
    }
    println!("vcpu: {passed} passed, {failed} failed, {absent} not here");
    match vcpu_tests::fuzz(&here, FUZZ.0, FUZZ.1) {
        Ok(f) => println!("fuzz: ok, {} replies, {} entries refused, {} other events", f.replies, f.refused, f.others),
        Err(why) => println!("fuzz: FAILED: {why:?}"),
    }
}
