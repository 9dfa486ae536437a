//! docs/spec/ctrl_ec.md, for threads. Virtual CPUs: `guest`.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Global, Slot, sleep_ms};
use abi::{ArchState, Mtd, Status, event, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    (
        "ctrl_ec-1 ctrl_ec-3 ctrl_ec-7 ctrl_ec-9 abi-89",
        "a running thread raises RECALL, weak and strong, and goes on",
        running,
    ),
    ("ctrl_ec-4", "several recalls before it runs make one event", merged),
    ("ctrl_ec-5", "a blocked thread stays blocked and raises RECALL when it is released", blocked),
    ("ctrl_ec-3 ctrl_ec-7", "a thread can recall itself: the status is that of ctrl_ec", own),
    ("ctrl_ec-2 ctrl_ec-8 spaces-18", "BAD_CAP: null, wrong type, no CTRL", bad_cap),
];

/// Counts in the word at its argument.
extern "C" fn counts(at: u64) -> ! {
    // SAFETY: the check that starts this thread keeps the word.
    let word = unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(at as usize)) };
    loop {
        word.fetch_add(1, SeqCst);
    }
}

/// Goes on, and dies at the last of `left` events.
fn recalls(left: u64) -> impl FnMut(u64, &mut ArchState) -> Mtd + Send + 'static {
    let mut left = left;
    move |_, _| {
        left -= 1;
        if left == 0 { Mtd::POISON } else { Mtd::empty() }
    }
}

fn running() -> Outcome {
    let at = crate::scene::page();
    let (g, log) = Global::new(counts, at, 1, recalls(3))?;
    let seen = || log.lock().expect("log").iter().map(|e| e.0).collect::<Vec<_>>();
    sleep_ms(5);
    let before = crate::scene::peek(at);
    holds("it runs", before > 0)?;
    let mut want = vec![event::HST_STARTUP];
    for strong in [false, true] {
        equal("events so far", seen(), want.clone())?;
        done("ctrl_ec", hc::ctrl_ec(g.ec.0, strong))?;
        sleep_ms(5);
        want.push(event::HST_RECALL);
    }
    equal("events", seen(), want)?;
    let now = crate::scene::peek(at);
    sleep_ms(5);
    holds("it went on", crate::scene::peek(at) > now)?;
    done("ctrl_ec, the handler kills it", hc::ctrl_ec(g.ec.0, true))?;
    sleep_ms(5);
    let now = crate::scene::peek(at);
    sleep_ms(5);
    equal("counter of the killed thread", crate::scene::peek(at), now)
}

fn merged() -> Outcome {
    let at = crate::scene::page();
    let (g, log) = Global::new(counts, at, 1, recalls(2))?;
    sleep_ms(5);
    for _ in 0..3 {
        done("ctrl_ec", hc::ctrl_ec(g.ec.0, false))?;
    }
    sleep_ms(5);
    let n = log.lock().expect("log").len();
    done("ctrl_ec, the handler kills it", hc::ctrl_ec(g.ec.0, false))?;
    sleep_ms(5);
    equal("events after three recalls: STARTUP and one", n, 2)
}

/// Downs the semaphore and raises #UD with the status in RAX.
extern "C" fn waits(sm: u64) -> ! {
    let r = hc::sm_down(sm, false, None).map_or_else(|s| s as u64, |()| 0);
    // SAFETY: the handler kills this thread.
    unsafe { std::arch::asm!("ud2", in("rax") r, options(noreturn)) }
}

fn blocked() -> Outcome {
    let sm = Arc::new(Semaphore::new(0));
    let (g, log) =
        Global::new(waits, sm.sel(), 0, |n, _| if n == event::HST_RECALL { Mtd::empty() } else { Mtd::POISON })?;
    sleep_ms(5);
    done("ctrl_ec", hc::ctrl_ec(g.ec.0, true))?;
    sleep_ms(5);
    equal("events while it is blocked", log.lock().expect("log").len(), 1)?;
    sm.up();
    sleep_ms(5);
    let log = log.lock().expect("log");
    equal("events", log.iter().map(|e| e.0).collect(), vec![event::HST_STARTUP, event::HST_RECALL, 6])?;
    equal("status of its down", log[2].1.gpr[ArchState::RAX], 0)
}

fn bad_cap() -> Outcome {
    let (null, weak) = (Slot::new(), Slot::masked(sel::EC, perm::ALL & !perm::Ec::CTRL.bits())?);
    for (what, s) in [("null", null.0), ("SEL_NUM", abi::SEL_NUM), ("PD", sel::PD), ("no CTRL", weak.0)] {
        for strong in [false, true] {
            refused(what, hc::ctrl_ec(s, strong), Status::BadCap)?;
        }
    }
    Ok(())
}

/// Recalls the EC in its argument, itself, and raises #UD with the status in RAX.
extern "C" fn recalls_itself(ec: u64) -> ! {
    // SAFETY: the check that starts this thread keeps the word.
    let ec = unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(ec as usize)) }.load(SeqCst);
    let r = hc::ctrl_ec(ec, true).map_or_else(|s| s as u64, |()| 0);
    // SAFETY: the handler kills this thread.
    unsafe { std::arch::asm!("ud2", in("rax") r, options(noreturn)) }
}

fn own() -> Outcome {
    let at = crate::scene::page();
    let react = |n, _: &mut ArchState| if n == event::HST_RECALL { Mtd::empty() } else { Mtd::POISON };
    let (g, log) = Global::new(recalls_itself, at, 5, react)?;
    // It runs below us: not before we wait.
    crate::scene::poke(at, g.ec.0);
    sleep_ms(5);
    let log = log.lock().expect("log");
    equal("events", log.iter().map(|e| e.0).collect(), vec![event::HST_STARTUP, event::HST_RECALL, 6])?;
    equal("status", log[2].1.gpr[ArchState::RAX], 0)
}
