//! PDs that are destroyed while their threads are in each state of IPC, and what becomes of their partners.

use super::domain::{Desk, Domain, inside};
use super::kinds::{caller, calls, counts, downs, ends, serves};
use super::{cpus, destroy};
use crate::check::{NOT_HERE, Outcome, done, equal, holds, refused};
use crate::scene::{Events, Local, Log, Slot, call, cpu, in_ms, memory, sleep_ms, start};
use abi::{ArchState, CreatePdOp, Mtd, Sel, Status, event, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall::{self as hc, EcArgs};
use std::sync::Arc;

/// What we use of kernel memory; other CPUs have to be done with what they take apart.
fn own_level() -> Result<(u64, u64), String> {
    done("read_quota", hc::read_quota(sel::PD))
}

/// Runs `f`; after that our level is what it was before.
pub fn returns(f: impl FnOnce() -> Outcome) -> Outcome {
    // Handlers of ours may still be at it for what was destroyed before.
    sleep_ms(5);
    let before = own_level()?;
    f()?;
    let end = in_ms(2000);
    let mut now = own_level()?;
    while now != before && rt::time::tsc() < end {
        // A handler may have to finish at a lower priority.
        sleep_ms(1);
        now = own_level()?;
    }
    equal("limit and use of kernel memory", now, before)
}

pub fn everything() -> Outcome {
    let desk = Desk::new();
    let d = Domain::new(desk)?;
    let (sm, child, gst) = (Slot::new(), Slot::pd(CreatePdOp::Pd, d.pd.0)?, Slot::pd(CreatePdOp::Pio, d.pd.0)?);
    done("create_sm", hc::create_sm(sm.0, d.pd.0, 0))?;
    let (server, pt) = d.local(cpu(), serves, 0)?;
    let threads = cpus().into_iter().take(4).map(|c| d.thread(c, counts, 1)).collect::<Result<Vec<_>, _>>()?;
    holds("they run", desk.moves(0, 30))?;
    d.destroy()?;
    holds("they run no more", !desk.moves(0, 30))?;
    let gone = [&d.pd, &d.obj, &d.hst, &gst, &server];
    for s in gone.into_iter().chain(threads.iter().map(|t| &t.0)) {
        refused("destroy, again", destroy(s.0), Status::BadCap)?;
    }
    refused("read_quota", hc::read_quota(d.pd.0), Status::BadCap)?;
    refused("call", call(pt.0, &[], false), Status::Aborted)?;
    refused("create_sm in its child", hc::create_sm(Slot::new().0, child.0, 0), Status::BadCap)?;
    // What does nothing by itself stays.
    done("up", hc::sm_up(sm.0))?;
    done("ctrl_sc", hc::ctrl_sc(threads[0].1.0)).map(drop)
}

pub fn running() -> Outcome {
    for round in 0..3 {
        let desk = Desk::new();
        let d = Domain::new(desk)?;
        let threads = cpus().into_iter().take(4).map(|c| d.thread(c, counts, 1)).collect::<Result<Vec<_>, _>>()?;
        holds("it runs", desk.moves(0, 30))?;
        if round > 0 {
            done("recall", hc::ctrl_ec(threads[0].0.0, round == 2))?;
        }
        d.destroy()?;
        holds("it runs no more", !desk.moves(0, 30))?;
    }
    Ok(())
}

/// A server of ours that waits for a semaphore before it replies.
fn slow_server() -> Result<(Local, Slot), String> {
    let (server, sm) = (Local::new(serves, None)?, Slot::sm(0)?);
    done("ctrl_pt", hc::ctrl_pt(server.portal.0, sm.0, 0))?;
    Ok((server, sm))
}

pub fn calling() -> Outcome {
    let (server, sm) = slow_server()?;
    let d = Domain::new(Desk::new())?;
    d.give(server.portal.0, inside::FREE, perm::ALL)?;
    let _client = d.thread(cpu(), calls, 0)?;
    sleep_ms(10);
    refused("the server is busy", call(server.portal.0, &[], true), Status::Timeout)?;
    d.destroy()?;
    // It goes on when it is needed, and what it replies for the dead goes nowhere.
    let next = caller(server.portal.0);
    sleep_ms(10);
    done("up", hc::sm_up(sm.0))?;
    sleep_ms(10);
    holds("it waits for us now", !next.is_finished())?;
    done("up", hc::sm_up(sm.0))?;
    ends("our call", next, Ok(()))?;
    done("up", hc::sm_up(sm.0))?;
    done("without waiting", call(server.portal.0, &[], true)).map(drop)
}

pub fn called() -> Outcome {
    let sm = Slot::sm(0)?;
    let d = Domain::new(Desk::new())?;
    d.give(sm.0, inside::FREE, perm::ALL)?;
    let (_waits, waits) = d.local(cpu(), serves, inside::FREE)?;
    let (_spins, spins) = d.local(cpu(), spins, 0)?;
    // One calls the other: we are at the end of a chain.
    let (_calls, relays) = d.local(cpu(), relays, inside::FREE + 1)?;
    d.give(waits.0, inside::FREE + 1, perm::ALL)?;
    let (a, b) = (caller(spins.0), caller(relays.0));
    sleep_ms(10);
    let c = caller(waits.0);
    sleep_ms(10);
    d.destroy()?;
    for (what, t) in [("of one that spins", a), ("of one that calls", b), ("of one that waits", c)] {
        ends(what, t, Err(Status::Aborted))?;
    }
    done("up", hc::sm_up(sm.0))?;
    done("down", hc::sm_down(sm.0, false, Some(1)))
}

extern "C" fn spins(_: u64, _: u64, _: *mut u64) -> u64 {
    loop {
        std::hint::spin_loop();
    }
}

/// Calls the portal that came as identifier.
extern "C" fn relays(pid: u64, _: u64, _: *mut u64) -> u64 {
    let _ = hc::ipc_call(pid, 0, false);
    0
}

pub fn helping() -> Outcome {
    let (server, sm) = slow_server()?;
    let d = Domain::new(Desk::new())?;
    d.give(server.portal.0, inside::FREE, perm::ALL)?;
    d.give(sm.0, inside::FREE + 2, perm::ALL)?;
    // Ours is inside our server, theirs waits for it.
    let ours = caller(server.portal.0);
    sleep_ms(10);
    let _client = d.thread(cpu(), calls, 0)?;
    // Theirs is inside their server, ours waits for it.
    let (_server, pt) = d.local(cpu(), serves, inside::FREE + 2)?;
    let (inside, waits) = (caller(pt.0), caller(pt.0));
    sleep_ms(10);
    d.destroy()?;
    ends("inside", inside, Err(Status::Aborted))?;
    ends("helping", waits, Err(Status::Aborted))?;
    holds("ours is still inside ours", !ours.is_finished())?;
    done("up", hc::sm_up(sm.0))?;
    ends("ours", ours, Ok(()))?;
    done("up", hc::sm_up(sm.0))?;
    done("nobody else is inside", call(server.portal.0, &[], true)).map(drop)
}

/// Who waits for a handler that waits itself, and is not linked to whom that waits for.
pub fn relayed() -> Outcome {
    let (server, sm) = slow_server()?;
    let d = Domain::new(Desk::new())?;
    d.give(server.portal.0, inside::FREE, perm::ALL)?;
    let (relay, pt) = d.local(cpu(), relays, inside::FREE)?;
    let (inside, waits) = (caller(pt.0), caller(pt.0));
    sleep_ms(10);
    done("destroy", destroy(relay.0))?;
    ends("inside", inside, Err(Status::Aborted))?;
    ends("waiting", waits, Err(Status::Aborted))?;
    // For nobody it goes on when it is needed.
    let next = caller(server.portal.0);
    done("up", hc::sm_up(sm.0))?;
    done("up", hc::sm_up(sm.0))?;
    ends("the next", next, Ok(()))
}

pub fn waiting() -> Outcome {
    let (desk, sm) = (Desk::new(), Slot::sm(0)?);
    let d = Domain::new(desk)?;
    d.give(sm.0, inside::FREE, perm::ALL)?;
    let _threads = cpus().into_iter().take(4).map(|c| d.thread(c, downs, 0)).collect::<Result<Vec<_>, _>>()?;
    sleep_ms(20);
    d.destroy()?;
    for _ in 0..3 {
        done("up", hc::sm_up(sm.0))?;
    }
    for _ in 0..3 {
        done("down", hc::sm_down(sm.0, false, Some(1)))?;
    }
    equal("ups that it took", desk.word(0), 0)
}

/// Whether there can be virtual CPUs.
pub fn needs_guests() -> Outcome {
    let features = rt::start_info().map_or(0, |i| i.features);
    let none = features & (abi::Features::VMX | abi::Features::SVM).bits() == 0;
    if none { Err(format!("{NOT_HERE}no virtualisation")) } else { Ok(()) }
}

/// A virtual CPU whose guest loops with interrupts on.
pub struct Vm {
    /// EC.
    pub vcpu: Slot,
    /// Upped when it starts.
    pub started: Arc<Semaphore>,
    log: Log,
    _rest: (Slot, Events),
}

/// Events of the guest in the domain.
const GUEST_EVENTS: Sel = 0x2000;

impl Vm {
    /// In a domain, or in our own; and its guest space.
    pub fn new(d: Option<&Domain>) -> Result<(Vm, Slot), String> {
        let pd = d.map_or(sel::PD, |d| d.pd.0);
        let gst = Slot::pd(CreatePdOp::Gst, pd)?;
        let ram = memory(4096, 4096);
        // sti; 1: jmp 1b
        crate::scene::poke(ram, 0x00fe_ebfb);
        // SAFETY: the memory is never given back.
        let map = unsafe { hc::ctrl_pd(sel::HST, gst.0, ram / 4096, 0, 0, perm::ALL, abi::Mad::WB) };
        done("guest memory", map)?;
        let (log, started, space) = (Log::default(), Arc::new(Semaphore::new(0)), gst.0);
        let (seen, up) = (log.clone(), started.clone());
        let count = event::GST_ARCH + event::GST_NOVA;
        let events = Events::new(
            count,
            Mtd::empty(),
            Some(Box::new(move |n, s| {
                seen.lock().expect("log").push((n, ArchState::ZERO));
                if n != event::GST_STARTUP {
                    return Mtd::empty();
                }
                up.up();
                (s.sel_gst, s.sel_pio, s.sel_msr) = (space, 0, 0);
                s.begin_in_real_mode(0, 2) | Mtd::SPACES
            })),
        )?;
        let base = d.map_or(events.base, |_| GUEST_EVENTS);
        for n in 0..count {
            d.map_or(Ok(()), |d| d.give(events.base + n, base + n, perm::ALL))?;
        }
        let (vcpu, sc) = (Slot::new(), Slot::new());
        let args =
            EcArgs { utcb_page: crate::scene::utcb_page(), cpu: cpu(), evt: base, guest: true, ..EcArgs::default() };
        // SAFETY: the page is new, and used for nothing else.
        done("create_ec", unsafe { hc::create_ec(vcpu.0, pd, args) })?;
        start(vcpu.0, sc.0, 1)?;
        Ok((Vm { vcpu, started, log, _rest: (sc, events) }, gst))
    }

    /// Numbers of its events so far.
    pub fn events(&self) -> Vec<u64> {
        self.log.lock().expect("log").iter().map(|e| e.0).collect()
    }
}

pub fn vcpu() -> Outcome {
    needs_guests()?;
    let d = Domain::new(Desk::new())?;
    let (vm, space) = Vm::new(Some(&d))?;
    holds("the guest runs", vm.started.down_until(in_ms(5000)))?;
    sleep_ms(5);
    done("recall", hc::ctrl_ec(vm.vcpu.0, true))?;
    sleep_ms(20);
    let before = vm.events();
    equal("its events", before.clone(), vec![event::GST_STARTUP, event::GST_RECALL])?;
    d.destroy()?;
    refused("recall", hc::ctrl_ec(vm.vcpu.0, false), Status::BadCap)?;
    refused("its guest space", destroy(space.0), Status::BadCap)?;
    sleep_ms(20);
    equal("its events", vm.events(), before)
}

/// Reads where nothing is.
extern "C" fn faults(_: u64) -> ! {
    loop {
        // SAFETY: the exception is the purpose.
        unsafe { std::arch::asm!("mov rax, [0x100]", out("rax") _) };
    }
}

pub fn event() -> Outcome {
    let (came, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (c, a) = (came.clone(), answer.clone());
    let handler = move |_, _: &mut ArchState| {
        c.up();
        a.down();
        Mtd::empty()
    };
    let events = Events::new(16, Mtd::RIP, Some(Box::new(handler)))?;
    let d = Domain::new(Desk::new())?;
    let (_ec, _sc) = d.thread_with(cpu(), faults, 0, &[(14, events.base + 14)])?;
    holds("#PF", came.down_until(in_ms(2000)))?;
    d.destroy()?;
    answer.up();
    // The handler finishes for nobody when it is needed again, by another thread's fault.
    let e = Domain::new(Desk::new())?;
    let (_ec, _sc) = e.thread_with(cpu(), faults, 0, &[(14, events.base + 14)])?;
    holds("#PF of another", came.down_until(in_ms(2000)))?;
    e.destroy()?;
    answer.up();
    sleep_ms(30);
    holds("it is done with that, too", !came.down_until(1))
}

/// Destroys what is at the selector that came as identifier.
extern "C" fn destroys(pid: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: what this thread has left is the purpose; the own UTCB.
    unsafe { u.write_volatile(hc::destroy(pid).err().map_or(0, |s| s as u64)) };
    // One word.
    0
}

/// Destroys what is in FREE.
extern "C" fn destroys_free(desk: u64) -> ! {
    // SAFETY: as above.
    let _ = unsafe { hc::destroy(inside::FREE) };
    counts(desk)
}

pub fn oneself() -> Outcome {
    for target in [inside::PD, inside::HST, inside::FREE] {
        returns(|| {
            let d = Domain::new(Desk::new())?;
            let (ec, pt) = d.local(cpu(), destroys, target)?;
            d.give(ec.0, inside::FREE, perm::ALL)?;
            refused("call", call(pt.0, &[], false), Status::Aborted)?;
            d.destroy().or_else(|e| if target == inside::PD { Ok(()) } else { Err(e) })
        })?;
    }
    let d = Domain::new(Desk::new())?;
    let (_ec, pt) = d.local(cpu(), destroys, inside::OBJ)?;
    equal("of its object space", call(pt.0, &[], false), Ok(vec![0]))?;
    // A thread: itself, its SC.
    let desk = Desk::new();
    for sc_too in [false, true] {
        let d = Domain::new(desk)?;
        let (ec, sc) = d.unstarted(cpu(), destroys_free)?;
        d.give(ec.0, inside::FREE, perm::ALL)?;
        if sc_too {
            // Its SC is there when it is started only, so another thread destroys it.
            let (_other, other) = d.local(cpu(), destroys, inside::FREE + 1)?;
            d.give(other.0, inside::FREE, 0)?;
            start(ec.0, sc.0, 1)?;
            d.give(sc.0, inside::FREE + 1, perm::ALL)?;
            equal("of an SC", call(other.0, &[], false), Ok(vec![0]))?;
        } else {
            start(ec.0, sc.0, 1)?;
        }
        holds("it runs no more", !desk.moves(0, 20))?;
    }
    Ok(())
}

pub fn large() -> Outcome {
    let before = own_level()?;
    let d = Domain::new(Desk::new())?;
    // Many slots, far apart.
    let sm = Slot::sm(0)?;
    for i in 1..60 {
        d.give(sm.0, i << 9, perm::ALL)?;
    }
    let pd = d.pd.0;
    // Somebody else destroys it and is destroyed meanwhile: it is brought to its end all the same.
    let killer = Domain::new(Desk::new())?;
    killer.give(pd, inside::FREE, perm::ALL)?;
    let last = cpus().last().copied().unwrap_or(0);
    let thread = killer.thread(last, destroys_free, 0)?;
    let begin = in_ms(2000);
    while hc::move_quota(pd, pd, 1).is_ok() && rt::time::tsc() < begin {}
    killer.destroy()?;
    refused("the PD", hc::read_quota(pd), Status::BadCap)?;
    drop((thread, d, killer, sm));
    returns_to(before)
}

fn returns_to(before: (u64, u64)) -> Outcome {
    let end = in_ms(3000);
    while own_level()?.0 != before.0 && rt::time::tsc() < end {
        sleep_ms(1);
    }
    equal("limit of kernel memory", own_level()?.0, before.0)
}
