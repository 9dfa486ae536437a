//! Hypercalls that create objects (spec 5.3).
//!
//! The order in each: scalars, the free slot, the owner, what the object is bound to, then the effect.

use super::{Done, Outcome, flags, selector};
use crate::arch::{guest, time};
use crate::mem::layout::USER_END;
use crate::mem::refs::{Object, Ref};
use crate::object::account::Account;
use crate::object::ec::{Ec, EcKind, NewEc};
use crate::object::member::Joins;
use crate::object::{
    dma::DmaSpace, gst::GstSpace, hst::HstSpace, msr::MsrSpace, obj, obj::ObjSpace, pd::Pd, pio::PioSpace,
};
use crate::object::{pt::Pt, sc::Sc, sm::Sm};
use crate::{arch::cpu::cpu, iommu, remote};
use abi::{CreatePdOp, Scd, Sel, Status, perm};
use core::sync::atomic::Ordering::Relaxed;

/// A null slot of the caller's object space.
struct Slot {
    ec: &'static Ec,
    sel: Sel,
}

/// A null slot that has room for a capability.
struct Ready {
    slot: Slot,
    room: obj::Room,
}

impl Slot {
    fn of(ec: &'static Ec) -> Result<Slot, Status> {
        let sel = selector(ec);
        if !ec.obj.is_free(sel) {
            return Err(Status::BadCap);
        }
        Ok(Slot { ec, sel })
    }

    /// Finds room for the capability: the last thing before the object is created.
    fn reserve(self) -> Result<Ready, Status> {
        let room = self.ec.obj.reserve(self.sel).map_err(|_| Status::MemCap)?;
        Ok(Ready { slot: self, room })
    }
}

impl Ready {
    /// Fills the slot, unless another CPU has filled it meanwhile.
    fn fill<T: Object>(self, object: Ref<T>, perms: u8) -> Outcome {
        let Slot { ec, sel } = self.slot;
        if ec.obj.put(sel, self.room, object, perms) { Ok(Done::Now) } else { Err(Status::BadCap) }
    }
}

fn owner(ec: &'static Ec, sel: Sel, perm: perm::Pd) -> Result<&'static Pd, Status> {
    ec.obj.find::<Pd>(sel, perm.bits()).ok_or(Status::BadCap)
}

/// Creates a protection domain or a space (5.3.1).
pub fn create_pd(ec: &'static Ec) -> Outcome {
    let op = CreatePdOp::from_flags(flags(ec)).ok_or(Status::BadPar)?;
    let pd_sel = ec.regs().rsi();
    let frames = match op {
        CreatePdOp::Account => super::quota::frames(ec.regs().rdx())?,
        _ => 0,
    };
    let slot = Slot::of(ec)?;
    // Read once: another CPU may put another capability there.
    let cap = ec.obj.get(pd_sel);
    let pd = obj::resolve::<Pd>(cap, perm::Pd::PD.bits()).ok_or(Status::BadCap)?;
    if matches!(op, CreatePdOp::Gst) && !guest::missing().is_empty() {
        return Err(Status::BadFtr);
    }
    if matches!(op, CreatePdOp::Dma) && iommu::machine().is_none() {
        return Err(Status::BadFtr);
    }
    let (slot, a) = (slot.reserve()?, pd.account());
    let take_grant = perm::Space::TAKE | perm::Space::GRANT;
    let grant_assign = perm::Space::GRANT | perm::Space::ASSIGN;
    match op {
        CreatePdOp::Pd => enter(pd, slot, Pd::create(a, a.hold(), false), cap.perms(), |_| true),
        CreatePdOp::Account => {
            let account = Account::create(a, frames).ok_or(Status::MemObj)?;
            enter(pd, slot, Pd::create(a, account, true), cap.perms(), |_| true)
        }
        CreatePdOp::Obj => enter(pd, slot, ObjSpace::create(a), take_grant.bits(), |s| pd.obj.set(s)),
        CreatePdOp::Hst => enter(pd, slot, HstSpace::create(a, false), take_grant.bits(), |s| pd.hst.set(s)),
        CreatePdOp::Gst => enter(pd, slot, GstSpace::create(a), grant_assign.bits(), |_| true),
        // The first one becomes that of host ECs.
        CreatePdOp::Pio => enter(pd, slot, PioSpace::create(a, false), perm::Space::all().bits(), |s| {
            pd.pio.set(s);
            true
        }),
        CreatePdOp::Msr => enter(pd, slot, MsrSpace::create(a), perm::Space::all().bits(), |_| true),
        CreatePdOp::Dma => {
            let machine = iommu::machine().ok_or(Status::BadFtr)?;
            enter(pd, slot, DmaSpace::create(a, machine), grant_assign.bits(), |_| true)
        }
    }
}

/// Binds a new object, makes it a member of the PD, and fills the slot with a capability to it.
fn enter<T: Joins>(
    pd: &'static Pd,
    slot: Ready,
    new: Option<Ref<T>>,
    perms: u8,
    bind: impl FnOnce(&Ref<T>) -> bool,
) -> Outcome {
    let new = new.ok_or(Status::MemObj)?;
    if !bind(&new) {
        return Err(Status::Aborted);
    }
    pd.members.add(pd, &new);
    slot.fill(new, perms)
}

const GUEST: u8 = 1;
const TIME: u8 = 2;
const FPU: u8 = 4;

/// Creates an execution context (5.3.2).
pub fn create_ec(ec: &'static Ec) -> Outcome {
    let (f, r) = (flags(ec), ec.regs());
    let (page, cpu) = (r.rdx() >> 12, (r.rdx() & 0xfff) as u16);
    let (sp, evt, pd_sel) = (r.rax(), r.r8(), r.rsi());
    let kind = match (f & GUEST != 0, f & TIME != 0) {
        (true, _) => EcKind::Vcpu,
        (false, true) => EcKind::Global,
        (false, false) => EcKind::Local,
    };
    if cpu >= crate::boot::cpus_online() {
        return Err(Status::BadCpu);
    }
    if kind == EcKind::Vcpu && !guest::missing().is_empty() {
        return Err(Status::BadFtr);
    }
    if page >= USER_END >> abi::PAGE_BITS {
        return Err(Status::BadPar);
    }
    let slot = Slot::of(ec)?;
    let pd = owner(ec, pd_sel, perm::Pd::EC)?;
    let (obj, hst) = (pd.obj.get().ok_or(Status::Aborted)?, pd.hst.get().ok_or(Status::Aborted)?);
    let pio = if kind == EcKind::Vcpu { None } else { pd.pio.get() };
    let slot = slot.reserve()?;
    let new = NewEc { kind, cpu, obj, hst, pio, page, sp, evt, fpu: f & FPU != 0 };
    let new = Ec::create(pd.account(), new).ok_or(Status::MemObj)?;
    pd.members.add(pd, &new);
    if let Some(v) = new.vcpu.as_ref().filter(|_| f & TIME != 0) {
        v.offset_time(time::now().wrapping_neg());
    }
    slot.fill(new, perm::Ec::all().bits())
}

/// Creates a scheduling context (5.3.3). Its EC becomes ready.
pub fn create_sc(ec: &'static Ec) -> Outcome {
    let r = ec.regs();
    let (pd_sel, ec_sel, d) = (r.rsi(), r.rdx(), Scd::unpack(r.rax()));
    if d.prio == 0 || d.budget_ms == 0 || d.cos != 0 {
        return Err(Status::BadPar);
    }
    let slot = Slot::of(ec)?;
    let pd = owner(ec, pd_sel, perm::Pd::SC)?;
    let target = ec.obj.find::<Ec>(ec_sel, perm::Ec::BIND_SC.bits()).ok_or(Status::BadCap)?;
    if target.kind == EcKind::Local {
        return Err(Status::BadCap);
    }
    let slot = slot.reserve()?;
    let target = Ref::try_from_found(target).ok_or(Status::BadCap)?;
    if target.bound.swap(true, Relaxed) {
        return Err(Status::Aborted);
    }
    let budget = time::frequency() / 1000 * d.budget_ms as u64;
    let Some(sc) = Sc::create(pd.account(), target.clone(), d.prio, budget) else {
        target.bound.store(false, Relaxed);
        return Err(Status::MemObj);
    };
    let s = sc.found();
    let done = slot.fill(sc, perm::Sc::all().bits());
    if done.is_err() {
        ipc::retire(s);
        target.bound.store(false, Relaxed);
        return done;
    }
    if target.home() == cpu().id.get() {
        ipc::start(s);
    } else {
        remote::start(s);
    }
    done
}

/// Creates a portal (5.3.4).
pub fn create_pt(ec: &'static Ec) -> Outcome {
    let r = ec.regs();
    let (pd_sel, ec_sel, ip) = (r.rsi(), r.rdx(), r.rax());
    let slot = Slot::of(ec)?;
    let pd = owner(ec, pd_sel, perm::Pd::PT)?;
    let target = ec.obj.find::<Ec>(ec_sel, perm::Ec::BIND_PT.bits()).ok_or(Status::BadCap)?;
    if target.kind != EcKind::Local {
        return Err(Status::BadCap);
    }
    let slot = slot.reserve()?;
    let pt = Pt::create(pd.account(), Ref::try_from_found(target).ok_or(Status::BadCap)?, ip).ok_or(Status::MemObj)?;
    slot.fill(pt, perm::Pt::all().bits())
}

/// Creates a semaphore (5.3.5).
pub fn create_sm(ec: &'static Ec) -> Outcome {
    let r = ec.regs();
    let (pd_sel, count) = (r.rsi(), r.rdx());
    let slot = Slot::of(ec)?;
    let pd = owner(ec, pd_sel, perm::Pd::SM)?;
    let slot = slot.reserve()?;
    let sm = Sm::create(pd.account(), count, None).ok_or(Status::MemObj)?;
    slot.fill(sm, (perm::Sm::CTRL_UP | perm::Sm::CTRL_DN).bits())
}
