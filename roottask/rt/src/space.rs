//! Delegation of ranges of any length: splits them into `ctrl_pd` calls.

use crate::hypercall;
use abi::{Mad, Sel, Status};

/// Delegates `count` capabilities from `from` in space `src` to `to` in space `dst`.
///
/// # Safety
/// As [`hypercall::ctrl_pd`].
pub unsafe fn delegate(src: Sel, dst: Sel, from: u64, to: u64, count: u64, pmm: u8, mad: Mad) -> Result<(), Status> {
    for p in rtlogic::orders(from, to, count) {
        // SAFETY: passed on to the caller.
        unsafe { hypercall::ctrl_pd(src, dst, p.src, p.dst, p.order, pmm, mad)? };
    }
    Ok(())
}

/// Nulls `count` slots from `first` in the own object space.
pub fn revoke(obj: Sel, first: Sel, count: u64) -> Result<(), Status> {
    // SAFETY: the object space holds no memory.
    unsafe { delegate(obj, obj, first, first, count, 0, Mad::WB) }
}
