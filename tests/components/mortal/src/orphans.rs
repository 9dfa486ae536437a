//! Threads that are destroyed while they call the parent from within a call: the parent's handler on that CPU has no time
//! of its own then, wherever it is, and a thread of a higher priority that computes without end keeps the CPU from whoever
//! is left. What the handler holds others must get nevertheless.

use abi::{Mtd, Utcb};
use parent::{Call, sel};
use rt::{PortalThread, Semaphore, hypercall};
use std::hint::black_box;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::Duration;

/// Threads that are destroyed on each CPU, and how long each lives at most.
const ROUNDS: u64 = 60;
const LIFE_US: u64 = 20_000;

/// Makes orphans on all CPUs but the first, and then ends us.
pub fn run() -> ! {
    let cpus = rt::start_info().expect("a component").usable_cpus();
    let makers: Vec<_> = cpus.iter().skip(1).map(|&cpu| thread::spawn(move || make(cpu))).collect();
    makers.into_iter().for_each(|m| m.join().expect("it does not panic"));
    println!("enough");
    rt::exit(0)
}

/// Runs on the first CPU, where nothing disturbs it.
fn make(cpu: u16) {
    rt::thread::set_spawn_cpu(cpu);
    rt::thread::set_spawn_priority(1);
    thread::spawn(|| {
        loop {
            (0..2_000_000).for_each(|n| _ = black_box(n));
            sleep(Duration::from_millis(1));
        }
    });
    rt::thread::set_spawn_priority(2);
    for round in 0..ROUNDS {
        let (caller, go) = orphan(cpu, Duration::from_micros(round * 7919 % LIFE_US));
        // For this the parent needs what it may have left with the orphan, whom nobody on its CPU calls.
        println!("CPU {cpu}: {round}");
        go.up();
        let _ = caller.join();
    }
}

/// A thread that calls another, which has the parent print, over and over; the other one is destroyed after `life`.
/// Returns the first, and what it waits for then.
fn orphan(cpu: u16, life: Duration) -> (thread::JoinHandle<()>, Arc<Semaphore>) {
    // Without locks, heap and `println`: with it would go what they protect.
    let handler = move |_, _, utcb: &mut Utcb| {
        let n = Call::Log { text: b"................................" }.encode(&mut utcb.words);
        let _ = hypercall::ipc_call(sel::parent(cpu), Mtd::words(n), false);
        Mtd::words(0)
    };
    let callee = PortalThread::new(cpu, 32 << 10, Box::new(handler)).expect("memory for a thread");
    let portal = rt::sel::alloc().expect("a selector");
    callee.portal(portal, 0, 0).expect("memory for a portal");
    let go = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&go);
    let caller = thread::spawn(move || {
        while hypercall::ipc_call(portal, Mtd::words(0), false).is_ok() {}
        wait.down();
    });
    sleep(life);
    // SAFETY: it holds nothing of ours, and its stack is not used again.
    unsafe { hypercall::destroy(callee.sel()).expect("it is ours") };
    rt::sel::free(portal);
    (caller, go)
}
