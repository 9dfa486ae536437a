//! docs/spec/ctrl_hw.md.

use crate::boot::several_cpus;
use crate::check::{Check, Outcome, holds, refused};
use crate::firmware::{give_ports, table, word};
use crate::scene::{in_ms, ms};
use abi::{HwOp, Status};
use rt::hw::Ports;
use rt::hypercall as hc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

pub const CHECKS: &[Check] = &[
    ("ctrl_hw-2 ctrl_hw-3 ctrl_hw-4 ctrl_hw-8 ctrl_hw-11", "BAD_FTR: QoS", qos),
    ("ctrl_hw-13", "BAD_PAR: no such operation, no such sleep state", bad_par),
    ("ctrl_hw-1 ctrl_hw-11", "BAD_FTR: sleep states but S5", other_states),
    (
        "ctrl_hw-9 ctrl_hw-14 ctrl_hw-16",
        "ABORTED: the machine does not go off; a second in which nothing runs here",
        aborted,
    ),
];

/// Descriptors that mean something to some operation.
const DESCRIPTORS: [u64; 6] = [0, 1, 2, 3, 0x1ff, (1 << 56) - 1];

fn qos() -> Outcome {
    for op in 4..=7 {
        for desc in DESCRIPTORS {
            refused(&format!("OP {op}, {desc:#x}"), hc::ctrl_hw(op, desc), Status::BadFtr)?;
        }
    }
    Ok(())
}

fn bad_par() -> Outcome {
    for op in (1..=3).chain(8..=15) {
        for desc in DESCRIPTORS {
            refused(&format!("OP {op}, {desc:#x}"), hc::ctrl_hw(op, desc), Status::BadPar)?;
        }
    }
    for s in [0, 6] {
        let r = hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(s, 0, 0));
        refused(&format!("S{s}"), r, Status::BadPar)?;
    }
    Ok(())
}

fn other_states() -> Outcome {
    for s in 1..=4 {
        for t in 0..8 {
            let r = hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(s, t, t));
            refused(&format!("S{s} with type {t}"), r, Status::BadFtr)?;
        }
    }
    Ok(())
}

/// What neither QEMU's nor Bochs' chipset knows as a sleep type.
const NO_TYPE: u8 = 5;

/// Runs every 10 ms on that CPU, at our own priority: how often it has, and the longest time between.
struct Ticker {
    ticks: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Ticker {
    fn new(cpu: u16) -> Ticker {
        let (ticks, end, pause) = (Arc::new(AtomicU64::new(0)), in_ms(1500), rt::Semaphore::new(0));
        let count = ticks.clone();
        rt::thread::set_spawn_cpu(cpu);
        let thread = std::thread::spawn(move || {
            let (mut longest, mut last) = (0, rt::time::tsc());
            while last < end {
                // One that is destroyed: an idle CPU must not wait for others that have to hear of it.
                drop(rt::Semaphore::new(0));
                pause.down_until(in_ms(10));
                let now = rt::time::tsc();
                (longest, last) = (longest.max(now - last), now);
                count.fetch_add(1, SeqCst);
            }
            longest
        });
        rt::thread::set_spawn_cpu(0);
        Ticker { ticks, thread }
    }
}

fn aborted() -> Outcome {
    let (here, there) = (Ticker::new(0), several_cpus().is_ok().then(|| Ticker::new(1)));
    rt::Semaphore::new(0).down_until(in_ms(50));
    let ticks = || there.as_ref().map_or(0, |t| t.ticks.load(SeqCst));
    let (t, before) = (rt::time::tsc(), ticks());
    let r = hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(5, NO_TYPE, NO_TYPE));
    let (took, ticks) = (rt::time::tsc() - t, ticks() - before);
    let longest = here.thread.join().map_err(|_| "panic")?;
    refused("S5 with a type that is none", r, Status::Aborted)?;
    holds(&format!("after a second: {took}, {}", ms(1000)), took >= ms(1000))?;
    holds("it ran here before and after", here.ticks.load(SeqCst) > 1)?;
    holds(&format!("nothing ran here meanwhile: {longest}"), longest >= ms(1000))?;
    if let Some(t) = there {
        // 100, if the host lets it.
        holds(&format!("it did on another CPU: {ticks} times"), ticks > 20)?;
        t.thread.join().map_err(|_| "panic")?;
    }
    Ok(())
}

/// A byte of the clock chip's memory that nothing else uses; it outlives a reset.
const MARK: (u8, u8) = (0x7e, 0xa5);

fn cmos() -> Option<Ports> {
    give_ports(0x70, 2, true).ok()?;
    Some(Ports::new(0x70, 2))
}

/// Whether [`reset`] was before; no longer after that.
pub fn is_second_start() -> bool {
    let Some(p) = cmos() else { return false };
    p.out8(0, MARK.0);
    let marked = p.in8(1) == MARK.1;
    p.out8(0, MARK.0);
    p.out8(1, 0);
    marked
}

/// Resets the machine.
pub fn reset() -> ! {
    if let Some(p) = cmos() {
        p.out8(0, MARK.0);
        p.out8(1, MARK.1);
    }
    println!("root: reset");
    let r = hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(HwOp::RESET, 0, 0));
    println!("root: FAIL the machine was not reset: {r:?}");
    wait()
}

/// The sleep type of S5: the first two numbers of the package, as the firmware of emulators encodes it.
fn sleep_type() -> Option<(u8, u8)> {
    let fadt = table("FACP")?;
    let at = word(fadt, 40, 4);
    let dsdt = crate::firmware::whole(at);
    let name = dsdt.windows(4).position(|w| w == b"_S5_")?;
    // NameOp is before it; PackageOp, length, number of elements behind it; then numbers with or without a prefix.
    let mut rest = dsdt[name + 4..].iter().skip(3).copied();
    let mut number = || match rest.next()? {
        0x0a => rest.next(),
        n => Some(n),
    };
    Some((number()?, number()?))
}

/// Switches the machine off.
pub fn off() -> ! {
    let Some((a, b)) = sleep_type() else {
        println!("root: FAIL no \\_S5");
        wait()
    };
    let r = hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(5, a, b));
    println!("root: FAIL the machine did not go off: {r:?}");
    wait()
}

fn wait() -> ! {
    loop {
        rt::Semaphore::new(0).down_until(in_ms(1000));
    }
}
