//! docs/spec/ctrl_sm.md.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Slot, arrives, copy, cpu, in_ms, ms, sleep_ms, spin_ms};
use abi::{Sel, Status, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;
use std::sync::{Arc, Mutex};
use std::thread;

pub const CHECKS: &[Check] = &[
    ("ctrl_sm-1 ctrl_sm-7 ctrl_sm-9 ctrl_sm-14", "up and down count", counter),
    ("ctrl_sm-2 ctrl_sm-9", "down with Z takes the whole count", zero),
    ("ctrl_sm-10", "down with Z of nothing waits for one up", zero_waits),
    ("ctrl_sm-6 objects-43", "waiters are released first in, first out", fifo),
    ("ctrl_sm-6", "an up with waiters does not count", no_count),
    ("ctrl_sm-3 ctrl_sm-8 readme-3", "up ignores Z, a deadline, and flags without meaning", up_ignores),
    ("ctrl_sm-12", "TIMEOUT: a deadline in the past, at once", past),
    ("ctrl_sm-11 ctrl_sm-15", "TIMEOUT: a deadline in the future, not before and soon after", future),
    ("ctrl_sm-11", "TIMEOUT: several deadlines come in their order", deadlines),
    ("ctrl_sm-11", "a waiter that timed out takes no later up", timed_out),
    ("ctrl_sm-10", "an up before the deadline is SUCCESS", before_deadline),
    ("ctrl_sm-21 objects-32", "a waiter of higher priority runs before up returns", preempts),
    ("ctrl_sm-16 ctrl_sm-19", "OVRFLOW: the counter is at its maximum", overflow),
    ("ctrl_sm-4 ctrl_sm-5 ctrl_sm-17 readme-2", "BAD_CAP: null, wrong type, no CTRL_UP, no CTRL_DN", bad_cap),
];

/// Takes one without waiting.
fn take(s: Sel) -> Result<(), Status> {
    hc::sm_down(s, false, Some(1))
}

fn counter() -> Outcome {
    let s = Slot::sm(0)?;
    for _ in 0..3 {
        done("up", hc::sm_up(s.0))?;
    }
    for _ in 0..3 {
        done("down", take(s.0))?;
    }
    refused("fourth down", take(s.0), Status::Timeout)
}

fn up_ignores() -> Outcome {
    let s = Slot::sm(0)?;
    for flags in [2, 4, 8, 14] {
        for stc in [1, u64::MAX] {
            let call = abi::Hypercall::CtrlSm.identifier(flags, s.0);
            done("up", crate::abi_page::status(call, stc, !0, !0, !0))?;
            done("down", take(s.0))?;
            refused("it was one", take(s.0), Status::Timeout)?;
        }
    }
    Ok(())
}

fn zero() -> Outcome {
    let s = Slot::sm(5)?;
    done("down with Z", hc::sm_down(s.0, true, Some(1)))?;
    refused("down", take(s.0), Status::Timeout)?;
    refused("down with Z", hc::sm_down(s.0, true, Some(1)), Status::Timeout)
}

/// Threads that wait for `s` in the order of their numbers, and note when they are released.
fn waiters(s: Sel, n: u64, zero: bool) -> (Vec<thread::JoinHandle<()>>, Arc<Mutex<Vec<u64>>>) {
    let order = Arc::new(Mutex::new(Vec::new()));
    let threads = (0..n)
        .map(|i| {
            let o = order.clone();
            let t = thread::spawn(move || {
                if hc::sm_down(s, zero, None).is_ok() {
                    o.lock().expect("order").push(i);
                }
            });
            // It has the same priority; while we wait it comes to its own wait.
            sleep_ms(2);
            t
        })
        .collect();
    (threads, order)
}

fn zero_waits() -> Outcome {
    let s = Slot::sm(0)?;
    let (threads, order) = waiters(s.0, 1, true);
    equal("released before an up", order.lock().expect("order").len(), 0)?;
    done("up", hc::sm_up(s.0))?;
    done("up", hc::sm_up(s.0))?;
    for t in threads {
        t.join().map_err(|_| "panic")?;
    }
    done("the second up counts", take(s.0))?;
    refused("and no more", take(s.0), Status::Timeout)
}

fn fifo() -> Outcome {
    let s = Slot::sm(0)?;
    let (threads, order) = waiters(s.0, 4, false);
    for n in 1..=4 {
        done("up", hc::sm_up(s.0))?;
        sleep_ms(2);
        equal("released", order.lock().expect("order").clone(), (0..n).collect())?;
    }
    threads.into_iter().try_for_each(|t| t.join().map_err(|_| "panic".into()))
}

fn no_count() -> Outcome {
    let s = Slot::sm(0)?;
    let (threads, _) = waiters(s.0, 2, false);
    done("up", hc::sm_up(s.0))?;
    done("up", hc::sm_up(s.0))?;
    refused("down", take(s.0), Status::Timeout)?;
    threads.into_iter().try_for_each(|t| t.join().map_err(|_| "panic".into()))
}

fn past() -> Outcome {
    let s = Slot::sm(0)?;
    for deadline in [1, rt::time::tsc() - 1, rt::time::tsc()] {
        let t = rt::time::tsc();
        refused("down", hc::sm_down(s.0, false, Some(deadline)), Status::Timeout)?;
        let took = rt::time::tsc() - t;
        // As generous as below.
        holds(&format!("at once: within {} ticks, not {took}", ms(100)), took < ms(100))?;
    }
    done("up", hc::sm_up(s.0))?;
    done("a count is taken though the deadline has passed", take(s.0))
}

fn future() -> Outcome {
    let s = Slot::sm(0)?;
    for n in [1, 5, 30] {
        let at = in_ms(n);
        refused("down", hc::sm_down(s.0, false, Some(at)), Status::Timeout)?;
        let now = rt::time::tsc();
        holds(&format!("{n} ms: {now} is at or after {at}"), now >= at)?;
        // Generous: the emulator shares its machine with others.
        holds(&format!("{n} ms: {} ticks late, less than {}", now - at, ms(500)), now - at < ms(500))?;
    }
    Ok(())
}

fn deadlines() -> Outcome {
    let (s, order) = (Slot::sm(0)?, Arc::new(Mutex::new(Vec::new())));
    // Far enough apart for an emulator that shares its machine with others.
    let (sel, base) = (s.0, in_ms(60));
    let threads: Vec<_> = [90, 30, 60, 0]
        .map(|n| {
            let o = order.clone();
            thread::spawn(move || {
                let r = hc::sm_down(sel, false, Some(base + ms(n)));
                o.lock().expect("order").push((n, r));
            })
        })
        .into();
    for t in threads {
        t.join().map_err(|_| "panic")?;
    }
    let got = order.lock().expect("order").clone();
    equal("order", got, [0, 30, 60, 90].map(|n| (n, Err(Status::Timeout))).to_vec())
}

fn timed_out() -> Outcome {
    let s = Slot::sm(0)?;
    refused("down", hc::sm_down(s.0, false, Some(in_ms(1))), Status::Timeout)?;
    done("up", hc::sm_up(s.0))?;
    done("the up has counted", take(s.0))
}

fn before_deadline() -> Outcome {
    let s = Slot::sm(0)?;
    let sel = s.0;
    let t = thread::spawn(move || {
        sleep_ms(3);
        hc::sm_up(sel)
    });
    let far = in_ms(1000);
    done("down", hc::sm_down(s.0, false, Some(far)))?;
    holds("before the deadline", rt::time::tsc() < far)?;
    equal("up", t.join().map_err(|_| "panic")?, Ok(()))?;
    // The deadline must not hit a later wait.
    refused("next down", hc::sm_down(s.0, false, Some(in_ms(5))), Status::Timeout)
}

fn preempts() -> Outcome {
    let (go, there) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (g, t) = (go.clone(), there.clone());
    let flag = Arc::new(Mutex::new(None));
    let f = flag.clone();
    rt::thread::set_spawn_priority(5);
    let low = thread::spawn(move || {
        t.up();
        g.up();
        *f.lock().expect("flag") = Some(rt::time::tsc());
    });
    rt::thread::set_spawn_priority(0);
    arrives("the low thread", &there)?;
    go.down();
    let before = flag.lock().expect("flag").is_none();
    spin_ms(1);
    let still = flag.lock().expect("flag").is_none();
    low.join().map_err(|_| "panic")?;
    holds("the low thread has not returned from its up while we run", before && still)
}

fn overflow() -> Outcome {
    let s = Slot::sm(u64::MAX - 1)?;
    done("up to the maximum", hc::sm_up(s.0))?;
    refused("up beyond", hc::sm_up(s.0), Status::Ovrflow)?;
    done("down", take(s.0))?;
    done("up again", hc::sm_up(s.0))?;
    refused("up beyond", hc::sm_up(s.0), Status::Ovrflow)?;
    done("down with Z", hc::sm_down(s.0, true, Some(1)))?;
    refused("down", take(s.0), Status::Timeout)
}

fn bad_cap() -> Outcome {
    let (null, s) = (Slot::new(), Slot::sm(3)?);
    for (what, sel) in [("null", null.0), ("SEL_NUM", abi::SEL_NUM), ("PD", sel::PD), ("portal", sel::parent(cpu()))] {
        refused(what, hc::sm_up(sel), Status::BadCap)?;
        refused(what, take(sel), Status::BadCap)?;
    }
    done("copy", copy(s.0, null.0, perm::Sm::CTRL_DN.bits()))?;
    refused("no CTRL_UP", hc::sm_up(null.0), Status::BadCap)?;
    done("copy", copy(s.0, null.0, perm::Sm::CTRL_UP.bits()))?;
    refused("no CTRL_DN", take(null.0), Status::BadCap)?;
    refused("no CTRL_DN, with Z", hc::sm_down(null.0, true, Some(1)), Status::BadCap)
}
