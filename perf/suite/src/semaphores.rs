//! Semaphores, and what it takes to switch from one thread to another and back.

use crate::clock::{OVERHEAD, Registers, hypercall, missing, report, sample, succeeded};
use crate::threads::{Code, Place, R12, R13, R15, Start, Thread, down, registers, up};
use abi::Hypercall;
use bare::{Slot, memory};

/// More downs than are ever made.
const MANY: u64 = 1 << 40;
/// Flags of `ctrl_sm`: down; the whole count.
const DOWN: u8 = 1 << 0;
const ZERO: u8 = 1 << 1;

fn ticks(rdi: u64) -> Result<u32, String> {
    // SAFETY: a semaphore's hypercall changes no memory.
    succeeded("ctrl_sm", unsafe { hypercall(Registers { rdi, ..Registers::default() }) })
}

/// What does not leave the caller.
fn alone() -> Result<(), String> {
    let (none, many, one) = (Slot::sm(0)?, Slot::sm(MANY)?, Slot::sm(0)?);
    report("semaphore_up_no_waiter", sample(|| ticks(up(none.0))), OVERHEAD);
    report("semaphore_down_up_before", sample(|| ticks(down(many.0))), OVERHEAD);
    let zero = Hypercall::CtrlSm.identifier(DOWN | ZERO, one.0);
    let zero = sample(|| {
        ticks(up(one.0))?;
        ticks(zero)
    });
    report("semaphore_down_zero_up_before", zero, OVERHEAD);
    Ok(())
}

/// From an up to the first instruction of a waiter that is more urgent.
fn wake_up(cpu: u16) -> Result<Vec<u32>, String> {
    let (sm, since) = (Slot::sm(0)?, memory(8, 64));
    let place = |lower| Place { cpu, lower, fpu: true };
    let start = Start::of(1);
    let (_waiter, buffer) = start.sampler(place(1), Code::Wait, &[(R13, down(sm.0)), (R15, since)])?;
    let upper = registers(&[(R12, up(sm.0)), (R15, since)]);
    let _upper = Thread::new(place(2), Code::Up, upper)?;
    start.wait(1)?;
    Ok(crate::clock::samples_at(buffer))
}

/// Two threads that wake each other in turns: up, the other's down and up, down.
pub fn ping_pong(ping: Place, pong: Place, codes: [Code; 2]) -> Result<Vec<u32>, String> {
    let (there, back) = (Slot::sm(0)?, Slot::sm(0)?);
    let _pong = Thread::new(pong, codes[1], registers(&[(R13, down(there.0)), (R12, up(back.0))]))?;
    Start::alone(ping, codes[0], &[(R12, up(there.0)), (R13, down(back.0))])
}

/// Rows between two CPUs: none on a machine with one.
fn two_cpus(cpu: u16) {
    let name = "semaphore_round_trip_other_cpu";
    let Some(other) = other_cpu(cpu) else { return missing(name, ONE_CPU) };
    let place = |cpu| Place { cpu, lower: 1, fpu: true };
    report(name, ping_pong(place(cpu), place(other), [Code::Ping, Code::Pong]), OVERHEAD);
}

/// Why rows are missing.
pub const ONE_CPU: &str = "the machine has one CPU";

/// A CPU that is not this one.
pub fn other_cpu(cpu: u16) -> Option<u16> {
    rt::start_info()?.usable_cpus().iter().copied().find(|c| *c != cpu)
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    alone()?;
    report("semaphore_up_to_waiter_same_cpu", wake_up(cpu), OVERHEAD);
    let same = |fpu, codes| {
        let at = Place { cpu, lower: 1, fpu };
        ping_pong(at, at, codes)
    };
    report("switch_and_back_without_fpu", same(false, [Code::Ping, Code::Pong]), OVERHEAD);
    report("switch_and_back_fpu_unused", same(true, [Code::Ping, Code::Pong]), OVERHEAD);
    report("switch_and_back_fpu_used", same(true, [Code::PingVector, Code::PongVector]), OVERHEAD);
    two_cpus(cpu);
    Ok(())
}
