//! An account is used up, by each kind of object and by delegation: its PDs are refused, others go on, and all returns.

use crate::child::{Child, Slot, create_ec, delegate, done, guests, last_cpu, level, own, page, refused, returns, rw};
use crate::{Check, Outcome};
use abi::{CreatePdOp, Status};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};

pub const CHECKS: &[Check] = &[
    ("objects-59 create_pd-19 objects-58", "PDs and spaces use up an account", domains),
    ("objects-59 objects-58", "semaphores and portals use up an account", small),
    ("objects-59 objects-58", "threads use up an account", threads),
    ("objects-59 objects-58", "virtual CPUs use up an account", virtual_cpus),
    ("objects-59 objects-58 objects-62", "delegated capabilities use up an account", capabilities),
    ("objects-59 objects-58 objects-62", "delegated memory uses up an account", memory),
    ("read_quota-7 objects-61", "what is taken apart by another CPU returns", elsewhere),
];

/// Frames of an account that is used up.
const FRAMES: u64 = 40;

/// Does `use_up` for one of two children until it is refused with one of these statuses, `least` times at least. The other
/// child has what it had, and can use it. Then all goes, and returns.
fn used_up<T>(
    what: &str,
    least: usize,
    want: &[Status],
    mut use_up: impl FnMut(&Child, u64) -> Result<T, Status>,
) -> Outcome {
    let before = own();
    for round in 0..2 {
        let (c, sibling) = (Child::new(FRAMES)?, Child::new(FRAMES)?);
        let (mine, theirs) = (own(), level(sibling.pd.0));
        let mut all = Vec::new();
        let refusal = loop {
            match use_up(&c, all.len() as u64) {
                Ok(s) => all.push(s),
                Err(e) => break e,
            }
        };
        refused::<()>(what, Err(refusal), want)?;
        if all.len() < least {
            return Err(format!("{what}: only {} times", all.len()));
        }
        if own() != mine || level(sibling.pd.0) != theirs {
            return Err(format!("{what}: {mine:?} {theirs:?} became {:?} {:?}", own(), level(sibling.pd.0)));
        }
        let again = use_up(&sibling, 0).map_err(|e| format!("{what}, sibling: {e:?}"))?;
        drop((all, again, c, sibling));
        returns(&format!("{what}, round {round}"), sel::PD, before)?;
    }
    Ok(())
}

const NO_OBJECT: &[Status] = &[Status::MemObj];
const NO_CAP: &[Status] = &[Status::MemCap];

fn domains() -> Outcome {
    let kind = |op| move |c: &Child, _| Slot::with(|s| hc::create_pd(op, s, c.pd.0));
    used_up("PDs", 600, NO_OBJECT, kind(CreatePdOp::Pd))?;
    used_up("accounts", 10, NO_OBJECT, |c, _| Slot::with(|s| hc::create_account(s, c.pd.0, 3)))?;
    used_up("PIO spaces", 10, NO_OBJECT, kind(CreatePdOp::Pio))?;
    used_up("MSR spaces", 10, NO_OBJECT, kind(CreatePdOp::Msr))?;
    if guests() {
        used_up("guest spaces", 30, NO_OBJECT, kind(CreatePdOp::Gst))?;
    }
    for op in [CreatePdOp::Obj, CreatePdOp::Hst] {
        // One for each PD.
        used_up(&format!("{op:?} spaces"), 10, NO_OBJECT, |c, _| {
            let pd = Slot::with(|s| hc::create_pd(CreatePdOp::Pd, s, c.pd.0))?;
            Ok((Slot::with(|s| hc::create_pd(op, s, pd.0))?, pd))
        })?;
    }
    Ok(())
}

fn small() -> Outcome {
    used_up("semaphores", 2000, NO_OBJECT, |c, _| Slot::with(|s| hc::create_sm(s, c.pd.0, 0)))
}

fn ec(c: &Child, n: u64, guest: bool, cpu: u16) -> Result<Slot, Status> {
    let utcb_page = 0x10_0000 + (n << abi::PAGE_BITS);
    let args = EcArgs { utcb_page, cpu, guest, global_or_offset: true, fpu: true, ..EcArgs::default() };
    Slot::with(|s| create_ec(s, c.pd.0, args))
}

fn threads() -> Outcome {
    used_up("threads", 10, NO_OBJECT, |c, n| ec(c, n, false, last_cpu()))?;
    // A portal is an object of its own: its EC is somebody else's.
    let target = Child::new(FRAMES)?;
    let local = EcArgs { utcb_page: 0x10_0000, cpu: last_cpu(), ..EcArgs::default() };
    let local = done("a local thread", Slot::with(|s| create_ec(s, target.pd.0, local)))?;
    used_up("portals", 1000, NO_OBJECT, |c, _| {
        // SAFETY: nobody calls it.
        Slot::with(|s| unsafe { hc::create_pt(s, c.pd.0, local.0, 0x1000) })
    })
}

fn virtual_cpus() -> Outcome {
    if !guests() {
        return Ok(());
    }
    used_up("virtual CPUs", 4, NO_OBJECT, |c, n| ec(c, n, true, last_cpu()))
}

fn capabilities() -> Outcome {
    // A table is for 512 slots, and has two frames: one is for the index.
    used_up("slots", 15, NO_CAP, |c, n| delegate(sel::OBJ, c.obj.0, sel::PD, n * 512, abi::perm::ALL))
}

fn memory() -> Outcome {
    // A page table is for 2 MiB.
    used_up("pages", 20, NO_CAP, |c, n| delegate(sel::HST, c.hst.0, page(), n * 512, rw()))
}

fn elsewhere() -> Outcome {
    let before = own();
    for cpu in rt::start_info().map(|i| i.usable_cpus().to_vec()).unwrap_or_default() {
        let c = Child::new(100)?;
        let start = level(c.pd.0);
        for n in 0..20 {
            let e = ec(&c, n % 4, false, cpu).map_err(|e| format!("create_ec: {e:?}"))?;
            drop(e);
        }
        // Tables for four UTCBs and the root of that CPU stay with the space.
        let last = level(c.pd.0);
        if last.used < start.used {
            return Err(format!("{start:?} became {last:?}"));
        }
        drop(c);
        returns(&format!("CPU {cpu}"), sel::PD, before)?;
    }
    Ok(())
}
