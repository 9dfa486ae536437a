//! What the pages say of several CPUs: ctrl_ec, ipc_call, objects, ctrl_sm.

use crate::check::{Check, NOT_HERE, Outcome, done, equal, holds, refused};
use crate::scene::{Global, Local, Slot, call, in_ms, on_cpu, page, peek, spin_ms};
use abi::{Mtd, Status, event, perm};
use rt::Semaphore;
use rt::hypercall as hc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    ("ipc_call-4 ipc_call-12 ipc_call-29 abi-84", "BAD_CPU: the callee is on another CPU, which it names", bad_cpu),
    ("objects-13 abi-84", "an event whose portal is on another CPU kills", event_elsewhere),
    ("ctrl_ec-6 ctrl_ec-10", "strong recall of a thread on another CPU: it does not run on", strong),
    ("ctrl_ec-3 ctrl_ec-10", "weak recall of a thread on another CPU", weak),
    ("ctrl_sm-6 ctrl_sm-10", "a semaphore between CPUs", signals),
];

/// Another CPU than ours.
pub fn other() -> Result<u16, String> {
    let cpus = rt::start_info().map_or(1, |i| i.cpus as u16);
    if cpus > 1 { Ok(cpus - 1) } else { Err(format!("{NOT_HERE}one CPU")) }
}

extern "C" fn answers(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the own UTCB.
    unsafe { u.write_volatile(4711) };
    0
}

fn bad_cpu() -> Outcome {
    let cpu = other()?;
    let there = on_cpu(cpu, || Local::new(answers, None))?;
    crate::registers::elsewhere(there.portal.0, cpu)?;
    for no_wait in [false, true] {
        refused("call", call(there.portal.0, &[1], no_wait), Status::BadCpu)?;
    }
    equal("the message stayed", rt::utcb().words[0], 1)
}

extern "C" fn breaks(_: u64, _: u64, _: *mut u64) -> u64 {
    // SAFETY: an exception, which kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

fn event_elsewhere() -> Outcome {
    let there = on_cpu(other()?, || Local::new(answers, None))?;
    let l = Local::new(breaks, None)?;
    done("event portal", crate::scene::copy(there.portal.0, l.events.base + 6, perm::ALL))?;
    refused("call", l.call(&[1]), Status::Aborted)?;
    refused("call of what was killed", l.call(&[1]), Status::Aborted)
}

/// Counts in the word at its argument.
extern "C" fn counts(at: u64) -> ! {
    // SAFETY: the check that starts this thread keeps the word.
    let word = unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(at as usize)) };
    loop {
        word.fetch_add(1, SeqCst);
    }
}

/// Recalls a thread that counts elsewhere, again and again; whether it counted on after each call had returned.
fn recalled(strong: bool) -> Result<Vec<bool>, String> {
    let (cpu, at) = (other()?, page());
    let (gate, came) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (g, c) = (gate.clone(), came.clone());
    let mut left = 5;
    let react = move |n, _: &mut abi::ArchState| {
        if n != event::HST_RECALL {
            return Mtd::POISON;
        }
        c.up();
        g.down();
        left -= 1;
        if left == 0 { Mtd::POISON } else { Mtd::empty() }
    };
    let (thread, _log) = on_cpu(cpu, || Global::new(counts, at, 1, react))?;
    let mut on = Vec::new();
    for _ in 0..5 {
        let (last, end) = (peek(at), in_ms(2000));
        while peek(at) == last && rt::time::tsc() < end {}
        holds("it runs", peek(at) != last)?;
        done("ctrl_ec", hc::ctrl_ec(thread.ec.0, strong))?;
        let then = peek(at);
        spin_ms(1);
        on.push(peek(at) != then);
        crate::scene::arrives("RECALL", &came)?;
        let then = peek(at);
        spin_ms(1);
        equal("while the event is handled", peek(at), then)?;
        gate.up();
    }
    Ok(on)
}

fn strong() -> Outcome {
    equal("it went on", recalled(true)?, vec![false; 5])
}

fn weak() -> Outcome {
    equal("recalls", recalled(false)?.len(), 5)
}

fn signals() -> Outcome {
    let (cpu, there, back) = (other()?, Slot::sm(0)?, Slot::sm(0)?);
    let (t, b) = (there.0, back.0);
    rt::thread::set_spawn_cpu(cpu);
    let thread = std::thread::spawn(move || {
        (0..100).try_for_each(|_| {
            hc::sm_down(t, false, Some(in_ms(2000)))?;
            hc::sm_up(b)
        })
    });
    rt::thread::set_spawn_cpu(crate::scene::cpu());
    for _ in 0..100 {
        done("up", hc::sm_up(t))?;
        done("down", hc::sm_down(b, false, Some(in_ms(2000))))?;
    }
    equal("the other", thread.join().map_err(|_| "panic")?, Ok(()))?;
    refused("down", hc::sm_down(t, false, Some(1)), Status::Timeout)
}
