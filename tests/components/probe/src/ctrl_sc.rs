//! docs/spec/ctrl_sc.md.

use crate::check::{Check, Outcome, done, holds, refused};
use crate::scene::{Slot, in_ms, ms, spin_ms};
use abi::Status;
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    ("ctrl_sc-4 ctrl_sc-6 objects-38", "consumed time grows with time spent, and not while waiting", grows),
    ("ctrl_sc-1 ctrl_sc-5", "BAD_CAP: null, wrong type", bad_cap),
];

fn consumed() -> Result<u64, String> {
    done("ctrl_sc", hc::ctrl_sc(sel::SC))
}

fn grows() -> Outcome {
    let (t0, a) = (rt::time::tsc(), consumed()?);
    spin_ms(20);
    let (b, t1) = (consumed()?, rt::time::tsc());
    holds(&format!("20 ms spent: {} <= {} <= {}", ms(15), b - a, t1 - t0), (ms(15)..=t1 - t0).contains(&(b - a)))?;
    Semaphore::new(0).down_until(in_ms(100));
    let c = consumed()?;
    // Generous: the emulator shares its machine with others.
    holds(&format!("100 ms waited: {} consumed", c - b), c - b < ms(50))
}

fn bad_cap() -> Outcome {
    for (what, s) in [("null", Slot::new().0), ("SEL_NUM", abi::SEL_NUM), ("EC", sel::EC), ("PD", sel::PD)] {
        refused(what, hc::ctrl_sc(s), Status::BadCap)?;
    }
    Ok(())
}
