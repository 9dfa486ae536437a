//! Semaphores, time, and all CPUs [5.4.3, 5.4.5].

use crate::nova::{Status, call, on, root, stc};
use crate::world::{World, park, sel};
use crate::{Verdict, check};

const SM: u64 = sel::FREE;

fn create(w: &World, count: u64) -> Status {
    on(call::CREATE_SM, SM, [w.root(root::PD), count, 0, 0]).0
}

fn down(deadline: u64) -> Status {
    on(call::SM_DOWN, SM, [deadline, 0, 0, 0]).0
}

fn up() -> Status {
    on(call::SM_UP, SM, [0; 4]).0
}

/// The counter: one by one, all at once, full.
pub fn counter(w: &World) -> Verdict {
    check!(create(w, 2) == Status::Success);
    check!(up() == Status::Success);
    for _ in 0..3 {
        check!(down(1) == Status::Success);
    }
    check!(down(1) == Status::Timeout);
    for _ in 0..3 {
        check!(up() == Status::Success);
    }
    check!(on(call::SM_DOWN_ZERO, SM, [1, 0, 0, 0]).0 == Status::Success);
    check!(down(1) == Status::Timeout); // Z took them all
    let own = w.root(root::OBJ);
    check!(w.delegate((own, SM), (own, SM + 1), 0, 1) == Status::Success);
    check!(on(call::SM_DOWN, SM + 1, [1, 0, 0, 0]).0 == Status::BadCap);
    check!(on(call::SM_UP, SM + 1, [0; 4]).0 == Status::Success);
    w.empty(SM, 1);
    check!(create(w, u64::MAX) == Status::Success);
    check!(up() == Status::Ovrflow);
    w.empty(SM, 0);
    check!(down(1) == Status::BadCap);
    Verdict::Ok
}

/// A down ends when the system time counter reaches its deadline, and not before.
pub fn timeouts(w: &World) -> Verdict {
    check!(create(w, 0) == Status::Success);
    let deadline = stc() + w.hip.stc_freq() / 100;
    check!(down(deadline) == Status::Timeout);
    let late = stc().wrapping_sub(deadline);
    // Emulators can be late themselves.
    check!(late < w.hip.stc_freq(), late);
    w.empty(SM, 0);
    Verdict::Ok
}

/// Ups the semaphore that we wait for; then waits for ever.
extern "C" fn body() -> ! {
    let _ = up();
    park()
}

/// A thread on each CPU.
pub fn all_cpus(w: &World) -> Verdict {
    check!(create(w, 0) == Status::Success);
    for cpu in 0..w.cpus() {
        let status = w.global(sel::FREE + 2 + cpu * 2, cpu, 13 + cpu as usize, body, 9);
        check!(status == Status::Success, cpu << 8 | status as u64);
    }
    for seen in 0..w.cpus() {
        let status = down(stc() + w.hip.stc_freq() * 5);
        check!(status == Status::Success, seen << 8 | status as u64);
    }
    w.empty(sel::FREE, 5);
    Verdict::Ok
}

/// That of our SC and of the idle SC of our CPU, which counts while we wait.
pub fn consumed_time(w: &World) -> Verdict {
    let idle = sel::FREE + 1;
    check!(w.take(w.hip.cpu_bsp(), idle) == Status::Success);
    let time = |sc: u64| on(call::CTRL_SC, sc, [0; 4]);
    let (status, own) = time(w.root(root::SC));
    check!(status == Status::Success && own > 0, status as u8);
    let (status, before) = time(idle);
    check!(status == Status::Success, status as u8);
    check!(create(w, 0) == Status::Success);
    let ticks = w.hip.stc_freq() / 50;
    check!(down(stc() + ticks) == Status::Timeout);
    let idled = time(idle).1 - before;
    check!(idled > ticks / 2, idled);
    w.empty(sel::FREE, 1);
    Verdict::Ok
}
