//! docs/spec/create_sm.md.

use crate::check::{Check, Outcome, done, refused};
use crate::scene::Slot;
use abi::{Status, perm};
use parent::sel;
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    ("create_sm-3 create_sm-4 create_sm-5", "a new semaphore has its counter; CTRL_UP, CTRL_DN and no ASSIGN", fresh),
    (
        "create_sm-1 create_sm-2 create_sm-6",
        "BAD_CAP: slot not null, beyond SEL_NUM, owner is no PD, no SM permission",
        bad_cap,
    ),
];

fn fresh() -> Outcome {
    let s = Slot::sm(2)?;
    for _ in 0..2 {
        done("down", hc::sm_down(s.0, false, Some(1)))?;
    }
    refused("third down", hc::sm_down(s.0, false, Some(1)), Status::Timeout)?;
    done("up", hc::sm_up(s.0))?;
    refused("assign_int", hc::assign_int(s.0, 0, 0, 0), Status::BadCap)
}

fn bad_cap() -> Outcome {
    let (null, sm) = (Slot::new(), Slot::sm(0)?);
    let weak = Slot::masked(sel::PD, perm::ALL & !perm::Pd::SM.bits())?;
    refused("slot not null", hc::create_sm(sm.0, sel::PD, 0), Status::BadCap)?;
    refused("slot beyond SEL_NUM", hc::create_sm(abi::SEL_NUM, sel::PD, 0), Status::BadCap)?;
    refused("owner null", hc::create_sm(null.0, null.0, 0), Status::BadCap)?;
    refused("owner an EC", hc::create_sm(null.0, sel::EC, 0), Status::BadCap)?;
    refused("owner without SM", hc::create_sm(null.0, weak.0, 0), Status::BadCap)
}
