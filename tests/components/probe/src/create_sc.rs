//! docs/spec/create_sc.md, as far as it shows without the permission: components have no PD capability with SC.

use crate::check::{Check, Outcome, done, holds, refused};
use crate::own::start;
use crate::scene::{Slot, cpu, utcb_page};
use abi::{Scd, Status};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};

pub const CHECKS: &[Check] = &[
    ("create_sc-2 create_sc-9", "BAD_CAP: no SC permission, owner is no PD, slot not null", bad_cap),
    ("", "BAD_CAP: a local thread (asked of the parent)", local),
    ("", "ABORTED: an EC that has an SC already (asked of the parent)", twice),
];

const SCD: Scd = Scd { cos: 0, prio: 1, budget_ms: 10 };

fn bad_cap() -> Outcome {
    let (s, sm) = (Slot::new(), Slot::sm(0)?);
    refused("own PD", hc::create_sc(s.0, sel::PD, sel::EC, SCD), Status::BadCap)?;
    refused("owner a semaphore", hc::create_sc(s.0, sm.0, sel::EC, SCD), Status::BadCap)?;
    refused("slot not null", hc::create_sc(sm.0, sel::PD, sel::EC, SCD), Status::BadCap)
}

fn local() -> Outcome {
    let (ec, sc) = (Slot::new(), Slot::new());
    let a = EcArgs { utcb_page: utcb_page(), cpu: cpu(), ..EcArgs::default() };
    // SAFETY: a fresh page, and it never runs.
    done("create_ec", unsafe { hc::create_ec(ec.0, sel::PD, a) })?;
    holds("the parent cannot give it an SC", start(ec.0, sc.0, 0).is_err())
}

fn twice() -> Outcome {
    let sc = Slot::new();
    holds("the parent cannot give our first thread another SC", start(sel::EC, sc.0, 0).is_err())
}
