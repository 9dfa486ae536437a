//! docs/spec/objects.md, ctrl_sc.md: scheduling contexts with priorities and budgets of our choice.

use crate::boot::several_cpus;
use crate::check::{Check, Outcome, done, equal, holds};
use crate::create_sc::Thread;
use crate::firmware::{hip, take};
use crate::own::sel;
use crate::scene::{Slot, ms, sleep_ms, spin_ms};
use abi::{CreatePdOp, Mad, Scd, Sel, perm, root_obj};
use rt::hypercall::{self as hc, EcArgs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use vcpu_tests::{Emulator, Facts};

pub const CHECKS: &[Check] = &[
    ("objects-33", "round robin: equals share by their budgets", shares),
    ("objects-34", "an SC alone at its priority goes on when its budget is used up", alone),
    ("objects-32", "a lower priority does not run while a higher one is ready", strict),
    ("objects-51", "an SC that nobody holds a capability to still runs", orphan),
    ("objects-52 objects-62", "what a killed thread holds goes with the last capability to it", killed),
    ("objects-54", "an object space with a capability to itself stays until it is emptied", circle),
    ("objects-39 ctrl_sc-3 spaces-46", "the idle SC: what nobody used, on each CPU", idle),
];

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn spins(_: u64) -> ! {
    while !STOP.load(SeqCst) {
        std::hint::spin_loop();
    }
    // SAFETY: the handler kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

/// Runs threads with these priorities and budgets for a time; what each has consumed.
fn race(list: &[(u8, u16)], time_ms: u64) -> Result<Vec<u64>, String> {
    STOP.store(false, SeqCst);
    let threads: Vec<_> = list.iter().map(|l| Ok((Thread::new(spins, 0)?, l))).collect::<Result<_, String>>()?;
    threads.iter().try_for_each(|(t, l)| t.start(l.0, l.1))?;
    sleep_ms(time_ms);
    let consumed = threads.iter().map(|(t, _)| t.consumed()).collect();
    STOP.store(true, SeqCst);
    sleep_ms(time_ms);
    consumed
}

/// Where the clock is the host's, each turn is longer by what the host does meanwhile: shares are less apart then, and there
/// is more than one try.
fn shares() -> Outcome {
    let exact = Facts::here().emulator != Emulator::Tcg;
    let fair = |used: &Vec<u64>| {
        let by = |n: usize, m: usize| used[n] as f64 / used[m].max(1) as f64;
        let (equal, twice) = if exact { (1.1, 1.8..2.2) } else { (1.5, 1.3..3.0) };
        by(0, 2) < equal && by(2, 0) < equal && twice.contains(&by(1, 0)) && twice.contains(&by(1, 2))
    };
    let mut tries = vec![race(&[(50, 5), (50, 10), (50, 5)], 200)?];
    while !exact && tries.len() < 4 && !tries.last().is_some_and(fair) {
        tries.push(race(&[(50, 5), (50, 10), (50, 5)], 200)?);
    }
    holds(&format!("budgets 5, 10, 5: consumed {tries:?}"), tries.last().is_some_and(fair))
}

fn alone() -> Outcome {
    let used = race(&[(50, 1)], 40)?;
    holds(&format!("of 40 ms with a budget of 1 ms: {used:?}, {}", ms(1)), used[0] > ms(30))
}

fn strict() -> Outcome {
    let used = race(&[(50, 1), (51, 1)], 30)?;
    holds(&format!("priorities 50 and 51: {used:?}"), used[1] > ms(20) && used[0] < ms(2))
}

/// Consumed time of an idle SC.
fn idle_time(sc: Sel) -> Result<u64, String> {
    done("ctrl_sc of an idle SC", hc::ctrl_sc(sc))
}

fn idle() -> Outcome {
    let scs: Vec<Slot> = (0..hip().cpu_num).map(|c| take(c.into(), perm::ALL)).collect::<Result<_, _>>()?;
    let own = scs.first().ok_or("no CPU")?.0;
    let before = idle_time(own)?;
    spin_ms(10);
    equal("while we spin", idle_time(own)?, before)?;
    sleep_ms(20);
    let waited = idle_time(own)? - before;
    holds(&format!("while we wait for 20 ms: {waited}, {}", ms(20)), waited > ms(15))?;
    let none = take(hip().cpu_num.into(), perm::ALL)?;
    equal("of the next CPU", hc::ctrl_sc(none.0), Err(abi::Status::BadCap))?;
    if several_cpus().is_err() {
        return Ok(());
    }
    let last = scs.last().ok_or("no CPU")?.0;
    let before = idle_time(last)?;
    spin_ms(10);
    holds("another CPU is idle while we spin", idle_time(last)? - before > ms(5))
}

extern "C" fn counts(_: u64) -> ! {
    loop {
        COUNT.fetch_add(1, SeqCst);
        if STOP.load(SeqCst) {
            // SAFETY: the handler kills this thread.
            unsafe { std::arch::asm!("ud2", options(noreturn)) }
        }
    }
}

static COUNT: AtomicU64 = AtomicU64::new(0);

fn orphan() -> Outcome {
    STOP.store(false, SeqCst);
    let mut t = Thread::new(counts, 0)?;
    t.start(50, 10)?;
    sleep_ms(5);
    // Both capabilities, to SC and EC.
    t.sc = Slot::new();
    t.ec = Slot::new();
    let before = COUNT.load(SeqCst);
    sleep_ms(10);
    let after = COUNT.load(SeqCst);
    STOP.store(true, SeqCst);
    sleep_ms(5);
    let end = COUNT.load(SeqCst);
    sleep_ms(5);
    holds(&format!("it goes on: {before}, {after}"), before > 0 && after > before)?;
    equal("it ends when it is killed", COUNT.load(SeqCst), end)
}

/// Frames that the account of a PD has used.
fn used(pd: Sel) -> Result<u64, String> {
    done("read_quota", hc::read_quota(pd)).map(|q| q.1)
}

/// A PD with an account of its own, an object space and a host space.
fn domain(frames: u64) -> Result<[Slot; 3], String> {
    let pd = Slot::new();
    done("create_account", hc::create_account(pd.0, root_obj::ROOT_PD, frames))?;
    let (obj, hst) = (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?);
    Ok([pd, obj, hst])
}

fn killed() -> Outcome {
    let [pd, _obj, _hst] = domain(100)?;
    let before = used(pd.0)?;
    let (ec, sc) = (Slot::new(), Slot::new());
    let args = EcArgs { utcb_page: 0x1000, global_or_offset: true, ..EcArgs::default() };
    // SAFETY: an EC of another PD, which has no code.
    done("create_ec", unsafe { hc::create_ec(ec.0, pd.0, args) })?;
    done("create_sc", hc::create_sc(sc.0, pd.0, ec.0, Scd { cos: 0, prio: 50, budget_ms: 10 }))?;
    let full = used(pd.0)?;
    // Nobody answers its STARTUP: that kills it.
    sleep_ms(5);
    drop(sc);
    let held = used(pd.0)?;
    drop(ec);
    let after = used(pd.0)?;
    holds(&format!("the dead one keeps its UTCB and state: {before}, {full}, {held}"), held > before && held <= full)?;
    // Tables of the host space stay with it.
    holds(&format!("gone with the last capability: {after}"), after < held && after <= before + 4)
}

fn circle() -> Outcome {
    let [pd, ..] = domain(100)?;
    let space = || Slot::pd(CreatePdOp::Obj, Slot::pd(CreatePdOp::Pd, pd.0)?.0);
    let s = Slot::new();
    // SAFETY: object spaces hold no memory.
    let put = |to: &Slot, from: Sel, perms| unsafe { hc::ctrl_pd(sel::OBJ, to.0, from, 5, 0, perms, Mad::WB) };
    let _keeps_frames = space()?;
    let before = used(pd.0)?;
    let emptied = space()?;
    done("a capability to itself", put(&emptied, emptied.0, perm::ALL))?;
    let with = used(pd.0)?;
    done("emptied", put(&emptied, s.0, 0))?;
    drop(emptied);
    equal("one that was emptied is gone", used(pd.0)?, before)?;
    let full = space()?;
    done("a capability to itself", put(&full, full.0, perm::ALL))?;
    drop(full);
    equal("one that was not stays", used(pd.0)?, with)
}
