//! Hypercalls: the table, and the only place that turns a result into registers.

pub mod assign;
pub mod create;
pub mod ctrl;
pub mod destroy;
pub mod ext;
pub mod ipc;
pub mod quota;
pub mod state;
pub mod trace;
pub mod transfer;

use crate::arch::{cpu::cpu, fast};
use crate::mem::refs::{self, Kept};
use crate::object::ec::{Cont, Ec};
use crate::object::sm;
use crate::schedule::{self, Next};
use abi::{Hypercall, Status};

/// What a hypercall other than IPC comes to.
pub type Outcome = Result<Done, Status>;

/// Success of a hypercall.
pub enum Done {
    /// It is complete.
    Now,
    /// The caller blocks; its status is set when it is released.
    Blocked,
    /// So much of it is done; the rest follows when pending interrupts were taken.
    Part(u64),
    /// There is more to do elsewhere: it is called again when pending interrupts were taken.
    Again,
}

/// Hypercall entry. The caller's registers are in its frame.
pub extern "C" fn hypercall() -> ! {
    let ec = begin();
    crate::trace!(HYPERCALL, Some(ec), ec.regs().rdi(), ec.regs().rsi());
    match dispatch(ec) {
        Next::Run(same) if core::ptr::eq(same, ec) => schedule::go_back(ec),
        next => schedule::go(next),
    }
}

/// The same for an operation on a semaphore that concerns others: nothing is to be destroyed, and it has no parts.
pub extern "C" fn ctrl_sm() -> ! {
    let ec = begin();
    match ctrl::ctrl_sm(ec) {
        Err(s) => ec.set_status(s),
        Ok(Done::Blocked) => {}
        Ok(_) => ec.set_status(Status::Success),
    }
    schedule::go(Next::Run(ec))
}

/// The same for an up that releases `woken`, which is in no queue any more, and does not run at once.
pub extern "C" fn released(woken: &'static Ec) -> ! {
    let ec = begin();
    ec.set_status(Status::Success);
    sm::release(woken, Status::Success);
    schedule::go(Next::Run(ec))
}

/// Makes up for what the fast path and the quick ones leave out.
fn begin() -> &'static Ec {
    let Some(ec) = cpu().ec.get() else { panic!("hypercall from nowhere") };
    fast::arrive(ec);
    ec.ipc.cont.set(Cont::Sysret);
    ec
}

fn dispatch(ec: &'static Ec) -> Next {
    let call = Hypercall::from_number(ec.regs().rdi() as u8 & 0xf);
    match call {
        Some(Hypercall::IpcCall) => return ipc::ipc_call(ec),
        Some(Hypercall::IpcReply) => return ipc::ipc_reply(ec),
        _ if ec.settling.get() && refs::chores_left() => {
            wait_for_destruction(ec);
            return again(ec);
        }
        _ => {}
    }
    let chores = !ec.settling.take() && refs::chores_left();
    let outcome = perform(ec, call);
    if chores && matches!(outcome, Err(Status::MemObj | Status::MemCap)) {
        // Once more, when what is to be destroyed is free; what the call has done it may do again.
        ec.settling.set(true);
        return again(ec);
    }
    match outcome {
        Ok(Done::Blocked) => return Next::Run(ec),
        Ok(Done::Part(n)) => {
            ec.progress.set(n);
            return later(ec);
        }
        Ok(Done::Again) => return again(ec),
        Ok(Done::Now) => ec.set_status(Status::Success),
        Err(s) => ec.set_status(s),
    }
    ec.progress.set(0);
    ec.restarts.set(0);
    Next::Run(ec)
}

/// Goes on with the hypercall later, unless the caller was ended by it.
fn again(ec: &'static Ec) -> Next {
    if ec.ipc.dead() {
        return Next::Run(ec);
    }
    ec.restarts.set(ec.restarts.get().saturating_add(1));
    later(ec)
}

/// Lets interrupts in before the hypercall goes on.
fn later(ec: &'static Ec) -> Next {
    ec.ipc.cont.set(Cont::Restart);
    schedule::preemption_point();
    Next::Run(ec)
}

/// Goes on with a hypercall of which a part is done. All that it names is looked for again.
pub fn restart(ec: &'static Ec) -> Next {
    ec.ipc.cont.set(Cont::Sysret);
    dispatch(ec)
}

/// A portion of what is to be destroyed, for a hypercall that waits for that. `false`: nothing is. The caller may be ended
/// by it.
fn wait_for_destruction(ec: &'static Ec) -> bool {
    // If nothing refers to it any more it goes on with nothing.
    let Some(_held) = Kept::new(ec) else { return true };
    refs::work()
}

fn perform(ec: &'static Ec, call: Option<Hypercall>) -> Outcome {
    match call {
        Some(Hypercall::CreatePd) => create::create_pd(ec),
        Some(Hypercall::CreateEc) => create::create_ec(ec),
        Some(Hypercall::CreateSc) => create::create_sc(ec),
        Some(Hypercall::CreatePt) => create::create_pt(ec),
        Some(Hypercall::CreateSm) => create::create_sm(ec),
        Some(Hypercall::CtrlPd) => ctrl::ctrl_pd(ec),
        Some(Hypercall::CtrlEc) => ctrl::ctrl_ec(ec),
        Some(Hypercall::CtrlSc) => ctrl::ctrl_sc(ec),
        Some(Hypercall::CtrlPt) => ctrl::ctrl_pt(ec),
        Some(Hypercall::CtrlSm) => ctrl::ctrl_sm(ec),
        Some(Hypercall::CtrlHw) => ctrl::ctrl_hw(ec),
        Some(Hypercall::AssignInt) => assign::assign_int(ec),
        Some(Hypercall::AssignDev) => assign::assign_dev(ec),
        None => ext::perform(ec),
        Some(Hypercall::IpcCall | Hypercall::IpcReply) => Err(Status::BadHyp),
    }
}

/// Selector or descriptor in the first register.
fn selector(ec: &Ec) -> u64 {
    ec.regs().rdi() >> 8
}

/// Flags in the first register.
fn flags(ec: &Ec) -> u8 {
    (ec.regs().rdi() >> 4) as u8 & 0xf
}
