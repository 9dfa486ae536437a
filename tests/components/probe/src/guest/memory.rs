//! What `ctrl_pd` refuses of guest spaces.

use super::*;

pub fn bad_cap() -> Outcome {
    let space = done("guest space", GuestSpace::new())?;
    let weak = Slot::masked(space.sel(), perm::Space::ASSIGN.bits())?;
    for (what, src, dst) in [
        ("guest space to itself", space.sel(), space.sel()),
        ("guest space to host space", space.sel(), sel::HST),
        ("host space to guest space without GRANT", sel::HST, weak.0),
        ("object space to guest space", sel::OBJ, space.sel()),
    ] {
        // SAFETY: refused.
        refused(what, unsafe { hc::ctrl_pd(src, dst, 0, 0, 0, 0, abi::Mad::WB) }, Status::BadCap)?;
    }
    Ok(())
}

pub fn bad_par() -> Outcome {
    let space = done("guest space", GuestSpace::new())?;
    // SAFETY: a guest space, and nothing runs in it.
    let grant = |ssb, dsb, ord| unsafe { hc::ctrl_pd(sel::HST, space.sel(), ssb, dsb, ord, perm::ALL, abi::Mad::WB) };
    let (own, end) = (page() / PAGE, 1 << 36);
    done("last page", grant(own, end - 1, 0))?;
    refused("beyond", grant(own, end, 0), Status::BadPar)?;
    refused("misaligned destination", grant(0, 1, 1), Status::BadPar)?;
    refused("misaligned source", grant(1, 0, 1), Status::BadPar)?;
    done("order 31, nothing there", grant(1 << 34, 1 << 34, 31))
}
