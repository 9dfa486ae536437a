//! docs/spec/move_quota.md, read_quota.md, operation 8 of create_pd.md: the statuses, and what they do to the books.

use crate::child::{Child, Level, Slot, done, equal, level, own, refused, returns};
use crate::{Check, Outcome};
use abi::{CreatePdOp, Status, perm};
use parent::sel;
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    (
        "create_pd-23 create_pd-24 create_pd-26 objects-57 objects-64 objects-66",
        "a PD with an account of its own: frames come from the owner's and return",
        own_account,
    ),
    ("create_pd-27 create_pd-28", "create_pd: BAD_PAR, MEM_OBJ", refusals),
    (
        "create_pd-25 move_quota-2 move_quota-5 objects-57 read_quota-2",
        "a PD may share the account of its owner",
        shared,
    ),
    ("move_quota-3 move_quota-4 move_quota-10 move_quota-11", "move_quota moves unused frames", moves),
    ("move_quota-1 move_quota-6 move_quota-7 move_quota-8", "move_quota: BAD_CAP, BAD_PAR, MEM_OBJ", move_refusals),
    ("read_quota-1 read_quota-4 read_quota-5", "read_quota: a PD capability with PD, else BAD_CAP", read_refusals),
    ("read_quota-3 objects-61 objects-63 objects-65", "what is gone is not used, at once", at_once),
    ("objects-64 objects-60", "accounts in accounts return in any order", nested),
];

fn own_account() -> Outcome {
    let before = own();
    let pd = done("create_pd", Slot::with(|s| hc::create_account(s, sel::PD, 20)))?;
    equal("the new account", level(pd.0), Level { limit: 20, used: 0 })?;
    let after = own();
    equal("our limit", after.limit, before.limit - 20)?;
    // The PD and its account are two cells of our own frames.
    if after.used < before.used || after.used > before.used + 2 {
        return Err(format!("our use: {before:?}, {after:?}"));
    }
    let sm = done("create_sm", Slot::with(|s| hc::create_sm(s, pd.0, 0)))?;
    equal("with a semaphore", level(pd.0), Level { limit: 20, used: 1 })?;
    equal("our own level", own(), after)?;
    drop(pd);
    equal("the semaphore keeps the account", own().limit, after.limit)?;
    drop(sm);
    returns("all is gone", sel::PD, before)
}

fn refusals() -> Outcome {
    let (before, s) = (own(), Slot::new());
    refused("no frame", hc::create_account(s.0, sel::PD, 0), &[Status::BadPar])?;
    for n in [before.limit - before.used + 1, before.limit, 1 << 32, u64::MAX] {
        refused(&format!("{n} frames"), hc::create_account(s.0, sel::PD, n), &[Status::MemObj])?;
        returns("refused", sel::PD, before)?;
    }
    Ok(())
}

fn shared() -> Outcome {
    let c = Child::new(40)?;
    let guest = done("create_pd", Slot::with(|s| hc::create_pd(CreatePdOp::Pd, s, c.pd.0)))?;
    equal("both", level(guest.0), level(c.pd.0))?;
    let before = level(c.pd.0).used;
    let _space = done("create_pd", Slot::with(|s| hc::create_pd(CreatePdOp::Pio, s, guest.0)))?;
    equal("charged to the owner's", level(c.pd.0).used, before + 3)?;
    refused("from it", hc::move_quota(guest.0, sel::PD, 1), &[Status::Aborted])?;
    refused("to it", hc::move_quota(sel::PD, guest.0, 1), &[Status::Aborted])
}

fn moves() -> Outcome {
    let before = own();
    let (a, b) = (Child::new(30)?, Child::new(30)?);
    let (level_a, level_b) = (level(a.pd.0), level(b.pd.0));
    // Others that share it do not matter.
    let _shares = done("create_pd", Slot::with(|s| hc::create_pd(CreatePdOp::Pd, s, sel::PD)))?;
    done("to a sibling", hc::move_quota(a.pd.0, b.pd.0, 7))?;
    equal("from", level(a.pd.0), Level { limit: 23, ..level_a })?;
    equal("to", level(b.pd.0), Level { limit: 37, ..level_b })?;
    done("to a child", hc::move_quota(sel::PD, a.pd.0, 5))?;
    equal("to", level(a.pd.0), Level { limit: 28, ..level_a })?;
    done("to the parent", hc::move_quota(b.pd.0, sel::PD, b.unused()))?;
    equal("nothing unused is left", b.unused(), 0)?;
    let same = level(a.pd.0);
    done("to itself", hc::move_quota(a.pd.0, a.pd.0, a.unused()))?;
    equal("itself", level(a.pd.0), same)?;
    drop((a, b, _shares));
    returns("all is gone", sel::PD, before)
}

fn move_refusals() -> Outcome {
    let (before, c) = (own(), Child::new(20)?);
    let mine = own();
    let less = Slot::new();
    let all_but = perm::ALL & !perm::Pd::PD.bits();
    done("a copy", crate::child::delegate(sel::OBJ, sel::OBJ, c.pd.0, less.0, all_but))?;
    let null = Slot::new();
    for other in [less.0, null.0, abi::SEL_NUM, c.obj.0] {
        refused("from", hc::move_quota(other, sel::PD, 1), &[Status::BadCap])?;
        refused("to", hc::move_quota(sel::PD, other, 1), &[Status::BadCap])?;
    }
    refused("none", hc::move_quota(sel::PD, c.pd.0, 0), &[Status::BadPar])?;
    for n in [c.unused() + 1, 20, u64::from(u32::MAX) + 1, u64::MAX] {
        refused(&format!("{n} frames"), hc::move_quota(c.pd.0, sel::PD, n), &[Status::MemObj])?;
    }
    equal("nothing has changed", own(), mine)?;
    drop((c, less));
    returns("all is gone", sel::PD, before)
}

fn read_refusals() -> Outcome {
    let c = Child::new(20)?;
    let less = Slot::new();
    let only = perm::Pd::PD.bits();
    for (perms, want) in [(only, Ok((20, level(c.pd.0).used))), (perm::ALL & !only, Err(Status::BadCap))] {
        done("a copy", crate::child::delegate(sel::OBJ, sel::OBJ, c.pd.0, less.0, perms))?;
        equal("read_quota", hc::read_quota(less.0), want)?;
    }
    for other in [Slot::new().0, abi::SEL_NUM, c.hst.0] {
        refused("no PD", hc::read_quota(other), &[Status::BadCap])?;
    }
    Ok(())
}

fn at_once() -> Outcome {
    let c = Child::new(40)?;
    let before = level(c.pd.0);
    for round in 0..20 {
        let sms = (0..100).map(|_| Slot::with(|s| hc::create_sm(s, c.pd.0, 0))).collect::<Result<Vec<_>, _>>();
        let sms = done("create_sm", sms)?;
        // 63 semaphores at most are in a frame.
        let used = level(c.pd.0).used - before.used;
        if !(1..=2).contains(&used) {
            return Err(format!("100 semaphores use {used} frames"));
        }
        drop(sms);
        equal(&format!("round {round}"), level(c.pd.0), before)?;
    }
    Ok(())
}

fn nested() -> Outcome {
    let before = own();
    for order in 0..6 {
        let a = done("first", Slot::with(|s| hc::create_account(s, sel::PD, 100)))?;
        let b = done("second", Slot::with(|s| hc::create_account(s, a.0, 60)))?;
        let c = done("third", Slot::with(|s| hc::create_account(s, b.0, 30)))?;
        let sum = [a.0, b.0, c.0].map(|pd| level(pd).limit).iter().sum::<u64>();
        equal("the sum of the limits", (sum, own().limit), (100, before.limit - 100))?;
        let mut all = [Some(a), Some(b), Some(c)];
        for i in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order] {
            all[i] = None;
        }
        returns(&format!("order {order}"), sel::PD, before)?;
    }
    Ok(())
}
