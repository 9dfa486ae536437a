//! Hypercall 0xf: the extensions (docs/design/0010), each behind a bit of the information page.

use super::{Outcome, destroy, flags, quota, state, trace, transfer};
use crate::object::ec::Ec;
use abi::{ExtFeatures, ExtOp, Status};

/// The extensions that are there.
pub const FEATURES: ExtFeatures = ExtFeatures::TRANSFER
    .union(ExtFeatures::QUOTA)
    .union(ExtFeatures::DESTROY)
    .union(ExtFeatures::REGISTERS)
    .union(ExtFeatures::STATE)
    .union(ExtFeatures::TRACE)
    .union(ExtFeatures::BOUND)
    .union(TESTS);
const TESTS: ExtFeatures = if cfg!(feature = "inject") { ExtFeatures::INJECT } else { ExtFeatures::empty() };

/// The kernel tries to break its own rules.
#[cfg(feature = "inject")]
fn attempt(ec: &'static Ec) -> Outcome {
    let what = abi::Attempt::ALL.get(super::selector(ec) as usize).ok_or(Status::BadPar)?;
    let (rsi, rdx) = crate::arch::attempt::attempt(*what, ec.regs().rsi());
    ec.regs().set_rsi(rsi);
    ec.regs().set_rdx(rdx);
    Ok(super::Done::Now)
}

/// Performs the operation that the flags name.
pub fn perform(ec: &'static Ec) -> Outcome {
    let op = ExtOp::from_flags(flags(ec)).ok_or(Status::BadHyp)?;
    if !FEATURES.contains(op.feature()) {
        return Err(Status::BadHyp);
    }
    match op {
        ExtOp::Destroy => destroy::destroy(ec),
        ExtOp::MoveQuota => quota::move_quota(ec),
        ExtOp::ReadQuota => quota::read_quota(ec),
        ExtOp::SetWindow => transfer::set_window(ec),
        ExtOp::GetState => state::get_state(ec),
        ExtOp::SetState => state::set_state(ec),
        ExtOp::CtrlTrace => trace::ctrl_trace(ec),
        #[cfg(feature = "inject")]
        ExtOp::Inject => quota::inject(ec),
        #[cfg(feature = "inject")]
        ExtOp::Attempt => attempt(ec),
        _ => Err(Status::BadHyp),
    }
}
