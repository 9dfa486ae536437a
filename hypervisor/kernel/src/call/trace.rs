//! `ctrl_trace` (docs/design/0010, X6).

use super::{Done, Outcome, selector};
use crate::object::ec::Ec;
use crate::{boot, trace};
use abi::{Status, TraceKinds};

/// Chooses what is traced on all CPUs.
pub fn ctrl_trace(ec: &'static Ec) -> Outcome {
    if !boot::is_root(ec) {
        return Err(Status::BadHyp);
    }
    trace::choose(TraceKinds::from_bits_truncate(selector(ec) as u16));
    Ok(Done::Now)
}
