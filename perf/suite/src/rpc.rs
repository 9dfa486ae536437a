//! Calls of an interface, and signals: what they cost above the kernel's calls that they are made of.

use crate::clock::{OVERHEAD, missing, now, report, sample};
use crate::semaphores::{ONE_CPU, other_cpu};
use rpc::Signal;
use rt::rpc::{Entrypoint, Managed, Portal, raise};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What is called.
#[rpc::interface(version = "1.0", ram = "4K", caps = 1)]
trait Sum {
    /// Two words there, one back: in registers.
    fn two(&mut self, a: u64, b: u64) -> u64;
    /// The same with eight words, which is by the UTCB.
    fn eight(&mut self, a: (u64, u64, u64, u64), b: (u64, u64, u64, u64)) -> u64;
}

struct Server;

impl Sum for Server {
    fn two(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }

    fn eight(&mut self, a: (u64, u64, u64, u64), b: (u64, u64, u64, u64)) -> u64 {
        a.3.wrapping_add(b.3)
    }
}

fn server(ep: Entrypoint) -> Result<Managed<dyn Sum>, String> {
    ep.manage(SumServer(Server)).map_err(|e| format!("an object: {e:?}"))
}

/// Ticks of a call that has to give `want`.
#[inline(always)]
fn timed(call: impl FnOnce() -> Result<u64, rpc::Error>, want: u64) -> Result<u32, String> {
    let before = now();
    let answer = black_box(call());
    let ticks = now().wrapping_sub(before);
    if answer == Ok(want) { Ok(ticks) } else { Err(format!("the answer is {answer:?}")) }
}

/// From before `raise` to the handler's first instruction. The caller is below the thread that waits for signals.
fn deliver(signal: Signal, began: &AtomicU32, took: &AtomicU32) -> Result<u32, String> {
    began.store(now(), Ordering::Relaxed);
    raise(signal).map_err(|e| e.to_string())?;
    match took.swap(0, Ordering::Relaxed) {
        0 => Err("the handler has not run".into()),
        ticks => Ok(ticks),
    }
}

fn signals(ep: Entrypoint) -> Result<Vec<u32>, String> {
    let (began, took) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let (from, to) = (began.clone(), took.clone());
    let handler = move || to.store(now().wrapping_sub(from.load(Ordering::Relaxed)), Ordering::Relaxed);
    let context = ep.context(handler).map_err(|e| format!("a context: {e:?}"))?;
    let signal = context.signal();
    rt::thread::set_spawn_priority(1);
    let raiser = std::thread::spawn(move || sample(|| deliver(signal, &began, &took)));
    rt::thread::set_spawn_priority(0);
    raiser.join().map_err(|_| "the raising thread panicked")?
}

/// The first call makes the courier.
fn elsewhere(cpu: u16) -> Result<Vec<u32>, String> {
    let ep = Entrypoint::new(cpu, 64 << 10).map_err(|e| format!("an entry point: {e:?}"))?;
    let object = server(ep)?;
    two_words(&SumClient::new(Portal::to(object.cap())))
}

/// One function for both rows, so that both calls are compiled alike.
#[inline(never)]
fn two_words(client: &SumClient<Portal>) -> Result<Vec<u32>, String> {
    let (a, b) = black_box((3, 4));
    sample(|| timed(|| client.two(a, b), 7))
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    let ep = Entrypoint::new(cpu, 64 << 10).map_err(|e| format!("an entry point: {e:?}"))?;
    let object = server(ep)?;
    let client = SumClient::new(Portal::to(object.cap()));
    report("rpc_two_words", two_words(&client), OVERHEAD);
    let (a, b) = black_box(((0, 0, 0, 3), (0, 0, 0, 4)));
    report("rpc_eight_words", sample(|| timed(|| client.eight(a, b), 7)), OVERHEAD);
    let row = "rpc_two_words_other_cpu";
    match other_cpu(cpu) {
        Some(other) => report(row, elsewhere(other), OVERHEAD),
        None => missing(row, ONE_CPU),
    }
    report("signal_to_handler", signals(ep), OVERHEAD);
    Ok(())
}
