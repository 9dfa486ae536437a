//! Each kind of object: who may destroy it, and what becomes of those who use it.

use super::destroy;
use super::domain::{Desk, Domain, inside};
use crate::check::{Outcome, done, equal, holds, refused};
use crate::scene::{Local, Slot, call, copy, cpu, in_ms, sleep_ms, start};
use abi::{CreatePdOp, Sel, Status, event, perm};
use parent::sel;
use rt::hypercall as hc;
use std::thread::{self, JoinHandle};

/// Adds to the first word, for ever.
pub extern "C" fn counts(desk: u64) -> ! {
    let at = std::ptr::with_exposed_provenance_mut::<u64>(desk as usize);
    loop {
        // SAFETY: a word of the desk, which is all that this thread has.
        unsafe { at.write_volatile(at.read_volatile() + 1) };
    }
}

/// Downs a semaphore, for ever, and counts that in the first word.
pub extern "C" fn downs(desk: u64) -> ! {
    let at = std::ptr::with_exposed_provenance_mut::<u64>(desk as usize);
    loop {
        if hc::sm_down(inside::FREE, false, None).is_ok() {
            // SAFETY: as above.
            unsafe { at.write_volatile(at.read_volatile() + 1) };
        }
    }
}

/// Says in its first word that it is there, downs the semaphore that came as identifier, and replies.
pub extern "C" fn serves(pid: u64, _: u64, _: *mut u64) -> u64 {
    let _ = hc::sm_down(pid, false, None);
    0
}

/// A thread of ours that makes that call, and says what came of it.
pub fn caller(pt: Sel) -> JoinHandle<Result<(), Status>> {
    thread::spawn(move || call(pt, &[], false).map(drop))
}

/// What became of it; it must not take for ever.
pub fn outcome<T>(what: &str, t: JoinHandle<T>) -> Result<T, String> {
    let end = in_ms(5000);
    while !t.is_finished() {
        if rt::time::tsc() > end {
            return Err(format!("{what}: nothing came of it within 5 s"));
        }
        sleep_ms(1);
    }
    t.join().map_err(|_| format!("{what}: panicked"))
}

/// Such a call ends with that status.
pub fn ends(what: &str, t: JoinHandle<Result<(), Status>>, want: Result<(), Status>) -> Outcome {
    equal(what, outcome(what, t)?, want)
}

/// A copy without one permission is not enough; the whole capability is.
fn needs(what: &str, s: &Slot, perms: u8) -> Outcome {
    let less = Slot::new();
    for bit in (0..perm::BITS).map(|b| 1 << b).filter(|b| perms & b != 0) {
        done("a copy", copy(s.0, less.0, perm::ALL & !bit))?;
        refused(&format!("{what} without permission {bit:#x}"), destroy(less.0), Status::BadCap)?;
    }
    done("a copy with just the permissions", copy(s.0, less.0, perms))?;
    done(what, destroy(less.0))?;
    for gone in [less.0, s.0] {
        refused(&format!("{what}, again"), destroy(gone), Status::BadCap)?;
    }
    Ok(())
}

pub fn bad_cap() -> Outcome {
    for s in [Slot::new().0, abi::SEL_NUM, abi::SEL_NUM << 20] {
        refused("nothing", destroy(s), Status::BadCap)?;
    }
    let (desk, space) = (Desk::new(), |p: perm::Space| p.bits());
    let d = Domain::new(desk)?;
    let (ec, pt) = d.local(cpu(), serves, 0)?;
    let (thread, sc) = d.thread(cpu(), counts, 1)?;
    needs("SC", &sc, perm::Sc::CTRL.bits())?;
    needs("PT", &pt, perm::Pt::CTRL.bits())?;
    needs("EC, local", &ec, perm::Ec::CTRL.bits())?;
    needs("EC, global", &thread, perm::Ec::CTRL.bits())?;
    needs("SM", &Slot::sm(1)?, (perm::Sm::CTRL_UP | perm::Sm::CTRL_DN).bits())?;
    let (host, guest) = (perm::Space::TAKE | perm::Space::GRANT, perm::Space::GRANT | perm::Space::ASSIGN);
    for op in [CreatePdOp::Pio, CreatePdOp::Msr] {
        needs("PIO or MSR space", &Slot::pd(op, d.pd.0)?, space(perm::Space::all()))?;
    }
    if super::states::needs_guests().is_ok() {
        needs("guest space", &Slot::pd(CreatePdOp::Gst, d.pd.0)?, space(guest))?;
    }
    needs("host space", &d.hst, space(host))?;
    needs("object space", &d.obj, space(host))?;
    needs("PD", &d.pd, (perm::Pd::PD | perm::Pd::EC | perm::Pd::PT | perm::Pd::SM).bits())
}

pub fn null_everywhere() -> Outcome {
    let d = Domain::new(Desk::new())?;
    let (sm, other, third) = (Slot::new(), Slot::new(), Slot::new());
    done("create_sm", hc::create_sm(sm.0, d.pd.0, 7))?;
    done("copy", copy(sm.0, other.0, perm::ALL))?;
    done("destroy", destroy(sm.0))?;
    for s in [&sm, &other] {
        refused("up", hc::sm_up(s.0), Status::BadCap)?;
        refused("down", hc::sm_down(s.0, false, Some(1)), Status::BadCap)?;
    }
    // What is delegated from there is null, too: nothing is there, and nothing was.
    done("copy of nothing", copy(other.0, third.0, perm::ALL))?;
    done("create_sm where nothing is", hc::create_sm(third.0, sel::PD, 1))?;
    done("create_sm over a dead capability", hc::create_sm(sm.0, sel::PD, 3))?;
    done("up of the new one", hc::sm_up(sm.0))?;
    refused("up of the old one", hc::sm_up(other.0), Status::BadCap)?;
    done("delegation over a dead capability", copy(sm.0, other.0, perm::ALL))?;
    done("up of the new one", hc::sm_up(other.0))
}

pub fn memory_returns() -> Outcome {
    let d = Domain::new(Desk::new())?;
    // The first one has the space grow.
    drop(d.local(cpu(), serves, 0)?);
    let before = level(&d)?;
    let (ec, pt) = d.local(cpu(), serves, 0)?;
    d.give(ec.0, inside::FREE, perm::ALL)?;
    let whole = level(&d)?;
    done("destroy", destroy(ec.0))?;
    let shell = level(&d)?;
    // UTCB and vector state are free, its cell and that of its portal are not.
    holds(&format!("memory comes back: {before}, {whole}, {shell}"), shell + 2 <= whole && shell > before)?;
    done("revoke", clear(&d, inside::FREE))?;
    drop((ec, pt));
    equal("with the last capability, the rest", level(&d)?, before)
}

fn level(d: &Domain) -> Result<u64, String> {
    done("read_quota", hc::read_quota(d.pd.0)).map(|(_, used)| used)
}

fn clear(d: &Domain, at: Sel) -> Result<(), Status> {
    // SAFETY: an object space holds no memory.
    unsafe { hc::ctrl_pd(sel::OBJ, d.obj.0, 0, at, 0, 0, abi::Mad::WB) }
}

pub fn semaphore() -> Outcome {
    let sm = Slot::sm(0)?;
    let s = sm.0;
    // More than are released in one go.
    let waiters: Vec<_> = (0..40)
        .map(|i| thread::spawn(move || hc::sm_down(s, i % 2 == 0, (i % 3 == 0).then(|| in_ms(20_000)))))
        .collect();
    sleep_ms(20);
    done("destroy", destroy(s))?;
    for t in waiters {
        ends("a waiter", t, Err(Status::Aborted))?;
    }
    refused("who comes later", hc::sm_down(s, false, None), Status::BadCap)
}

pub fn local_ec() -> Outcome {
    let (busy, sm) = (Local::new(serves, None)?, Slot::sm(0)?);
    done("ctrl_pt", hc::ctrl_pt(busy.portal.0, sm.0, 0))?;
    let (inside, waits) = (caller(busy.portal.0), caller(busy.portal.0));
    sleep_ms(10);
    done("destroy", destroy(busy.ec.0))?;
    ends("who is inside", inside, Err(Status::Aborted))?;
    ends("who waits to come in", waits, Err(Status::Aborted))?;
    refused("who comes later", busy.call(&[]), Status::Aborted)?;
    // It was waiting for the semaphore, and does so no more.
    done("up", hc::sm_up(sm.0))?;
    done("down", hc::sm_down(sm.0, false, Some(1)))
}

pub fn threads() -> Outcome {
    let desk = Desk::new();
    let d = Domain::new(desk)?;
    let (ec, _sc) = d.thread(cpu(), counts, 1)?;
    holds("it runs", desk.moves(0, 30))?;
    done("destroy", destroy(ec.0))?;
    holds("it runs no more", !desk.moves(0, 30))
}

pub fn waiting_ec() -> Outcome {
    let (desk, sm) = (Desk::new(), Slot::sm(0)?);
    let d = Domain::new(desk)?;
    d.give(sm.0, inside::FREE, perm::ALL)?;
    let (ec, _sc) = d.thread(cpu(), downs, 0)?;
    sleep_ms(10);
    done("up", hc::sm_up(sm.0))?;
    sleep_ms(10);
    equal("ups that it took", desk.word(0), 1)?;
    done("destroy", destroy(ec.0))?;
    done("up", hc::sm_up(sm.0))?;
    done("down", hc::sm_down(sm.0, false, Some(1)))?;
    equal("ups that it took", desk.word(0), 1)
}

pub fn portal() -> Outcome {
    let (l, sm, second) = (Local::new(serves, None)?, Slot::sm(0)?, Slot::new());
    done("ctrl_pt", hc::ctrl_pt(l.portal.0, sm.0, 0))?;
    // SAFETY: as in `Local`.
    let created = unsafe { hc::create_pt(second.0, sel::PD, l.ec.0, crate::scene::probe_entry as *const () as u64) };
    done("a second portal", created)?;
    // Its identifier is no selector of anything, so its callers are not kept waiting.
    done("ctrl_pt", hc::ctrl_pt(second.0, abi::SEL_NUM, 0))?;
    let inside = caller(l.portal.0);
    sleep_ms(10);
    done("destroy of the other portal", {
        let third = Slot::new();
        // SAFETY: as above.
        unsafe { hc::create_pt(third.0, sel::PD, l.ec.0, 0) }.and_then(|()| destroy(third.0))
    })?;
    holds("that is none of the caller's business", !inside.is_finished())?;
    done("destroy", destroy(l.portal.0))?;
    ends("who is inside", inside, Err(Status::Aborted))?;
    refused("who comes later", l.call(&[]), Status::BadCap)?;
    // The handler is still at it, for nobody, and waits for the semaphore.
    refused("without waiting", call(second.0, &[], true), Status::Timeout)?;
    let next = caller(second.0);
    sleep_ms(10);
    holds("who comes by another portal waits", !next.is_finished())?;
    done("up", hc::sm_up(sm.0))?;
    ends("who came by another portal", next, Ok(()))?;
    done("and again", call(second.0, &[], false)).map(drop)
}

/// Portals that may lie where the caller's was.
pub fn portals_place() -> Outcome {
    let (Local { ec, portal, events: _events }, sm) = (Local::new(serves, None)?, Slot::sm(0)?);
    done("ctrl_pt", hc::ctrl_pt(portal.0, sm.0, 0))?;
    let inside = caller(portal.0);
    sleep_ms(10);
    drop(portal);
    sleep_ms(20);
    for _ in 0..40 {
        let other = Slot::new();
        // SAFETY: nobody can enter there.
        done("create_pt", unsafe { hc::create_pt(other.0, sel::PD, ec.0, 0) })?;
        done("destroy", destroy(other.0))?;
    }
    holds("they are none of the caller's business", !inside.is_finished())?;
    done("up", hc::sm_up(sm.0))?;
    ends("who is inside", inside, Ok(()))
}

pub fn scheduling_context() -> Outcome {
    let desk = Desk::new();
    let d = Domain::new(desk)?;
    let (ec, sc) = d.thread(cpu(), counts, 1)?;
    holds("it runs", desk.moves(0, 30))?;
    done("destroy", destroy(sc.0))?;
    let at = desk.word(0);
    holds("it runs no more", !desk.moves(0, 30))?;
    refused("ctrl_sc", hc::ctrl_sc(sc.0), Status::BadCap)?;
    start(ec.0, sc.0, 1)?;
    holds("it runs on", desk.moves(0, 30) && desk.word(0) > at)
}

/// Calls the portal in FREE, for ever, and counts in the first word what succeeds.
pub extern "C" fn calls(desk: u64) -> ! {
    let at = std::ptr::with_exposed_provenance_mut::<u64>(desk as usize);
    loop {
        let n = if hc::ipc_call(inside::FREE, 0, false).is_ok() { 0 } else { 1 };
        // SAFETY: words of the desk.
        unsafe { at.add(n).write_volatile(at.add(n).read_volatile() + 1) };
    }
}

pub fn lent() -> Outcome {
    let (desk, server, sm) = (Desk::new(), Local::new(serves, None)?, Slot::sm(0)?);
    let d = Domain::new(desk)?;
    done("ctrl_pt", hc::ctrl_pt(server.portal.0, sm.0, 0))?;
    d.give(server.portal.0, inside::FREE, perm::ALL)?;
    let (ec, sc) = d.thread(cpu(), calls, 0)?;
    sleep_ms(10);
    done("destroy", destroy(sc.0))?;
    done("up", hc::sm_up(sm.0))?;
    sleep_ms(10);
    equal("calls that came back, without SC", desk.word(0), 0)?;
    // With ours the server finishes for it, and then serves us.
    done("up for us", hc::sm_up(sm.0))?;
    done("call", server.call(&[]))?;
    sleep_ms(10);
    equal("still no SC", desk.word(0), 0)?;
    start(ec.0, sc.0, 0)?;
    sleep_ms(10);
    equal("calls that came back, with a new SC", desk.word(0), 1)?;
    // It calls again, and is there when a new SC comes in the middle of that.
    done("destroy", destroy(sc.0))?;
    start(ec.0, sc.0, 0)?;
    done("up", hc::sm_up(sm.0))?;
    sleep_ms(10);
    equal("calls that came back, with a third", desk.word(0), 2)
}

pub fn object_space() -> Outcome {
    let (desk, sm) = (Desk::new(), Slot::sm(0)?);
    let d = Domain::new(desk)?;
    let (_server, pt) = d.local(cpu(), tries_to_create, 0)?;
    done("call", call(pt.0, &[], false))?;
    d.give(sm.0, inside::FREE, perm::ALL)?;
    done("destroy", destroy(d.obj.0))?;
    refused("delegation", clear(&d, inside::FREE), Status::BadCap)?;
    let words = done("call of a thread in it", call(pt.0, &[], false))?;
    equal("its create_sm, and its up", words, vec![Status::BadCap as u64, Status::BadCap as u64])?;
    refused("a new thread", d.create_ec(false, cpu(), 0, 0), Status::Aborted)
}

/// Creates a semaphore and ups another; replies with both statuses.
extern "C" fn tries_to_create(_: u64, _: u64, u: *mut u64) -> u64 {
    let status = |r: Result<(), Status>| r.err().map_or(0, |s| s as u64);
    let (a, b) = (status(hc::create_sm(inside::FREE + 1, inside::PD, 0)), status(hc::sm_up(inside::FREE)));
    // SAFETY: the own UTCB.
    unsafe {
        u.write_volatile(a);
        u.add(1).write_volatile(b);
    }
    1
}

pub fn host_space() -> Outcome {
    let desk = Desk::new();
    let d = Domain::new(desk)?;
    let (_ec, _sc) = d.thread(cpu(), counts, 1)?;
    let (_server, pt) = d.local(cpu(), serves, 0)?;
    done("call", call(pt.0, &[], false))?;
    holds("it runs", desk.moves(0, 30))?;
    done("destroy", destroy(d.hst.0))?;
    holds("it runs no more", !desk.moves(0, 30))?;
    refused("call", call(pt.0, &[], false), Status::Aborted)?;
    refused("and again", call(pt.0, &[], false), Status::Aborted)
}

pub fn guest_space() -> Outcome {
    super::states::needs_guests()?;
    let (g, space) = super::states::Vm::new(None)?;
    holds("the guest runs", g.started.down_until(in_ms(5000)))?;
    sleep_ms(5);
    done("destroy", destroy(space.0))?;
    // It is killed when it would run on, so no recall is ever answered.
    sleep_ms(30);
    done("recall", hc::ctrl_ec(g.vcpu.0, true))?;
    sleep_ms(20);
    equal("events", g.events(), vec![event::GST_STARTUP])
}

pub fn other_spaces() -> Outcome {
    let desk = Desk::new();
    let d = Domain::new(desk)?;
    // A thread with a PIO space, and one that was made first: both go on, without ports.
    let pio = Slot::pd(CreatePdOp::Pio, d.pd.0)?;
    let (_ec, _sc) = d.thread(cpu(), counts, 1)?;
    holds("it runs", desk.moves(0, 30))?;
    let msr = Slot::pd(CreatePdOp::Msr, d.pd.0)?;
    let before = done("read_quota", hc::read_quota(d.pd.0))?;
    done("destroy", destroy(pio.0))?;
    done("destroy", destroy(msr.0))?;
    let after = done("read_quota", hc::read_quota(d.pd.0))?;
    holds("their bitmaps are free", after.1 + 4 <= before.1)?;
    holds("it runs on", desk.moves(0, 30))
}
