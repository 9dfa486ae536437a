//! Works on all its CPUs, in rounds, and checks what comes out: arithmetic, its memory, pages that it remaps, calls,
//! signals from CPU to CPU, timeouts, vector registers, objects. Says `watchdog: ok N rounds` now and then, or
//! `watchdog: FAILED: why`, and goes on until somebody switches the machine off.
//!
//! With `lenient = true` it bears with MEM_OBJ and MEM_CAP for new objects.
//!
//! UNSAFETY: it maps pages of its own over a window of its own, and holds values in vector registers.
#![allow(unsafe_code)]

extern crate rt;

mod checks;

use checks::{Checks, Shared};
use std::sync::Arc;

/// Rounds between two lines.
const SHOWN: u64 = 50;

fn main() {
    let info = rt::start_info().expect("a component");
    let cpus = info.usable_cpus();
    let config = rt::rom(parent::CONFIG_ROM).and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
    let lenient = config.lines().any(|l| l.trim() == "lenient = true");
    let shared = Arc::new(Shared::new(cpus.len(), lenient));
    println!("watchdog: on CPUs {cpus:?}");
    let workers: Vec<_> = cpus
        .iter()
        .enumerate()
        .map(|(i, &cpu)| {
            rt::thread::set_spawn_cpu(cpu);
            let shared = shared.clone();
            std::thread::spawn(move || {
                let result = work(i, cpu, &shared);
                println!("watchdog: FAILED: on CPU {cpu}: {}", result.unwrap_err());
                rt::exit(1)
            })
        })
        .collect();
    workers.into_iter().for_each(|w| w.join().expect("worker"));
}

fn work(index: usize, cpu: u16, shared: &Shared) -> Result<std::convert::Infallible, String> {
    let mut checks = Checks::new(index, cpu, shared)?;
    for round in 1.. {
        checks.round(round)?;
        if index == 0 && round % SHOWN == 0 {
            println!(
                "watchdog: ok {round} rounds, latest timeout {} us late, {} without memory",
                checks.late_us(),
                checks.short()
            );
        }
    }
    Err("out of numbers".into())
}
