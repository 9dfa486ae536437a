//! Hypercall 0xf: the extensions (docs/design/0010), each behind a bit of the information page.

use super::{Outcome, flags};
use crate::object::ec::Ec;
use abi::{ExtFeatures, ExtOp, Status};

/// The extensions that are there.
pub const FEATURES: ExtFeatures = ExtFeatures::empty();

/// Performs the operation that the flags name.
pub fn perform(ec: &'static Ec) -> Outcome {
    let op = ExtOp::from_flags(flags(ec)).ok_or(Status::BadHyp)?;
    if !FEATURES.contains(op.feature()) {
        return Err(Status::BadHyp);
    }
    Err(Status::BadHyp)
}
