//! What a component that has no route for guests does not get. Only when asked for: all other checks take one.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Slot, cpu};
use abi::{CreatePdOp, Status};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};
use rt::vm::{Guest, Vcpu};

pub const CHECKS: &[Check] = &[
    ("", "BAD_CAP: neither domains nor spaces of the own PD", spaces),
    ("", "BAD_CAP: no ECs of the own PD, by hand; threads by the parent", threads),
    ("", "BAD_CAP: no virtual CPUs by the parent, and no session", guests),
];

fn spaces() -> Outcome {
    for op in [CreatePdOp::Pd, CreatePdOp::Gst, CreatePdOp::Pio, CreatePdOp::Msr] {
        refused(&format!("{op:?}"), hc::create_pd(op, Slot::new().0, sel::PD), Status::BadCap)?;
    }
    Ok(())
}

fn threads() -> Outcome {
    for guest in [false, true] {
        let args = EcArgs { cpu: cpu(), guest, ..EcArgs::default() };
        // SAFETY: refused.
        refused("by hand", unsafe { hc::create_ec(Slot::new().0, sel::PD, args) }, Status::BadCap)?;
    }
    equal("a thread", std::thread::spawn(|| 7).join().ok(), Some(7))?;
    done("a thread for portals", rt::PortalThread::new(cpu(), 16 << 10, Box::new(|_, _, _| 0)).map(drop))
}

fn guests() -> Outcome {
    refused("a virtual CPU", Vcpu::new(cpu(), 0), Status::BadCap)?;
    holds("no session", Guest::open().is_err())
}
