//! docs/spec/spaces.md: what slots a component can name, and ports it was not given.

use crate::check::{Check, Outcome, done, equal, refused};
use crate::scene::{Slot, copy};
use abi::{CreatePdOp, Mad, Status, perm};
use parent::sel;
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    ("readme-1 spaces-1", "a selector at or above SEL_NUM is a null capability", beyond),
    ("spaces-8", "the highest selector is usable", highest),
    ("spaces-28", "own PD has no SC permission", no_sc),
    ("spaces-1 ctrl_pd-2", "an object space of another PD holds what is put there", other_space),
];

fn beyond() -> Outcome {
    for s in [abi::SEL_NUM, abi::SEL_NUM + sel::PD, 1 << 32 | sel::PD, (1 << 56) - 1] {
        refused(&format!("up of {s:#x}"), hc::sm_up(s), Status::BadCap)?;
        refused(&format!("create_sm for PD {s:#x}"), hc::create_sm(Slot::new().0, s, 0), Status::BadCap)?;
    }
    Ok(())
}

fn highest() -> Outcome {
    let top = abi::SEL_NUM - 1;
    done("create_sm", hc::create_sm(top, sel::PD, 0))?;
    let r = hc::sm_up(top);
    done("revoke", copy(top, top, 0))?;
    equal("up", r, Ok(()))?;
    refused("up after it was revoked", hc::sm_up(top), Status::BadCap)
}

fn no_sc() -> Outcome {
    let scd = abi::Scd { cos: 0, prio: 1, budget_ms: 1 };
    refused("create_sc", hc::create_sc(Slot::new().0, sel::PD, sel::EC, scd), Status::BadCap)
}

fn other_space() -> Outcome {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let obj = Slot::pd(CreatePdOp::Obj, pd.0)?;
    let (sm, back) = (Slot::sm(1)?, Slot::new());
    // SAFETY: object spaces hold no memory.
    unsafe {
        done("there", hc::ctrl_pd(sel::OBJ, obj.0, sm.0, 77, 0, perm::Sm::CTRL_DN.bits(), Mad::WB))?;
        drop(sm);
        done("back", hc::ctrl_pd(obj.0, sel::OBJ, 77, back.0, 0, perm::ALL, Mad::WB))?;
    }
    refused("up", hc::sm_up(back.0), Status::BadCap)?;
    done("down", hc::sm_down(back.0, false, Some(1)))
}
