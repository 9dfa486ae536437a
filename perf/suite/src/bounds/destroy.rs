//! The longest portion of what is to be destroyed.
//!
//! Whoever leaves the kernel does a portion, so a thread sees it from outside: another one, below it, has something
//! destroyed; it wakes in the midst of that, and its own hypercalls take longer, each by a portion, until all is gone.

use super::{below, shortest};
use crate::clock::{figure, missing};
use abi::{CreatePdOp, Mad, Sel, perm};
use bare::{PAGE, Slot, done};
use parent::sel;
use rt::Semaphore;
use rt::hypercall::{self as hc, EcArgs};
use rt::time::tsc;
use std::sync::Arc;

/// How often each is destroyed; ticks from the beginning of it to the wake-up, at first and more each time.
const TIMES: u64 = 24;
const WAKE: (u64, u64) = (1000, 400);
/// Calls in a row without a portion after which nothing is left, and the most calls.
const QUIET: (u32, u32) = (100, 10_000);
/// 2^9 slots: as many as are in a portion.
const ORDER: u32 = 9;
/// For several portions.
const BLOCKS: u64 = 8;
const TABLES: u64 = 160;
const DOMAINS: usize = 128;
const THREADS: u64 = 32;
/// A table has so many.
const PAGES_OF_TABLE: u64 = 512;

/// Says that something is about to be destroyed.
type Gate = Arc<Semaphore>;

/// Destroys an object that nothing relies on.
fn destroy(s: &Slot, gate: &Gate) -> Result<(), String> {
    gate.up();
    // SAFETY: it was made for that.
    done("destroy", unsafe { hc::destroy(s.0) })
}

/// Delegates a block of our object space, into another one or, without permissions, into nothing.
fn block(from: Sel, space: Sel, to: Sel, perms: u8) -> Result<(), String> {
    // SAFETY: object spaces hold no memory.
    done("delegate", unsafe { hc::ctrl_pd(sel::OBJ, space, from, to, ORDER, perms, Mad::WB) })
}

/// Fills a block of our object space with semaphores.
fn semaphores(at: Sel) -> Result<(), String> {
    (at..at + (1 << ORDER)).try_for_each(|s| done("create_sm", hc::create_sm(s, sel::PD, 0)))
}

fn space(op: CreatePdOp) -> Result<(Slot, Slot), String> {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let space = Slot::pd(op, pd.0)?;
    Ok((pd, space))
}

/// An object space with capabilities; of these objects there are others.
fn capabilities(at: Sel, gate: &Gate) -> Result<(), String> {
    let (_pd, obj) = space(CreatePdOp::Obj)?;
    (0..BLOCKS).try_for_each(|b| block(at, obj.0, b << ORDER, perm::ALL))?;
    destroy(&obj, gate)
}

/// A host space with tables.
fn tables(page: u64, gate: &Gate) -> Result<(), String> {
    let (_pd, hst) = space(CreatePdOp::Hst)?;
    for t in 0..TABLES {
        let (from, to, read) = (page / PAGE, t * PAGES_OF_TABLE, perm::Mem::R.bits());
        // SAFETY: nobody runs in that space.
        done("delegate", unsafe { hc::ctrl_pd(sel::HST, hst.0, from, to, 0, read, Mad::WB) })?;
    }
    destroy(&hst, gate)
}

/// Objects that nothing is to be done for but to free them.
fn small(at: Sel, gate: &Gate) -> Result<(), String> {
    semaphores(at)?;
    gate.up();
    block(at, sel::OBJ, at, 0)?;
    (0..QUIET.0).for_each(|_| call());
    Ok(())
}

/// A domain with domains.
fn domains(gate: &Gate) -> Result<(), String> {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let _inner: Vec<Slot> = (0..DOMAINS).map(|_| Slot::pd(CreatePdOp::Pd, pd.0)).collect::<Result<_, _>>()?;
    destroy(&pd, gate)
}

/// A domain with threads that have not begun.
fn threads(gate: &Gate) -> Result<(), String> {
    let (pd, _obj) = space(CreatePdOp::Obj)?;
    let _hst = Slot::pd(CreatePdOp::Hst, pd.0)?;
    let mut ecs = Vec::new();
    for n in 0..THREADS {
        let ec = Slot::new();
        let args = EcArgs { utcb_page: 1 + n, cpu: 0, sp: 0, evt: 0, guest: false, global_or_offset: true, fpu: true };
        // SAFETY: not of our own domain.
        done("create_ec", unsafe { hc::create_ec(ec.0, pd.0, args) })?;
        ecs.push(ec);
    }
    destroy(&pd, gate)
}

/// Any hypercall that does nothing.
fn call() {
    let _ = hc::ctrl_sc(sel::EC);
}

/// The longest call until nothing is left to be destroyed.
fn longest(usual: u64) -> u64 {
    let (mut worst, mut quiet) = (0, 0);
    for _ in 0..QUIET.1 {
        let begin = tsc();
        call();
        let ticks = tsc() - begin;
        worst = worst.max(ticks);
        quiet = if ticks > 2 * usual { 0 } else { quiet + 1 };
        if quiet == QUIET.0 {
            break;
        }
    }
    worst
}

/// The longest portion that is met while another thread repeats `work`.
fn portion(usual: u64, work: impl Fn(&Gate) -> Result<(), String> + Send + 'static) -> Result<u64, String> {
    let (gate, alarm) = (Gate::new(Semaphore::new(0)), Semaphore::new(0));
    let other = gate.clone();
    let work = move || {
        if let Err(why) = work(&other) {
            println!("perf: stopped: destroy: {why}");
            other.up();
        }
    };
    let worst = below(work, || {
        let one = |i| {
            gate.down();
            alarm.down_until(tsc() + WAKE.0 + i * WAKE.1);
            longest(usual)
        };
        (0..TIMES).map(one).max().unwrap_or(0)
    });
    if worst > 2 * usual { Ok(worst - usual) } else { Err("no portion was met".into()) }
}

/// All rows of this file.
pub fn run(page: u64) -> Result<(), String> {
    let usual = shortest(call);
    let at = rt::sel::alloc_range(1 << ORDER, 1 << ORDER).ok_or("no selectors")?;
    let row = |name: &str, ticks: Result<u64, String>| match ticks {
        Ok(t) => figure(&format!("stretch_destroy_{name}"), t, "ticks"),
        Err(why) => missing(&format!("stretch_destroy_{name}"), &why),
    };
    semaphores(at)?;
    row("capabilities", portion(usual, move |g| capabilities(at, g)));
    block(at, sel::OBJ, at, 0)?;
    row("tables", portion(usual, move |g| tables(page, g)));
    row("small", portion(usual, move |g| small(at, g)));
    row("domains", portion(usual, domains));
    row("threads", portion(usual, threads));
    Ok(())
}
