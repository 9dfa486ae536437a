//! `destroy` (docs/design/0010, X3): the end of an object, whoever has capabilities to it.
//!
//! What is to be done for that is done by whoever leaves the kernel, a portion each ([`refs::portion`]), and so also if
//! the caller is killed meanwhile; the caller only waits for the end of it.

use super::{Done, Outcome, selector, wait_for_destruction};
use crate::mem::refs::{self, AnyRef};
use crate::object::ec::{Ec, EcKind};
use crate::object::{obj, sc::Sc};
use abi::Status;

/// Destroys an object.
pub fn destroy(ec: &'static Ec) -> Outcome {
    let target = match ec.awaits.take() {
        Some(t) => t,
        None => doom(ec)?,
    };
    if !target.gone() {
        wait_for_destruction(ec);
    }
    if target.gone() || ec.ipc.dead() {
        return Ok(Done::Now);
    }
    ec.awaits.set(Some(target));
    Ok(Done::Again)
}

/// From here on no capability leads to it.
fn doom(ec: &'static Ec) -> Result<AnyRef, Status> {
    let cap = ec.obj.get(selector(ec));
    let needs = cap.kind().and_then(cap::Kind::perms_to_destroy).ok_or(Status::BadCap)?;
    // The kernel's own, which stands for idle time.
    let idle = obj::resolve::<Sc>(cap, 0).is_some_and(|s| s.ipc.ec.kind == EcKind::Idle);
    if cap.perms() & needs != needs || idle {
        return Err(Status::BadCap);
    }
    // SAFETY: the word was read in this kernel entry.
    unsafe { refs::doom(cap.address()) }.ok_or(Status::BadCap)
}
