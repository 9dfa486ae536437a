//! `get_state` and `set_state` (docs/design/0010, X5).

use super::{Done, Outcome, selector};
use crate::arch::fast;
use crate::event;
use crate::object::ec::Ec;
use abi::{Mtd, Status, perm};
use core::sync::atomic::Ordering::Relaxed;

/// Names an EC whose state lies still: it is on this CPU, where only the caller runs, and is not the caller.
fn find(ec: &'static Ec) -> Result<(&'static Ec, Mtd), Status> {
    let target = ec.obj.find::<Ec>(selector(ec), perm::Ec::CTRL.bits()).ok_or(Status::BadCap)?;
    match () {
        _ if target.home() != ec.home() => Err(Status::BadCpu),
        _ if core::ptr::eq(target, ec) => Err(Status::BadPar),
        _ if target.ipc.dead() => Err(Status::Aborted),
        _ => Ok((target, Mtd::from_bits_truncate(ec.regs().rsi() as u32))),
    }
}

/// Reads groups of an EC's state into the caller's UTCB.
pub fn get_state(ec: &'static Ec) -> Outcome {
    let (target, mtd) = find(ec)?;
    if let Some(u) = ec.utcb() {
        event::save(target, mtd, u.arch_mut());
    }
    Ok(Done::Now)
}

/// Writes groups of an EC's state from the caller's UTCB.
pub fn set_state(ec: &'static Ec) -> Outcome {
    let (target, mtd) = find(ec)?;
    if let Some(u) = ec.utcb() {
        let call = target.regs().call();
        // It goes on with all of this, and not only with what a reply at once would load.
        target.ipc.tag.fit.store(fast::UNFIT, Relaxed);
        event::load(target, mtd, u.arch(), ec);
        if target.regs().call() != call {
            // A hypercall of which a part is done is another one now.
            target.start_over();
        }
    }
    Ok(Done::Now)
}
