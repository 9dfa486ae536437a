//! Events: exceptions, VM exits, startup and recall become messages to the portals of the affected EC (spec 8.6).

use crate::arch::guest;
use crate::arch::trap::Frame;
use crate::complain;
use crate::object::ec::{Cont, Ec, EcKind};
use crate::object::pt::Pt;
use crate::schedule::Next;
use crate::{arch::cpu::cpu, trace};
use abi::{ArchState, Mtd, perm};
use ipc::Way;

/// Delivers event `n` of `ec`, which waits for the reply in the way that `ec.ipc.expect` says.
pub fn raise(ec: &'static Ec, n: u16) -> Next {
    let sel = ec.evt.wrapping_add(n as u64);
    let Some(pt) = ec.obj.find::<Pt>(sel, perm::Pt::EVENT.bits()) else { return kill_for(ec, n, "has no portal") };
    let handler = pt.ec.found();
    if handler.home() != ec.home() || handler.ipc.dead() {
        return kill_for(ec, n, "has a portal whose handler is dead or on another CPU");
    }
    match ipc::way(ec, handler) {
        Way::Free => {}
        Way::Busy(end) => {
            ec.ipc.event.set(n);
            ec.ipc.cont.set(Cont::Event);
            return Next::Run(end);
        }
        Way::Circle | Way::Dead => return kill_for(ec, n, "would wait for itself"),
    }
    let mtd = pt.mtd();
    if let Some(u) = handler.utcb() {
        save(ec, mtd, u.arch_mut());
    }
    trace!(EVENT, Some(ec), n.into(), trace::name(handler).into());
    enter(ec, pt, mtd.bits().into())
}

/// Lets `caller` wait and its portal's EC run with the message that it has got.
pub fn enter(caller: &'static Ec, pt: &Pt, mtd: u64) -> Next {
    let h = pt.ec.found();
    prepare(h, pt, mtd);
    ipc::enter(caller, h, pt.key())
}

/// The registers of `h` when it is entered by that portal.
pub fn prepare(h: &Ec, pt: &Pt, mtd: u64) {
    let f = h.regs();
    f.set_rdi(pt.pid());
    f.set_rsi(mtd);
    f.set_rip(pt.ip);
    // A reply on the fast path has left those of the last trap.
    f.set_rflags(0);
}

/// The handler's answer to an event: changes the state as `mtd` says and lets the EC go on.
pub fn answer(ec: &'static Ec, how: Cont, mtd: Mtd, state: &ArchState, handler: &Ec) -> Next {
    if mtd.contains(Mtd::POISON) {
        ipc::refuse(ec);
        return cpu().ipc.next();
    }
    load(ec, mtd, state, handler);
    ipc::resume(ec, how)
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

/// The same of a host EC.
#[inline]
pub fn save_host(ec: &Ec, mtd: Mtd, s: &mut ArchState) {
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

/// The same of a host EC.
#[inline]
pub fn load_host(ec: &Ec, mtd: Mtd, s: &ArchState) {
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
    ipc::end(ec);
    cpu().ipc.next()
}
