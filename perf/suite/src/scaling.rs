//! The same on several CPUs at once, each with partners of its own: what slows down waits for what all of them share.
//!
//! Samples of all CPUs are in one row. And guests at once, on one CPU and on all.

use crate::clock::{OVERHEAD, figure, missing, report, samples_at, settle};
use crate::exits;
use crate::semaphores::ONE_CPU;
use crate::servers::{Code as Serve, Domain, selector};
use crate::threads::{Code, Place, R12, R13, Start, Thread, down, registers, up};
use abi::{Hypercall, Mtd};
use bare::Slot;

/// How many CPUs.
const CPUS: [usize; 4] = [1, 2, 4, 8];
/// How many guests.
const GUESTS: [usize; 5] = [1, 2, 4, 8, 16];

fn place(cpu: u16) -> Place {
    Place { cpu, lower: 1, fpu: true }
}

/// Samples of all.
fn all(start: &Start, samplers: &[(Thread, u64)]) -> Result<Vec<u32>, String> {
    start.wait(samplers.len() as u64)?;
    Ok(samplers.iter().flat_map(|(_, buffer)| samples_at(*buffer)).collect())
}

/// Calls of servers in other domains.
fn calls(cpus: &[u16]) -> Result<Vec<u32>, String> {
    let start = Start::of(cpus.len() as u64);
    let caller = |&cpu: &u16| {
        let (server, pt) = (Domain::other()?.server(cpu, true)?, selector()?);
        server.portal(pt, Serve::Echo, 0)?;
        let set = [(R12, Hypercall::IpcCall.identifier(0, pt)), (R13, Mtd::words(1).into())];
        start.sampler(place(cpu), Code::Calls, &set)
    };
    let callers: Vec<_> = cpus.iter().map(caller).collect::<Result<_, _>>()?;
    all(&start, &callers)
}

/// Pairs of threads that wake each other.
fn pairs(cpus: &[u16]) -> Result<Vec<u32>, String> {
    let start = Start::of(cpus.len() as u64);
    let semaphores: Vec<_> = cpus.iter().map(|_| Ok((Slot::sm(0)?, Slot::sm(0)?))).collect::<Result<_, String>>()?;
    let pong = |(&cpu, (there, back)): (&u16, &(Slot, Slot))| {
        Thread::new(place(cpu), Code::Pong, registers(&[(R13, down(there.0)), (R12, up(back.0))]))
    };
    let _pongs: Vec<_> = cpus.iter().zip(&semaphores).map(pong).collect::<Result<_, _>>()?;
    let ping = |(&cpu, (there, back)): (&u16, &(Slot, Slot))| {
        start.sampler(place(cpu), Code::Ping, &[(R12, up(there.0)), (R13, down(back.0))])
    };
    let pings: Vec<_> = cpus.iter().zip(&semaphores).map(ping).collect::<Result<_, _>>()?;
    all(&start, &pings)
}

/// A row: its name, and what measures it on some CPUs.
type Row = (&'static str, fn(&[u16]) -> Result<Vec<u32>, String>, u32);

const ROWS: [Row; 3] = [
    ("call_reply_other_pd_1w", calls, OVERHEAD),
    ("switch_and_back", pairs, OVERHEAD),
    ("exit_cpuid_gpr_rip", exits::at_once, 0),
];

/// What work costs that so many guests do at once, in turn on these CPUs.
fn guests(cpus: &[u16], n: usize, row: &str) {
    let places: Vec<u16> = cpus.iter().copied().cycle().take(n).collect();
    match exits::no_guests().map_or_else(|| exits::at_work(&places), |why| Err(why.into())) {
        Ok((ticks, bytes)) => {
            figure(row, ticks, "ticks");
            if Some(&n) == GUESTS.last() {
                figure("memory_of_guest", bytes, "bytes");
            }
        }
        Err(why) => missing(row, &why),
    }
}

/// All rows of this file.
pub fn run(_: u16) -> Result<(), String> {
    let usable = rt::start_info().map_or(&[][..], |i| i.usable_cpus());
    for (name, measure, overhead) in ROWS {
        for n in CPUS {
            settle();
            let row = format!("{name}_on_{n}_cpus");
            match usable.get(..n) {
                Some(cpus) => report(&row, measure(cpus), overhead),
                None => missing(&row, &format!("CPUs that it may use: {}", usable.len())),
            }
        }
    }
    for n in GUESTS {
        guests(&usable[..1], n, &format!("guest_work_{n}_guests_one_cpu"));
        let row = format!("guest_work_{n}_guests_all_cpus");
        if usable.len() > 1 { guests(usable, n, &row) } else { missing(&row, ONE_CPU) }
    }
    Ok(())
}
