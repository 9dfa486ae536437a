//! Events: exceptions, VM exits, startup and recall become messages to the portals of the affected EC (spec 8.6).

use crate::arch::guest;
use crate::arch::trap::Frame;
use crate::complain;
use crate::mem::refs::Ref;
use crate::object::ec::{Cont, Ec, EcKind, Expect, Resume};
use crate::object::pt::Pt;
use crate::schedule::{self, Next};
use crate::{arch::cpu::cpu, arch::fpu, trace};
use abi::{ArchState, Mtd, Status, perm};

/// Delivers event `n` of `ec`, which waits for the reply in the way that `ec.expect` says.
pub fn raise(ec: &'static Ec, n: u16) -> Next {
    let sel = ec.evt.wrapping_add(n as u64);
    let Some(pt) = ec.obj.find::<Pt>(sel, perm::Pt::EVENT.bits()) else { return kill_for(ec, n, "has no portal") };
    let handler = pt.ec.found();
    if handler.cpu != ec.cpu || handler.dead() {
        return kill_for(ec, n, "has a portal whose handler is dead or on another CPU");
    }
    if !handler.receiving() {
        ec.cont.set(Cont::Event(n));
        return help(ec, handler).unwrap_or_else(|| kill_for(ec, n, "would wait for itself"));
    }
    let mtd = pt.mtd();
    if let Some(u) = handler.utcb() {
        save(ec, mtd, u.arch_mut());
    }
    trace!(EVENT, Some(ec), n.into(), trace::name(handler).into());
    enter(ec, pt, mtd.bits())
}

/// Lets `caller` wait and its portal's EC run with the message that is in its UTCB.
pub fn enter(caller: &'static Ec, pt: &Pt, mtd: u32) -> Next {
    let h = pt.ec.found();
    h.caller.set(Some(Ref::from_found(caller)));
    h.entrance.set(pt);
    caller.callee.set(Some(pt.ec.clone()));
    caller.cont.set(Cont::Reply);
    h.chain.set(caller.chain.get());
    if let Some(sc) = h.chain.get() {
        schedule::moved(sc, h);
    }
    let f = h.regs();
    f.set_rdi(pt.pid());
    f.set_rsi(mtd as u64);
    f.set_rip(pt.ip);
    h.cont.set(Cont::Sysret);
    Next::Run(h)
}

/// Runs the chain that keeps `busy` busy on behalf of `ec`. `None`: that chain waits for `ec` itself.
pub fn help(ec: &'static Ec, busy: &'static Ec) -> Option<Next> {
    match busy.chain.get() {
        Some(theirs) if ec.chain.get().is_some_and(|ours| core::ptr::eq(theirs, ours)) => None,
        Some(theirs) => Some(Next::Run(theirs.leaf.get())),
        // Whoever it was busy for is gone, or has no SC: it goes on with the SC of whoever needs it.
        None => Some(busy.end_of_chain()).filter(|end| !core::ptr::eq(*end, ec)).map(Next::Run),
    }
}

/// `ec` has its reply; the message is in place. The current SC goes on with it if it is its own chain, else with
/// whatever its own chain was about to do.
pub fn resume(ec: &'static Ec, cont: Cont) -> Next {
    ec.callee.take();
    ec.cont.set(cont);
    let chain = ec.chain.get();
    if let Some(sc) = chain {
        schedule::moved(sc, ec);
    }
    match (chain, cpu().sc.get()) {
        (Some(a), Some(b)) if core::ptr::eq(a, b) => Next::Run(ec),
        (_, Some(payer)) => Next::Run(payer.leaf.get()),
        _ => Next::Pick,
    }
}

/// The handler's answer to an event: changes the state as `mtd` says and lets the EC go on.
pub fn answer(ec: &'static Ec, how: Resume, mtd: Mtd, state: &ArchState, handler: &Ec) -> Next {
    if mtd.contains(Mtd::POISON) {
        ec.callee.take();
        return kill(ec, "");
    }
    load(ec, mtd, state, handler);
    resume(
        ec,
        match how {
            Resume::Iret => Cont::Iret,
            Resume::Sysret => Cont::Sysret,
            Resume::Guest => Cont::Guest,
        },
    )
}

/// State of `ec`, which does not run, as `mtd` says.
pub fn save(ec: &Ec, mtd: Mtd, s: &mut ArchState) {
    match ec.vcpu.as_ref() {
        Some(v) => guest::save_state(v, mtd, s),
        None => save_host(ec, mtd, s),
    }
}

/// Changes the state of `ec`, which does not run, as `mtd` says. Selectors of spaces are those of `who` writes.
pub fn load(ec: &Ec, mtd: Mtd, s: &ArchState, who: &Ec) {
    match ec.vcpu.as_ref() {
        Some(v) => {
            if mtd.contains(Mtd::SPACES) {
                v.assign(&who.obj, s);
            }
            guest::load_state(v, mtd, s);
        }
        None => load_host(ec, mtd, s),
    }
}

const RSP: usize = ArchState::RSP;

fn save_host(ec: &Ec, mtd: Mtd, s: &mut ArchState) {
    let f: &Frame = ec.regs();
    let r = &f.regs;
    if mtd.contains(Mtd::GPR_0_7) {
        s.gpr[..8].copy_from_slice(&r.gpr[..8]);
        s.gpr[RSP] = r.rsp;
    }
    if mtd.contains(Mtd::GPR_8_15) {
        s.gpr[8..].copy_from_slice(&r.gpr[8..]);
    }
    if mtd.contains(Mtd::RFLAGS) {
        s.rflags = r.rflags;
    }
    if mtd.contains(Mtd::RIP) {
        s.rip = r.rip;
        s.inst_len = 0;
        s.inst_info = 0;
    }
    if mtd.contains(Mtd::QUAL) {
        s.qual = [r.error, f.cr2, 0];
    }
}

fn load_host(ec: &Ec, mtd: Mtd, s: &ArchState) {
    let f = ec.regs();
    if mtd.contains(Mtd::GPR_0_7) {
        f.regs.gpr[..8].copy_from_slice(&s.gpr[..8]);
        f.regs.rsp = s.gpr[RSP];
    }
    if mtd.contains(Mtd::GPR_8_15) {
        f.regs.gpr[8..].copy_from_slice(&s.gpr[8..]);
    }
    if mtd.contains(Mtd::RFLAGS) {
        f.set_rflags(s.rflags);
    }
    if mtd.contains(Mtd::RIP) {
        f.set_rip(s.rip);
    }
}

fn kill_for(ec: &'static Ec, n: u16, why: &str) -> Next {
    let f = ec.regs();
    match ec.kind {
        EcKind::Vcpu => complain!("vCPU with event base {:#x}: event {n:#x} {why}; killed", ec.evt),
        _ => complain!(
            "EC with event base {:#x}: event {n:#x} {why}; killed at {:#x} (error {:#x}, CR2 {:#x})",
            ec.evt,
            f.regs.rip,
            f.regs.error,
            f.cr2
        ),
    }
    kill(ec, "")
}

/// Kills `ec`, with a line on the console if there is a reason to name, and goes on with something else.
pub fn kill(ec: &'static Ec, why: &str) -> Next {
    if !why.is_empty() {
        complain!("EC with event base {:#x}: {why}; killed", ec.evt);
    }
    end(ec);
    match cpu().sc.get() {
        Some(payer) => Next::Run(payer.leaf.get()),
        None => Next::Pick,
    }
}

/// Ends `ec`, on its CPU, in whatever state it is. Whoever waits for its reply is aborted; that may end others in turn.
pub fn end(ec: &'static Ec) {
    let mut dying = Some(ec);
    while let Some(ec) = dying.filter(|e| !e.dead()) {
        if let Some(sm) = ec.blocked_on.take() {
            // If it is not there, another CPU has released it; what that sends is ignored.
            sm.forget(ec);
        }
        ec.unblock(Status::Aborted);
        ec.cont.set(Cont::Dead);
        fpu::discard(ec);
        ec.awaits.take();
        let own = ec.chain.take().filter(|s| s.ec.dead());
        let handler = ec.callee();
        if let Some(h) = handler {
            h.caller.take();
        }
        match (own, handler) {
            // Who works for it finishes that with its SC, and so holds no lock for ever; then the SC ends.
            (Some(_), Some(_)) => {}
            (Some(sc), None) => sc.finish(),
            (None, _) => {
                // The SC is the caller's. Whoever needs the handler next pays.
                ec.callee.take();
                if let Some(h) = handler {
                    h.pay(None);
                }
            }
        }
        dying = disappoint(ec);
    }
}

/// Who waits for the reply of `handler` gets none. Returns it if it cannot go on without.
fn disappoint(handler: &'static Ec) -> Option<&'static Ec> {
    let caller = handler.caller.take()?.found();
    // The link between the two is cut already.
    caller.callee.take();
    match caller.expect.get() {
        Expect::State(_) => Some(caller),
        Expect::Words => {
            caller.set_status(Status::Aborted);
            resume(caller, Cont::Sysret);
            None
        }
    }
}

/// A portal is destroyed, on the CPU of its EC: who is inside is aborted, and its EC goes on for nobody.
pub fn expel(pt: &Pt) {
    let handler = pt.ec.found();
    if !core::ptr::eq(handler.entrance.get(), pt) {
        return;
    }
    let dying = disappoint(handler);
    handler.pay(None);
    if let Some(ec) = dying {
        end(ec);
    }
}
