//! `move_quota` and `read_quota` (docs/design/0010, X2).

use super::{Done, Outcome, selector, wait_for_destruction};
use crate::object::{ec::Ec, pd::Pd};
use abi::{Sel, Status, perm};

/// A number of frames; more than there can be is as good as the most.
pub fn frames(register: u64) -> Result<u32, Status> {
    if register == 0 { Err(Status::BadPar) } else { Ok(u32::try_from(register).unwrap_or(u32::MAX)) }
}

fn find(ec: &'static Ec, sel: Sel) -> Result<&'static Pd, Status> {
    ec.obj.find::<Pd>(sel, perm::Pd::PD.bits()).ok_or(Status::BadCap)
}

/// Moves unused frames from the account of one PD to that of another.
pub fn move_quota(ec: &'static Ec) -> Outcome {
    let frames = frames(ec.regs().rdx())?;
    let (from, to) = (find(ec, selector(ec))?, find(ec, ec.regs().rsi())?);
    if !from.founder || !to.founder {
        return Err(Status::Aborted);
    }
    if from.account().transfer(to.account(), frames) { Ok(Done::Now) } else { Err(Status::MemObj) }
}

/// So often at most `read_quota` waits: others may go on creating and destroying.
const PATIENCE: u32 = 1000;

/// Limit and use of the account that a PD's objects are charged to.
pub fn read_quota(ec: &'static Ec) -> Outcome {
    // What nothing refers to any more does not count, nor does it on other CPUs when they have been in the kernel.
    if ec.restarts.get() < PATIENCE && wait_for_destruction(ec) {
        return Ok(Done::Again);
    }
    let (limit, used) = find(ec, selector(ec))?.account().read();
    ec.regs().set_rsi(limit.into());
    ec.regs().set_rdx(used.into());
    Ok(Done::Now)
}

/// Makes an allocation fail. In a kernel for tests anybody may: what is tested is what a component sees.
#[cfg(feature = "inject")]
pub fn inject(ec: &'static Ec) -> Outcome {
    crate::mem::inject::set(selector(ec));
    Ok(Done::Now)
}
