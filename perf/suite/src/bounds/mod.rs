//! How long the kernel does something at a stretch, with interrupts off (docs/design/0012).
//!
//! It is seen from outside: this thread sleeps to a deadline while another one,
//! below it, has the kernel do much at a stretch. How much later it wakes than over a thread that never enters the
//! kernel is the longest stretch that was met. What is destroyed, and by whom, is another matter ([`destroy`]).

mod destroy;

use crate::clock::figure;
use abi::{Mad, Sel, perm, perm::Mem};
use bare::{PAGE, memory, window};
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;
use rt::time::tsc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Calls of which the shortest counts.
const CALLS: usize = 1000;
/// Deadlines for each load.
const NAPS: u64 = 400;
/// Ticks of a nap, and how much longer it may be.
const NAP: (u64, u64) = (60_000, 40_000);
/// Where nothing is mapped, and 1 GiB of it.
const BARE: (u64, u32) = (0x4800_0000_0000, 18);

fn shortest(mut call: impl FnMut()) -> u64 {
    let one = |call: &mut dyn FnMut()| {
        let begin = tsc();
        call();
        tsc() - begin
    };
    (0..CALLS).map(|_| one(&mut call)).min().unwrap_or(0)
}

/// Delegates inside a space; nothing relies on what is there.
fn delegate(space: Sel, from: u64, to: u64, order: u32, perms: u8) {
    // SAFETY: memory of this module only, or capabilities to themselves.
    let _ = unsafe { hc::ctrl_pd(space, space, from, to, order, perms, Mad::WB) };
}

/// Memory page by page, and then as a whole.
fn pages(from: u64, to: u64) {
    for p in 0..512 {
        delegate(sel::HST, from / PAGE + p, to / PAGE + p, 0, Mem::all().bits());
    }
    delegate(sel::HST, from / PAGE, to / PAGE, 9, Mem::R.bits());
    delegate(sel::HST, from / PAGE, to / PAGE, 9, 0);
}

/// Tables for 1 GiB, and all of them at once away.
fn tables(from: u64) {
    for i in 0..512 {
        delegate(sel::HST, from / PAGE, BARE.0 / PAGE + i * 512, 0, Mem::R.bits());
    }
    delegate(sel::HST, BARE.0 / PAGE, BARE.0 / PAGE, BARE.1, 0);
}

/// Does `own` while another thread below this one repeats `work`.
fn below<T>(work: impl Fn() + Send + 'static, own: impl FnOnce() -> T) -> T {
    let stop = Arc::new(AtomicBool::new(false));
    let s = stop.clone();
    rt::thread::set_spawn_priority(1);
    let other = std::thread::spawn(move || {
        while !s.load(Relaxed) {
            work();
        }
    });
    rt::thread::set_spawn_priority(0);
    let result = own();
    stop.store(true, Relaxed);
    let _ = other.join();
    result
}

/// How late a thread wakes at worst, in ticks, while another one below it repeats `work`.
fn late(work: impl Fn() + Send + 'static) -> u64 {
    below(work, || {
        let alarm = Semaphore::new(0);
        let mut worst = 0;
        for i in 0..NAPS {
            let at = tsc() + NAP.0 + i * 7919 % NAP.1;
            alarm.down_until(at);
            worst = worst.max(tsc().saturating_sub(at));
        }
        worst
    })
}

/// All rows of this file.
pub fn run(_: u16) -> Result<(), String> {
    let (p, w) = (memory(2 << 20, 2 << 20), window());
    let idle = late(std::hint::spin_loop);
    let row = |name: &str, work: Box<dyn Fn() + Send>| figure(name, late(work).saturating_sub(idle), "ticks");
    row("stretch_objects", Box::new(|| delegate(sel::OBJ, 0, 0, 18, perm::ALL)));
    row("stretch_pages", Box::new(move || pages(p, w)));
    row("stretch_tables", Box::new(move || tables(p)));
    destroy::run(p)
}
