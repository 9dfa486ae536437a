//! What a root task has: the root protection domain, and no parent.

use crate::check::done;
use abi::{Scd, Sel};
use rt::hypercall as hc;

/// Selectors, by the names that components use.
pub mod sel {
    use abi::{Sel, root_obj};

    /// Protection domain.
    pub const PD: Sel = root_obj::ROOT_PD;
    /// Object space.
    pub const OBJ: Sel = root_obj::ROOT_OBJ;
    /// Host space.
    pub const HST: Sel = rt::root::HST;
}

/// Gives an EC a scheduling context below all threads of the runtime.
pub fn start(ec: Sel, sc: Sel, lower: u64) -> Result<(), String> {
    let scd = Scd { cos: 0, prio: 100 - lower.min(99) as u8, budget_ms: 10 };
    done("create_sc", hc::create_sc(sc, sel::PD, ec, scd))
}
