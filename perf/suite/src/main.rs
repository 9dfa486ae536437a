//! The perf suite: measures the kernel from inside, in ticks of the TSC, the same program on every platform. Where an
//! emulator counts instructions as ticks, these are exact; on a real machine they are cycles of the TSC.
//!
//! Prints a line for each row, `perf: NAME min .. median .. p99 .. max .. of ..`, and `perf: done` at the end. A row that
//! cannot be measured here says why. `perf/README.md` lists the rows.
//!
//! UNSAFETY: it makes hypercalls by hand, with threads on bare code. What they may break is this component only.
#![allow(unsafe_code)]

mod bare;
mod clock;
mod exits;
mod ipc;

fn main() {
    let cpu = rt::start_info().map_or(0, |i| i.cpu as u16);
    let nothing = clock::sample(|| Ok(clock::empty()));
    clock::report("clock_twice", nothing, 0);
    for run in [ipc::run, exits::run] {
        if let Err(why) = run(cpu) {
            println!("perf: stopped: {why}");
        }
    }
    println!("perf: done");
}
