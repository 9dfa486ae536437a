//! docs/spec/create_pd.md.

use crate::abi_page::status;
use crate::check::{Check, Outcome, done, equal, refused};
use crate::foreign::Foreign;
use crate::scene::{Slot, copy};
use abi::{CreatePdOp, Hypercall, Mad, Sel, Status, perm};
use parent::sel;
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    (
        "create_pd-1 create_pd-10 create_pd-13 spaces-17 readme-5",
        "a new PD has the permissions of the owner's capability",
        inherits,
    ),
    ("create_pd-2 create_pd-10 create_pd-11 objects-5 spaces-14", "a new object space: TAKE and GRANT", object_space),
    ("create_pd-6 create_pd-7 spaces-16", "a new PIO or MSR space: TAKE and GRANT", exit_spaces),
    ("create_pd-14 objects-2 readme-5", "ABORTED: a second object or host space", second_space),
    (
        "create_pd-8 create_pd-9 create_pd-15",
        "BAD_CAP: slot not null, beyond SEL_NUM, owner is no PD, no PD permission",
        bad_cap,
    ),
    ("create_pd-16", "BAD_PAR: OP 7 to 15", bad_op),
    ("create_pd-17", "BAD_FTR: DMA space", dma),
    ("create_pd-22", "a PIO space takes three frames", three_frames),
    (
        "create_pd-2 create_pd-3 create_pd-4 create_pd-6 create_pd-7",
        "a new space: exactly the permissions of its kind",
        permissions,
    ),
    ("create_pd-18 spaces-10", "a guest space, where there are guests; BAD_FTR elsewhere", guest_space),
];

fn inherits() -> Outcome {
    let less = Slot::masked(sel::PD, (perm::Pd::PD | perm::Pd::SM).bits())?;
    let pd = Slot::pd(CreatePdOp::Pd, less.0)?;
    let (sm, other) = (Slot::new(), Slot::new());
    done("create_sm with SM", hc::create_sm(sm.0, pd.0, 0))?;
    done("create_pd with PD", hc::create_pd(CreatePdOp::Pd, other.0, pd.0))?;
    let null = Slot::new();
    // SAFETY: refused.
    refused("create_ec without EC", unsafe { hc::create_ec(null.0, pd.0, hc::EcArgs::default()) }, Status::BadCap)
}

/// Moves null capabilities.
fn null_move(src: Sel, dst: Sel) -> Result<(), Status> {
    // SAFETY: spaces of another PD, and nothing in them.
    unsafe { hc::ctrl_pd(src, dst, 0, 0, 0, perm::ALL, Mad::WB) }
}

fn object_space() -> Outcome {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let obj = Slot::pd(CreatePdOp::Obj, pd.0)?;
    done("take and grant", null_move(obj.0, obj.0))?;
    // Only null capabilities: taking one out nulls ours.
    let sm = Slot::sm(0)?;
    // SAFETY: object spaces hold no memory.
    done("take", unsafe { hc::ctrl_pd(obj.0, sel::OBJ, 5, sm.0, 0, perm::ALL, Mad::WB) })?;
    refused("what was there", hc::sm_up(sm.0), Status::BadCap)
}

fn exit_spaces() -> Outcome {
    for op in [CreatePdOp::Pio, CreatePdOp::Msr] {
        let s = Slot::pd(op, Slot::pd(CreatePdOp::Pd, sel::PD)?.0)?;
        done("take and grant", null_move(s.0, s.0))?;
        let (take, grant) =
            (Slot::masked(s.0, perm::Space::TAKE.bits())?, Slot::masked(s.0, perm::Space::GRANT.bits())?);
        done("TAKE, GRANT", null_move(take.0, grant.0))?;
        refused("GRANT as source", null_move(grant.0, grant.0), Status::BadCap)?;
        refused("TAKE as destination", null_move(take.0, take.0), Status::BadCap)?;
    }
    Ok(())
}

fn second_space() -> Outcome {
    let s = Slot::new();
    for op in [CreatePdOp::Obj, CreatePdOp::Hst] {
        refused("own PD", hc::create_pd(op, s.0, sel::PD), Status::Aborted)?;
        let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
        let _first = Slot::pd(op, pd.0)?;
        refused("new PD", hc::create_pd(op, s.0, pd.0), Status::Aborted)?;
    }
    refused("the slot stayed null", copy(sel::OBJ, abi::SEL_NUM, 0), Status::BadPar)?;
    done("the slot stayed null", hc::create_sm(s.0, sel::PD, 0))
}

fn bad_cap() -> Outcome {
    let (null, sm) = (Slot::new(), Slot::sm(0)?);
    let weak = Slot::masked(sel::PD, perm::ALL & !perm::Pd::PD.bits())?;
    for op in [CreatePdOp::Pd, CreatePdOp::Pio] {
        let create = |s, pd| hc::create_pd(op, s, pd);
        refused("slot not null", create(sm.0, sel::PD), Status::BadCap)?;
        refused("slot beyond SEL_NUM", create(abi::SEL_NUM, sel::PD), Status::BadCap)?;
        refused("owner null", create(null.0, null.0), Status::BadCap)?;
        refused("owner beyond SEL_NUM", create(null.0, abi::SEL_NUM), Status::BadCap)?;
        refused("owner a semaphore", create(null.0, sm.0), Status::BadCap)?;
        refused("owner without PD permission", create(null.0, weak.0), Status::BadCap)?;
    }
    Ok(())
}

fn bad_op() -> Outcome {
    let s = Slot::new();
    for op in 7..16 {
        let r = status(Hypercall::CreatePd.identifier(op, s.0), sel::PD, 0, 0, 0);
        refused(&format!("OP {op}"), r, Status::BadPar)?;
    }
    Ok(())
}

fn dma() -> Outcome {
    refused("OP 4", hc::create_pd(CreatePdOp::Dma, Slot::new().0, sel::PD), Status::BadFtr)
}

fn guests_here() -> bool {
    rt::start_info().is_some_and(|i| i.features & (abi::Features::VMX | abi::Features::SVM).bits() != 0)
}

/// What arrives of a capability that is sent says which permissions it has.
fn permissions() -> Outcome {
    use perm::Space as S;
    let kinds = [
        (CreatePdOp::Obj, S::TAKE | S::GRANT),
        (CreatePdOp::Hst, S::TAKE | S::GRANT),
        (CreatePdOp::Gst, S::GRANT | S::ASSIGN),
        (CreatePdOp::Pio, S::TAKE | S::GRANT | S::ASSIGN),
        (CreatePdOp::Msr, S::TAKE | S::GRANT | S::ASSIGN),
    ];
    let receiver = Foreign::new(8)?;
    for (op, want) in kinds.into_iter().filter(|(op, _)| *op != CreatePdOp::Gst || guests_here()) {
        let s = Slot::pd(op, Slot::pd(CreatePdOp::Pd, sel::PD)?.0)?;
        equal(&format!("{op:?}"), receiver.send_one(s.0)?.perms(), want.bits())?;
    }
    Ok(())
}

fn guest_space() -> Outcome {
    let s = Slot::new();
    let want = if guests_here() { Ok(()) } else { Err(Status::BadFtr) };
    equal("OP 3", hc::create_pd(CreatePdOp::Gst, s.0, sel::PD), want)
}

fn three_frames() -> Outcome {
    let used = || done("read_quota", hc::read_quota(sel::PD)).map(|q| q.1);
    let before = used()?;
    let space = Slot::pd(CreatePdOp::Pio, Slot::pd(CreatePdOp::Pd, sel::PD)?.0)?;
    // Its cell and that of its PD may need frames of their own.
    let more = used()? - before;
    crate::check::holds(&format!("three frames, and cells: {more}"), (3..=5).contains(&more))?;
    drop(space);
    crate::check::holds("they return", used()? <= before + 2)
}
