//! docs/spec/ipc_call.md.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Local, Slot, arrives, call, in_ms, ms, server, spin_ms};
use abi::{Mtd, Sel, Status, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

pub const CHECKS: &[Check] = &[
    ("ipc_call-6 ipc_call-8 ipc_call-10 ipc_reply-2 abi-12", "SUCCESS: 1, 8, 512 words go there and back", words),
    (
        "ipc_call-6 ipc_call-17 abi-12",
        "the callee gets the words of the message and no more; the UTCB beyond the reply is unchanged",
        only_the_words,
    ),
    ("ipc_call-8", "the reply's descriptor is in mtd", reply_descriptor),
    ("ipc_call-3 ipc_call-11 spaces-20", "BAD_CAP: null, beyond SEL_NUM, wrong type, no CALL", bad_cap),
    ("ipc_call-2 ipc_call-13", "TIMEOUT: T=1 and the callee is busy; not once it is free", timeout),
    (
        "ipc_call-14 objects-17 objects-18",
        "ABORTED: the callee is killed before it replies, and when it is dead",
        aborted,
    ),
    ("ipc_call-14 objects-18", "ABORTED: also for a caller that waits for the callee", aborted_waiting),
    ("ipc_call-7", "calls nest through three local threads", nested),
    ("ipc_call-1 ipc_call-5 objects-36", "T=0: a busy callee is helped at the caller's priority", helping),
    ("ipc_call-1 ipc_call-5", "T=0: a caller waits for a callee that is blocked", waiting),
    ("ipc_call-15 ipc_call-18", "ABORTED: a callee that calls itself; TIMEOUT with T=1", self_call),
    ("ipc_call-15 ipc_call-18", "ABORTED: a circle of two callees", circle),
    ("ipc_call-9 ctrl_sc-2 ipc_reply-6 objects-35", "the callee runs on the caller's SC, which comes back", pays),
    ("objects-37 ctrl_sm-20", "a callee that waits takes its caller's SC off: it consumes nothing", waits_together),
];

/// What does not end.
pub const CIRCLES: &[Check] =
    &[("ipc_call-19", "two chains that wait for each other go round at their priority and keep nobody else", circles)];

fn words() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, u| {
        u.words[..Mtd::word_count(mtd)].iter_mut().for_each(|w| *w = !*w);
        mtd
    }))?;
    for n in [1, 8, 512] {
        let sent: Vec<u64> = (0..n).map(|i| i * 0x0101_0101_0101 + n).collect();
        let back = done("ipc_call", call(pt.0, &sent, false))?;
        equal(&format!("{n} words"), back, sent.iter().map(|w| !w).collect())?;
    }
    Ok(())
}

fn only_the_words() -> Outcome {
    let (_t, pt) = server(Box::new(|_, _, u| {
        let second = u.words[1];
        u.words = [7; 512];
        u.words[0] = second;
        Mtd::words(2)
    }))?;
    done("first call", call(pt.0, &[1, 2, 3, 4], false))?;
    rt::utcb().words[1..5].copy_from_slice(&[11, 12, 13, 14]);
    let back = done("second call", call(pt.0, &[10], false))?;
    equal("what the callee finds behind a message of one word", back, vec![7, 7])?;
    equal("words behind the reply", rt::utcb().words[2..5].to_vec(), vec![12, 13, 14])
}

fn reply_descriptor() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, _| mtd + 4))?;
    equal("mtd", done("ipc_call", hc::ipc_call(pt.0, 2, false))?, 6)
}

fn bad_cap() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, _| mtd))?;
    let (null, no_call) = (Slot::new(), Slot::masked(pt.0, (perm::Pt::CTRL | perm::Pt::EVENT).bits())?);
    let sm = Slot::sm(0)?;
    for (what, s) in [
        ("null", null.0),
        ("SEL_NUM", abi::SEL_NUM),
        ("a selector of 56 bits", (1 << 56) - 1),
        ("own PD", sel::PD),
        ("own EC", sel::EC),
        ("a semaphore", sm.0),
        ("no CALL", no_call.0),
    ] {
        refused(what, hc::ipc_call(s, 0, false), Status::BadCap)?;
        refused(what, hc::ipc_call(s, 0, true), Status::BadCap)?;
    }
    Ok(())
}

/// A server whose handler says that it is in, and then waits for the gate.
struct Gated {
    portal: Slot,
    inside: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Gated {
    fn new() -> Result<Gated, String> {
        let (inside, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (i, g) = (inside.clone(), gate.clone());
        let (_, portal) = server(Box::new(move |_, mtd, _| {
            i.up();
            g.down();
            mtd
        }))?;
        Ok(Gated { portal, inside, gate })
    }

    /// Somebody else is in it.
    fn occupied(&self) -> Result<thread::JoinHandle<Result<Vec<u64>, Status>>, String> {
        let pt = self.portal.0;
        let t = thread::spawn(move || call(pt, &[1], false));
        arrives("the other caller's message", &self.inside)?;
        Ok(t)
    }
}

fn timeout() -> Outcome {
    let g = Gated::new()?;
    let other = g.occupied()?;
    refused("busy callee", call(g.portal.0, &[5], true), Status::Timeout)?;
    g.gate.up();
    equal("the other caller", other.join().map_err(|_| "panic")?, Ok(vec![1]))?;
    g.gate.up();
    equal("free callee", call(g.portal.0, &[5], true), Ok(vec![5]))
}

extern "C" fn dies(_: u64, _: u64, _: *mut u64) -> u64 {
    // SAFETY: an exception without a handler, which kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

fn aborted() -> Outcome {
    let l = Local::new(dies, None)?;
    refused("killed in the call", l.call(&[1]), Status::Aborted)?;
    refused("dead", l.call(&[1]), Status::Aborted)?;
    refused("dead, T=1", call(l.portal.0, &[1], true), Status::Aborted)
}

/// Waits for the semaphore in its first word, and dies.
extern "C" fn waits_and_dies(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the own UTCB; an exception without a handler, which kills this thread.
    unsafe {
        let _ = hc::sm_up(u.add(1).read_volatile());
        let _ = hc::sm_down(u.read_volatile(), false, None);
        std::arch::asm!("ud2", options(noreturn))
    }
}

fn aborted_waiting() -> Outcome {
    let l = Local::new(waits_and_dies, None)?;
    let (gate, inside) = (Slot::sm(0)?, Arc::new(Semaphore::new(0)));
    let (pt, g, i) = (l.portal.0, gate.0, inside.sel());
    let first = thread::spawn(move || call(pt, &[g, i], false));
    arrives("the first caller's message", &inside)?;
    let opener = thread::spawn(move || {
        Semaphore::new(0).down_until(in_ms(5));
        hc::sm_up(g)
    });
    refused("the caller that waits", l.call(&[g, i]), Status::Aborted)?;
    refused("the caller that it served", first.join().map_err(|_| "panic")?, Status::Aborted)?;
    equal("up", opener.join().map_err(|_| "panic")?, Ok(()))
}

/// A call out of a handler. Its message is in the UTCB already, and so is the reply.
fn call_on(pt: Sel, u: &mut abi::Utcb, no_wait: bool) -> Result<u32, Status> {
    black_box(std::ptr::from_mut(u));
    hc::ipc_call(pt, 0, no_wait)
}

/// A server that calls on and adds one to the reply.
fn relay(next: Sel) -> Result<Slot, String> {
    let (_, s) = server(Box::new(move |_, _, u| {
        match call_on(next, u, false) {
            Ok(_) => u.words[0] += 1,
            Err(s) => u.words[0] = 1000 + s as u64,
        }
        0
    }))?;
    Ok(s)
}

fn nested() -> Outcome {
    let (_t, last) = server(Box::new(|_, _, u| {
        u.words[0] *= 10;
        0
    }))?;
    let middle = relay(last.0)?;
    let first = relay(middle.0)?;
    equal("reply", call(first.0, &[5], false), Ok(vec![52]))
}

fn helping() -> Outcome {
    let inside = Arc::new(Semaphore::new(0));
    let i = inside.clone();
    let (_t, pt) = server(Box::new(move |_, _, u| {
        if u.words[0] == 1 {
            i.up();
            spin_ms(20);
        }
        0
    }))?;
    let (portal, idle, stop) = (pt.0, Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    rt::thread::set_spawn_priority(10);
    let low = thread::spawn(move || call(portal, &[1], false));
    arrives("the low caller's message", &inside)?;
    rt::thread::set_spawn_priority(5);
    let (count, end) = (idle.clone(), stop.clone());
    let middle = thread::spawn(move || {
        while !end.load(SeqCst) {
            count.fetch_add(1, SeqCst);
        }
    });
    rt::thread::set_spawn_priority(0);
    let before = idle.load(SeqCst);
    let got = call(portal, &[2], false);
    let during = idle.load(SeqCst) - before;
    stop.store(true, SeqCst);
    let low = low.join().map_err(|_| "panic")?;
    middle.join().map_err(|_| "panic")?;
    equal("the helper's reply", got, Ok(vec![2]))?;
    equal("the low caller's reply", low, Ok(vec![1]))?;
    equal("turns of a thread between them while the helper waits", during, 0)
}

fn waiting() -> Outcome {
    let g = Gated::new()?;
    let other = g.occupied()?;
    let gate = g.gate.clone();
    let opener = thread::spawn(move || {
        Semaphore::new(0).down_until(in_ms(10));
        gate.up();
        gate.up();
    });
    let t0 = rt::time::tsc();
    let got = call(g.portal.0, &[9], false);
    let waited = rt::time::tsc() - t0;
    opener.join().map_err(|_| "panic")?;
    equal("reply", got, Ok(vec![9]))?;
    equal("the other caller", other.join().map_err(|_| "panic")?, Ok(vec![1]))?;
    holds("the caller waited for the other's reply", waited >= ms(5))
}

fn self_call() -> Outcome {
    let pt = Slot::new();
    let own = pt.0;
    let handler = Box::new(move |_, _, u: &mut abi::Utcb| {
        let no_wait = u.words[0] == 1;
        u.words[0] = call_on(own, u, no_wait).map_or_else(|s| s as u64, |_| 0);
        0
    });
    let t = done("portal thread", rt::PortalThread::new(crate::scene::cpu(), 32 << 10, handler))?;
    done("portal", t.portal(own, 0, 0))?;
    equal("T=0", call(own, &[0], false), Ok(vec![Status::Aborted as u64]))?;
    equal("T=1", call(own, &[1], false), Ok(vec![Status::Timeout as u64]))?;
    equal("it goes on", call(own, &[0], false), Ok(vec![Status::Aborted as u64]))
}

fn circle() -> Outcome {
    let back = Slot::new();
    let second = relay(back.0)?;
    let first = relay(second.0)?;
    done("copy", crate::scene::copy(first.0, back.0, perm::ALL))?;
    equal("reply", call(first.0, &[0], false), Ok(vec![1001 + Status::Aborted as u64]))
}

fn pays() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, _| {
        spin_ms(10);
        mtd
    }))?;
    let before = done("ctrl_sc", hc::ctrl_sc(sel::SC))?;
    done("ipc_call", call(pt.0, &[0], false))?;
    let used = done("ctrl_sc", hc::ctrl_sc(sel::SC))? - before;
    holds(&format!("SC of the caller has consumed 10 ms = {} (consumed: {used})", ms(10)), used >= ms(9))
}

fn waits_together() -> Outcome {
    let g = Gated::new()?;
    let gate = g.gate.clone();
    let opener = thread::spawn(move || {
        Semaphore::new(0).down_until(in_ms(30));
        gate.up();
    });
    let before = done("ctrl_sc", hc::ctrl_sc(sel::SC))?;
    let t = rt::time::tsc();
    done("ipc_call", call(g.portal.0, &[0], false))?;
    let (used, took) = (done("ctrl_sc", hc::ctrl_sc(sel::SC))? - before, rt::time::tsc() - t);
    opener.join().map_err(|_| "panic")?;
    holds(&format!("of {took} ticks it consumed {used}"), took >= ms(20) && used < took / 2)
}

/// A server that says that it is in, waits, and calls on.
fn gated_relay(inside: &Arc<Semaphore>, gate: &Arc<Semaphore>, next: Sel) -> Result<Slot, String> {
    let (i, g) = (inside.clone(), gate.clone());
    let (_, s) = server(Box::new(move |_, _, u| {
        i.up();
        g.down();
        u.words[0] = call_on(next, u, false).map_or_else(|s| s as u64, |_| 0);
        0
    }))?;
    Ok(s)
}

fn circles() -> Outcome {
    let (inside, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let back = Slot::new();
    let second = gated_relay(&inside, &gate, back.0)?;
    let first = gated_relay(&inside, &gate, second.0)?;
    done("copy", crate::scene::copy(first.0, back.0, perm::ALL))?;
    let ended = Arc::new(AtomicU64::new(0));
    // As low as can be: they never end.
    rt::thread::set_spawn_priority(28);
    for portal in [first.0, second.0] {
        let e = ended.clone();
        thread::spawn(move || {
            let _ = call(portal, &[0], false);
            e.fetch_add(1, SeqCst);
        });
        arrives("the message", &inside)?;
    }
    gate.up();
    gate.up();
    // The shortest of some tries: below an emulator a busy host makes one longer.
    let wakes = |_| {
        let start = rt::time::tsc();
        (0..10).for_each(|_| _ = Semaphore::new(0).down_until(in_ms(2)));
        rt::time::tsc() - start
    };
    let took = (0..5).map(wakes).min().unwrap_or(u64::MAX);
    rt::thread::set_spawn_priority(20);
    let above = thread::spawn(|| spin_ms(1)).join();
    rt::thread::set_spawn_priority(0);
    std::mem::forget((first, second, back));
    holds("threads above them run", above.is_ok())?;
    holds(&format!("and wake in time: {took}, {}", ms(20)), took < ms(200))?;
    holds("neither ends", ended.load(SeqCst) == 0)
}
