//! docs/spec/ctrl_hw.md, assign_int.md, assign_dev.md, ctrl_trace.md: what a component that is not the root task gets.

use crate::abi_page::status;
use crate::check::{Check, Outcome, refused};
use crate::scene::Slot;
use abi::{HwOp, Hypercall, Status};
use parent::sel;
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    ("ctrl_hw-5 ctrl_hw-10", "ctrl_hw: BAD_HYP", hw),
    ("assign_int-5 assign_int-12 spaces-27", "assign_int: BAD_CAP for an ordinary semaphore, null, another type", int),
    ("", "assign_int: BAD_CPU", int_cpu),
    ("ctrl_trace-2", "ctrl_trace: BAD_HYP, whatever the kinds", trace),
    ("assign_dev-1", "assign_dev: BAD_HYP", dev),
];

fn hw() -> Outcome {
    for op in 0..16 {
        refused(&format!("OP {op}"), hc::ctrl_hw(op, 0), Status::BadHyp)?;
    }
    refused("reset", hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(HwOp::RESET, 0, 0)), Status::BadHyp)?;
    refused("soft off", hc::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(5, 0, 0)), Status::BadHyp)
}

fn int() -> Outcome {
    let s = Slot::sm(0)?;
    for (what, sel) in [("semaphore", s.0), ("null", Slot::new().0), ("SEL_NUM", abi::SEL_NUM), ("PD", sel::PD)] {
        for flags in 0..16 {
            refused(what, hc::assign_int(sel, 0, 0, flags), Status::BadCap)?;
        }
    }
    Ok(())
}

fn int_cpu() -> Outcome {
    // A cause of BAD_CAP as well: either may be reported.
    match hc::assign_int(Slot::sm(0)?.0, 0xffff, 0, 0) {
        Err(Status::BadCpu | Status::BadCap) => Ok(()),
        other => Err(format!("expected BadCpu or BadCap, got {other:?}")),
    }
}

fn trace() -> Outcome {
    for kinds in [0, abi::TraceKinds::all().bits().into(), u64::MAX >> 8] {
        refused(&format!("kinds {kinds:#x}"), hc::ctrl_trace(kinds), Status::BadHyp)?;
    }
    Ok(())
}

fn dev() -> Outcome {
    for (what, sel) in [("null", Slot::new().0), ("PD", sel::PD), ("SEL_NUM", abi::SEL_NUM)] {
        refused(what, status(Hypercall::AssignDev.identifier(0, sel), 0x1000, 0, 0, 0), Status::BadHyp)?;
    }
    Ok(())
}
