//! `ipc_call` and `ipc_reply` (spec 5.2).

use super::{flags, selector, transfer};
use crate::arch::fpu;
use crate::event;
use crate::object::ec::{Cont, Ec, EcKind, Expect};
use crate::object::pt::Pt;
use crate::schedule::Next;
use crate::trace;
use abi::{Mtd, Status, perm};
use ipc::Way;

/// Flag T: do not wait for a busy callee.
const NO_WAIT: u8 = 1;

/// Calls a portal. Also the second try of a caller that found its callee busy: nothing has happened before.
pub fn ipc_call(ec: &'static Ec) -> Next {
    match try_call(ec) {
        Ok(next) => next,
        Err(s) => {
            ec.set_status(s);
            ipc::give_up(ec)
        }
    }
}

fn try_call(ec: &'static Ec) -> Result<Next, Status> {
    let mtd = ec.regs().rsi() as u32;
    if transfer::too_many(ec, mtd) {
        return Err(Status::BadPar);
    }
    let pt = ec.obj.find::<Pt>(selector(ec), perm::Pt::CALL.bits()).ok_or(Status::BadCap)?;
    let callee = pt.ec.found();
    if callee.home() != ec.home() {
        return Err(Status::BadCpu);
    }
    match ipc::way(ec, callee) {
        Way::Free => {}
        Way::Busy(_) | Way::Circle if flags(ec) & NO_WAIT != 0 => return Err(Status::Timeout),
        Way::Busy(end) => {
            ec.ipc.cont.set(Cont::Call);
            return Ok(Next::Run(end));
        }
        Way::Circle | Way::Dead => return Err(Status::Aborted),
    }
    let mtd = copy_message(ec, callee, mtd);
    fpu::discard(ec);
    ec.ipc.expect.set(Expect::Words);
    trace!(CALL, Some(ec), pt.pid(), trace::name(callee).into());
    Ok(event::enter(ec, pt, mtd))
}

/// Copies a message; returns the descriptor that the receiver gets.
fn copy_message(from: &Ec, to: &Ec, mtd: u32) -> u32 {
    let n = Mtd::word_count(mtd);
    if let (Some(a), Some(b)) = (from.utcb(), to.utcb()) {
        b.words[..n].copy_from_slice(&a.words[..n]);
    }
    transfer::items(from, to, mtd)
}

/// Replies to the caller, if there is one, and waits for the next message.
pub fn ipc_reply(ec: &'static Ec) -> Next {
    if ec.kind != EcKind::Local {
        // The specification is silent about threads: they have no caller and nothing can call them.
        ec.set_status(Status::BadHyp);
        return Next::Run(ec);
    }
    let mtd = ec.regs().rsi() as u32;
    fpu::discard(ec);
    let Some(caller) = ipc::reply(ec) else { return Next::Resched };
    trace!(REPLY, Some(ec), trace::name(caller).into(), mtd.into());
    match caller.ipc.expect.get() {
        Expect::Words => {
            let mtd = copy_message(ec, caller, mtd);
            caller.set_status(Status::Success);
            caller.regs().set_rsi(mtd as u64);
            ipc::resume(caller, Cont::Sysret)
        }
        Expect::State(how) => match ec.utcb() {
            Some(u) => event::answer(caller, how, Mtd::from_bits_truncate(mtd), u.arch(), ec),
            None => Next::Resched,
        },
    }
}
