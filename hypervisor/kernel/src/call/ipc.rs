//! `ipc_call` and `ipc_reply` (spec 5.2).

use super::{flags, selector, transfer};
use crate::arch::fpu;
use crate::event;
use crate::object::ec::{Cont, Ec, EcKind, Expect};
use crate::object::pt::Pt;
use crate::schedule::Next;
use crate::trace;
use abi::{IN_REGISTERS, Mtd, REGISTER_MTD, Status, perm};
use core::sync::atomic::Ordering::Relaxed;
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
    let registers = flags(ec) & IN_REGISTERS != 0;
    if transfer::too_many(ec, registers) {
        return Err(Status::BadPar);
    }
    let pt = ec.obj.find::<Pt>(selector(ec), perm::Pt::CALL.bits()).ok_or(Status::BadCap)?;
    let callee = pt.ec.found();
    if callee.home() != ec.home() {
        // Whoever has a thread there can have that call.
        ec.regs().set_rsi(callee.home().into());
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
    let mtd = if registers { pass_registers(ec, callee, pt.registers.load(Relaxed)) } else { copy_message(ec, callee) };
    fpu::discard(ec);
    ec.ipc.expect.set(if registers { Expect::Registers } else { Expect::Words });
    trace!(CALL, Some(ec), pt.pid(), trace::name(callee).into());
    Ok(event::enter(ec, pt, mtd))
}

/// Copies a message; returns the descriptor that the receiver gets.
fn copy_message(from: &Ec, to: &Ec) -> u64 {
    let mtd = from.regs().rsi() as u32;
    let n = Mtd::word_count(mtd);
    if let (Some(a), Some(b)) = (from.utcb(), to.utcb()) {
        b.words[..n].copy_from_slice(&a.words[..n]);
    }
    transfer::items(from, to, mtd).into()
}

/// The same with a message in registers. Who does not want it there finds it in its UTCB.
fn pass_registers(from: &Ec, to: &Ec, wanted: bool) -> u64 {
    let words = from.regs().message();
    if wanted {
        to.regs().set_message(words);
        return REGISTER_MTD;
    }
    if let Some(u) = to.utcb() {
        u.words[..words.len()].copy_from_slice(&words);
    }
    words.len() as u64 - 1
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
        expected @ (Expect::Words | Expect::Registers) => {
            let mtd = match flags(ec) & IN_REGISTERS {
                0 => copy_message(ec, caller),
                _ => pass_registers(ec, caller, expected == Expect::Registers),
            };
            caller.set_status(Status::Success);
            caller.regs().set_rsi(mtd);
            ipc::resume(caller, Cont::Sysret)
        }
        Expect::State(how) => match ec.utcb() {
            Some(u) => event::answer(caller, how, Mtd::from_bits_truncate(mtd), u.arch(), ec),
            None => Next::Resched,
        },
    }
}
