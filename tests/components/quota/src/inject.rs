//! Every allocation of every hypercall fails once: the call says so, nothing has changed, the next call works.

use crate::child::{Child, Level, Slot, create_ec, delegate, done, equal, guests, last_cpu, level, own, page, refused};
use crate::child::{returns, rw};
use crate::{Check, Outcome};
use abi::{CreatePdOp, Sel, Status};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};

pub const CHECKS: &[Check] = &[
    ("create_pd-19", "create_pd: each allocation fails once", domains),
    ("create_pd-19", "create_pd of spaces: each allocation fails once", spaces),
    ("objects-58", "create_ec: each allocation fails once", contexts),
    ("objects-58", "create_pt and create_sm: each allocation fails once", small),
    ("create_pd-20 create_sm-8", "the table of a slot fails once", slots),
    ("ctrl_pd-23", "ctrl_pd: each allocation fails once", delegations),
    ("set_window-10", "set_window: each allocation fails once", windows),
];

/// What a call may change.
fn levels(c: &Child) -> [Level; 2] {
    [own(), level(c.pd.0)]
}

/// For n = 1, 2, ... and a fresh child each: the n-th allocation of `call` fails, until it succeeds. Each time it is refused,
/// the levels stay, and then it works. `least` allocations there are at least.
fn each(what: &str, least: u64, mut call: impl FnMut(&Child, Sel) -> Result<(), Status>) -> Outcome {
    each_with(what, least, |_| Ok(()), |c, (), s| call(c, s))
}

/// With something else that is made before.
fn each_with<T>(
    what: &str,
    least: u64,
    mut prepare: impl FnMut(&Child) -> Result<T, Status>,
    mut call: impl FnMut(&Child, &T, Sel) -> Result<(), Status>,
) -> Outcome {
    let start = own();
    for n in 1.. {
        let c = Child::new(80)?;
        let with = done("what is made before", prepare(&c))?;
        let slot = Slot::new();
        let before = levels(&c);
        done("inject", hc::inject(n))?;
        let r = call(&c, &with, slot.0);
        done("inject", hc::inject(0))?;
        let last = r.is_ok();
        if last && n <= least {
            return Err(format!("{what}: allocation {n} failed, and the call succeeded"));
        }
        if !last {
            refused(&format!("{what}, allocation {n}"), r, &[Status::MemObj, Status::MemCap])?;
            equal(&format!("{what}, levels after allocation {n} failed"), levels(&c), before)?;
            done(&format!("{what} after allocation {n} failed"), call(&c, &with, slot.0))?;
        }
        drop((slot, with, c));
        returns(&format!("{what}, in the end of {n}"), sel::PD, start)?;
        if last {
            println!("quota: {what}: {} allocations", n - 1);
            return Ok(());
        }
    }
    Ok(())
}

fn domains() -> Outcome {
    each("create_pd", 1, |c, s| hc::create_pd(CreatePdOp::Pd, s, c.pd.0))?;
    each("create_pd with an account", 3, |c, s| hc::create_account(s, c.pd.0, 3))
}

fn spaces() -> Outcome {
    let mut kinds = vec![CreatePdOp::Pio, CreatePdOp::Msr];
    if guests() {
        kinds.push(CreatePdOp::Gst);
    }
    for op in kinds {
        each(&format!("create_pd {op:?}"), 2, |c, s| hc::create_pd(op, s, c.pd.0))?;
    }
    // A PD has one of these: another PD each time, which is made before.
    for (op, frames) in [(CreatePdOp::Obj, 2), (CreatePdOp::Hst, 1)] {
        let pd = |c: &Child| Slot::with(|s| hc::create_pd(CreatePdOp::Pd, s, c.pd.0));
        // One cell: its frame is there, that of the PD.
        each_with(&format!("create_pd {op:?}"), frames + 1, pd, |_, pd, s| hc::create_pd(op, s, pd.0))?;
    }
    Ok(())
}

fn contexts() -> Outcome {
    let kinds = [("local thread", false, false), ("thread", false, true), ("vCPU", true, true)];
    for (name, guest, global_or_offset) in kinds.into_iter().filter(|k| !k.1 || guests()) {
        for cpu in [rt::thread::cpu(), last_cpu()] {
            let args = EcArgs { utcb_page: 0x10_0000, cpu, guest, global_or_offset, fpu: true, ..EcArgs::default() };
            // UTCB, vector state, root, object and its frame, three page tables at least.
            each(&format!("create_ec of a {name} on CPU {cpu}"), 5, |c, s| create_ec(s, c.pd.0, args))?;
        }
    }
    Ok(())
}

fn small() -> Outcome {
    each("create_sm", 1, |c, s| hc::create_sm(s, c.pd.0, 0))?;
    let target = Child::new(40)?;
    let local = EcArgs { utcb_page: 0x10_0000, cpu: rt::thread::cpu(), ..EcArgs::default() };
    let local = done("a local thread", Slot::with(|s| create_ec(s, target.pd.0, local)))?;
    // SAFETY: nobody calls it.
    each("create_pt", 1, |c, s| unsafe { hc::create_pt(s, c.pd.0, local.0, 0x1000) })
}

/// Slots of our own that have no table yet: with a table they stay so.
fn slots() -> Outcome {
    let (far, c) = (abi::SEL_NUM / 2, Child::new(20)?);
    let before = levels(&c);
    for n in 1..=3 {
        done("inject", hc::inject(n))?;
        let r = hc::create_sm(far, c.pd.0, 0);
        done("inject", hc::inject(0))?;
        let want = if n < 3 { Status::MemCap } else { Status::MemObj };
        refused(&format!("allocation {n}"), r, &[want])?;
        equal(&format!("levels after allocation {n} failed"), levels(&c), before)?;
    }
    done("create_sm", hc::create_sm(far, c.pd.0, 0))?;
    let own_after = Level { used: before[0].used + 2, ..before[0] };
    let now = levels(&c);
    // Its cell needs a frame of its own where no other has room for it.
    let child = Level { used: now[1].used.clamp(before[1].used, before[1].used + 1), ..before[1] };
    equal("a table and its index for us, a cell for the child", now, [own_after, child])?;
    done("revoked", delegate(sel::OBJ, sel::OBJ, far + 1, far, abi::perm::ALL))?;
    equal("our table stays", levels(&c), [own_after, before[1]])
}

fn windows() -> Outcome {
    let args = EcArgs { utcb_page: 0x10_0000, cpu: last_cpu(), ..EcArgs::default() };
    let thread = |c: &Child| Slot::with(|s| create_ec(s, c.pd.0, args));
    // Two tables.
    each_with("set_window", 4, thread, |_, e, _| hc::set_window(e.0, 512 * 9 - 1, 2))
}

fn delegations() -> Outcome {
    each("ctrl_pd of an object", 2, |c, _| delegate(sel::OBJ, c.obj.0, sel::PD, 5, abi::perm::ALL))?;
    each("ctrl_pd of memory", 3, |c, _| delegate(sel::HST, c.hst.0, page(), 512 * 7, rw()))?;
    if guests() {
        let space = |c: &Child| Slot::with(|s| hc::create_pd(CreatePdOp::Gst, s, c.pd.0));
        each_with("ctrl_pd of guest memory", 3, space, |_, g, _| delegate(sel::HST, g.0, page(), 512 * 7, rw()))?;
    }
    Ok(())
}
