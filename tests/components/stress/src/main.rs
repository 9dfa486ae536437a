//! Uses the kernel from all CPUs of the component at once, and checks what comes out: semaphores, time, calls, memory that
//! is mapped and unmapped under readers, objects that come and go, capabilities that travel, a guest whose memory moves.
//!
//! The same checks run on one CPU; there the workers share it. Each is bounded and prints `test NAME ... ok` or
//! `FAILED: why`; the last line is `stress: N checks passed, N failed`. Configuration: `seed` and `rounds`.
//!
//! UNSAFETY: it maps memory over memory and makes hypercalls by hand; that is its purpose, in its own protection domain.
#![allow(unsafe_code)]

extern crate rt;

mod calls;
mod guest;
mod limits;
mod memory;
mod objects;
mod semaphores;
mod time;
mod transfer;
mod work;

use std::time::Instant;
use work::{Outcome, Setting};

/// Name and function; `Ok` is what was done, in a few words.
type Check = (&'static str, fn(&Setting) -> Outcome);

const CHECKS: &[Check] = &[
    ("places", limits::places),
    ("refused-cpus", limits::refusals),
    ("ping-pong", semaphores::ping_pong),
    ("counting", semaphores::counting),
    ("std-locks", semaphores::std_locks),
    ("deadlines", time::deadlines),
    ("timeout-or-up", time::races),
    ("calls", calls::same_cpu),
    ("calls-from-elsewhere", calls::other_cpu),
    ("transfers", transfer::in_one_space),
    ("transfers-of-one-object", transfer::of_one_object),
    ("known-all-the-time", transfer::known),
    ("windows", transfer::windows),
    ("remap-in-turns", memory::turns),
    ("remap-at-any-time", memory::any_time),
    ("one-space", memory::one_space),
    ("one-page", memory::one_page),
    ("objects", objects::come_and_go),
    ("one-selector", objects::one_selector),
    ("revoked", objects::revoked),
    ("killed", objects::killed),
    ("threads", objects::threads),
    ("guest-remap", guest::remapped),
];

fn main() {
    let setting = match Setting::read() {
        Ok(s) => s,
        Err(e) => {
            println!("stress: {e}");
            rt::exit(2)
        }
    };
    println!("stress: {setting}");
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in CHECKS {
        let start = Instant::now();
        let result = check(&setting);
        let ms = start.elapsed().as_millis();
        match result {
            Ok(done) if done.starts_with(work::NOT_HERE) => println!("test {name} ... {done}"),
            Ok(done) => {
                println!("stress: {done}; {ms} ms");
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED: {why}");
                failed += 1;
            }
        }
    }
    println!("stress: {passed} checks passed, {failed} failed");
    // From the last CPU, while the first thread waits elsewhere.
    rt::thread::set_spawn_cpu(setting.cpus[setting.cpus.len() - 1]);
    let _ = std::thread::spawn(move || rt::exit(u64::from(failed != 0))).join();
}
