//! A short life, for the key `restart` of system files: looks at whether its memory is fresh, fills it, has threads in
//! every state and a guest on each of its CPUs, and ends in the middle of all that, each time in another way.
//!
//! `orphans = true` in the configuration: another life, see [`orphans`].
//!
//! UNSAFETY: it gives a guest a page of its memory, and destroys threads of its own that others wait for; all in its own
//! protection domain, which ends anyway.
#![allow(unsafe_code)]

extern crate rt;

mod guest;
mod orphans;

use abi::{Mtd, Status};
use rt::{PortalThread, Semaphore, hypercall};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::thread::{self, sleep};
use std::time::Duration;

/// Memory that is looked at: of pages that nobody in this life had before.
const LOOKED_AT: usize = 2 << 20;
/// What others must not find there.
const SECRET: u8 = 0xa5;
/// Longest life.
const LIFE_MS: u64 = 60;

fn main() {
    let config = rt::rom("config").and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
    if config.contains("orphans = true") {
        orphans::run();
    }
    let chance = RandomState::new().hash_one(0);
    take_memory();
    let cpus = rt::start_info().expect("a component").usable_cpus();
    let portals: Vec<u64> = cpus.iter().map(|&cpu| crowd(cpu).expect("memory for a few threads")).collect();
    println!("threads on {} CPUs", cpus.len());
    sleep(Duration::from_millis(chance % LIFE_MS));
    let portal = portals[0];
    rt::thread::set_spawn_cpu(cpus[cpus.len() - 1]);
    match chance / LIFE_MS % 6 {
        0 => println!("I go"),
        1 => panic!("as if by mistake"),
        2 => std::process::abort(),
        3 => elsewhere(|| rt::exit(3)),
        4 => elsewhere(|| println!("{}", recurse(black_box(u64::MAX)))),
        _ => {
            println!("my last call");
            let _ = hypercall::ipc_call(portal, Mtd::words(2), false);
        }
    }
}

/// The allocator hands out pages that it has not handed out before as zeroed, without looking.
fn take_memory() {
    let mut all = vec![0u8; LOOKED_AT];
    if let Some(at) = all.iter().position(|&b| b != 0) {
        println!("memory of somebody else: {:#x} at {at:#x}", all[at]);
    }
    all.fill(SECRET);
    std::mem::forget(black_box(all));
}

/// Has another thread end us, on our last CPU.
fn elsewhere(f: impl FnOnce() + Send + 'static) {
    let _ = thread::spawn(f).join();
}

/// Threads and a guest on `cpu`; returns a portal there, which ends us if it is called with two words.
fn crowd(cpu: u16) -> Result<u64, Status> {
    rt::thread::set_spawn_cpu(cpu);
    // One below us, so that we come to an end on our own CPU.
    rt::thread::set_spawn_priority(1);
    thread::spawn(|| {
        loop {
            black_box(());
        }
    });
    thread::spawn(|| Semaphore::new(0).down());
    thread::spawn(|| sleep(Duration::from_secs(1000)));
    // Our parent has work to do for us at any moment, some of it in a call within a call.
    thread::spawn(|| while thread::spawn(rt::thread::cpu).join().is_ok() {});
    let handler = |_, mtd, _: &mut _| {
        if Mtd::word_count(mtd) > 1 {
            rt::exit(5);
        }
        let _ = thread::spawn(rt::thread::cpu).join();
        Mtd::words(1)
    };
    let callee = PortalThread::new(cpu, 32 << 10, Box::new(handler))?;
    let portal = rt::sel::alloc().ok_or(Status::MemCap)?;
    callee.portal(portal, 0, 0)?;
    thread::spawn(move || while hypercall::ipc_call(portal, Mtd::words(1), false).is_ok() {});
    match guest::spin(cpu) {
        Ok(()) | Err(Status::BadFtr) => Ok(portal),
        Err(e) => Err(e),
    }
}

/// Recurses until the stack is used up.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[usize::try_from(depth % 64).unwrap_or(0)] }
}
