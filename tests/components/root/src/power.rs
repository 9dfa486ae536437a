//! docs/spec/ctrl_hw.md.

use crate::boot::several_cpus;
use crate::check::{Check, Outcome, equal, holds, refused};
use crate::firmware::{give_ports, table, word};
use crate::scene::{in_ms, ms};
use abi::{HwOp, Status};
use rt::hw::Ports;
use rt::hypercall as hc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use vcpu_tests::{Emulator, Facts};

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

static TICKS: AtomicU64 = AtomicU64::new(0);

/// Runs every 10 ms on that CPU, at our own priority; the longest time between.
fn ticker(cpu: u16) -> JoinHandle<u64> {
    let (end, pause) = (in_ms(1500), rt::Semaphore::new(0));
    rt::thread::set_spawn_cpu(cpu);
    let t = std::thread::spawn(move || {
        let (mut n, mut longest, mut last) = (0, 0, rt::time::tsc());
        while last < end {
            // Something to destroy, for which others have to be waited for: not by a CPU that idles.
            if n < 20 {
                drop(rt::Semaphore::new(0));
            }
            pause.down_until(in_ms(10));
            let now = rt::time::tsc();
            (n, longest, last) = (n + 1, longest.max(now - last), now);
            TICKS.fetch_add(1, SeqCst);
        }
        longest
    });
    rt::thread::set_spawn_cpu(0);
    t
}

fn aborted() -> Outcome {
    let (here, there) = (ticker(0), several_cpus().is_ok().then(|| ticker(1)));
    rt::Semaphore::new(0).down_until(in_ms(50));
    let t = rt::time::tsc();
    let r = hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(5, NO_TYPE, NO_TYPE));
    let took = rt::time::tsc() - t;
    let here = here.join().map_err(|_| "panic")?;
    refused("S5 with a type that is none", r, Status::Aborted)?;
    holds(&format!("after a second: {took}, {}", ms(1000)), took >= ms(1000))?;
    holds("nothing ran here meanwhile", here >= ms(1000))?;
    if let Some(t) = there {
        // 10, unless the host is busy.
        let most = if Facts::here().emulator == Emulator::Tcg { 900 } else { 20 };
        let longest = t.join().map_err(|_| "panic")? / ms(1);
        holds(&format!("it did on another CPU, every {longest} ms at least"), longest <= most)?;
    }
    equal("ticks", TICKS.load(SeqCst) > 0, true)
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
