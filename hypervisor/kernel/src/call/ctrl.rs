//! Hypercalls that control objects (spec 5.4) and hardware (5.5.1).

use super::{Done, Outcome, flags, selector};
use crate::arch::cpu::cpu;
use crate::boot::acpi;
use crate::mem::refs::{Object, Ref, account_of};
use crate::object::ec::{Ec, Timed};
use crate::object::sm::Down;
use crate::object::{
    dma::DmaSpace, gst, gst::GstSpace, hst, hst::HstSpace, msr, msr::MsrSpace, obj, obj::ObjSpace, pio, pio::PioSpace,
};
use crate::object::{pt::Pt, sc::Sc, sm::Sm, tables::Tables};
use crate::{arch::time, boot, remote};
use abi::{BOUND, HwOp, IN_REGISTERS, Mad, Sel, Status, perm};
use cap::{Cap, Kind};
use core::sync::atomic::Ordering::SeqCst;
use ptab::{Full, Leaf};

/// Slots or table entries of one part of a call: what one kernel entry does is bounded (docs/design/0012).
const PART: u64 = 512;
/// Largest block of memory in one step: its tables may hold [`PART`] others that have to go.
const BLOCK_ORDER: u32 = 18;

/// Arguments of `ctrl_pd`.
struct Range {
    src: Sel,
    dst: Sel,
    order: u32,
    mask: u8,
    mad: Mad,
    /// [`ptab::BOUND`], if what arrives is to go no further.
    bound: perm::Mem,
    /// Slots that earlier parts of the call have done.
    done: u64,
}

impl Range {
    /// The slots of this part.
    fn part(&self) -> core::ops::Range<u64> {
        self.done..self.count().min(self.done.saturating_add(PART))
    }

    /// What this part comes to if so many slots are done now.
    fn so_far(&self, done: u64) -> Outcome {
        Ok(if done < self.count() { Done::Part(done) } else { Done::Now })
    }

    fn count(&self) -> u64 {
        1 << self.order
    }

    /// Both ranges end at or before `end`.
    fn within(&self, end: u64) -> Result<(), Status> {
        let fits = |b: u64| b.checked_add(self.count()).is_some_and(|e| e <= end);
        if fits(self.src) && fits(self.dst) { Ok(()) } else { Err(Status::BadPar) }
    }
}

/// Takes capabilities from one space and grants them to another (5.4.1).
pub fn ctrl_pd(ec: &'static Ec) -> Outcome {
    let r = ec.regs();
    let (dst, d, a) = (r.rsi(), r.rdx(), r.rax());
    let range = Range {
        src: d >> 12,
        dst: a >> 12,
        order: (d & 0x1f) as u32,
        mask: (a & 0x1f) as u8,
        mad: Mad(r.r8() as u32),
        bound: if flags(ec) & BOUND != 0 { ptab::BOUND } else { perm::Mem::empty() },
        done: ec.progress.get(),
    };
    if (range.src | range.dst) & (range.count() - 1) != 0 {
        return Err(Status::BadPar);
    }
    let (from, to) = (ec.obj.get(selector(ec)), ec.obj.get(dst));
    match (from.kind_number(), to.kind_number()) {
        (OBJ, OBJ) => delegate_obj(take(from)?, grant(to)?, &range),
        (HST, HST) => {
            let (s, d): (_, &HstSpace) = (take(from)?, grant(to)?);
            let mut mem = Tables::of(account_of(d));
            let put = &mut |p, o, l| d.change(&mut mem, p, o, bind(l, range.bound));
            let done = delegate_mem(s, &range, hst::END_PAGE, put);
            d.settle(mem);
            done
        }
        (HST, GST) => {
            let (s, d): (_, &GstSpace) = (take(from)?, grant(to)?);
            let mut mem = Tables::of(account_of(d));
            let done = delegate_mem(s, &range, gst::END_PAGE, &mut |p, o, l| d.change(&mut mem, p, o, l));
            d.settle(mem);
            done
        }
        (HST, DMA) => {
            let (s, d): (_, &DmaSpace) = (take(from)?, grant(to)?);
            let mut mem = d.tables();
            let done = delegate_mem(s, &range, d.end_page(), &mut |p, o, l| d.change(&mut mem, p, o, l));
            d.settle(mem);
            done
        }
        (PIO, PIO) => delegate_pio(take(from)?, grant(to)?, &range),
        (MSR, MSR) => delegate_msr(take(from)?, grant(to)?, &range),
        _ => Err(Status::BadCap),
    }
}

const OBJ: u8 = Kind::Obj as u8;
const HST: u8 = Kind::Hst as u8;
const GST: u8 = Kind::Gst as u8;
const DMA: u8 = Kind::Dma as u8;
const PIO: u8 = Kind::Pio as u8;
const MSR: u8 = Kind::Msr as u8;

#[inline]
fn take<T: Object>(cap: Cap) -> Result<&'static T, Status> {
    obj::resolve(cap, perm::Space::TAKE.bits()).ok_or(Status::BadCap)
}

#[inline]
fn grant<T: Object>(cap: Cap) -> Result<&'static T, Status> {
    obj::resolve(cap, perm::Space::GRANT.bits()).ok_or(Status::BadCap)
}

fn delegate_obj(src: &ObjSpace, dst: &ObjSpace, r: &Range) -> Outcome {
    r.within(abi::SEL_NUM)?;
    for i in r.part() {
        dst.set(r.dst + i, src.get(r.src + i).masked(r.mask)).map_err(|_| Status::MemCap)?;
    }
    r.so_far(r.part().end)
}

/// Copies translations block by block: as large as source mapping, source hole and alignment allow.
fn delegate_mem(
    src: &HstSpace,
    r: &Range,
    dst_end: u64,
    put: &mut dyn FnMut(u64, u32, Leaf) -> Result<(), Full>,
) -> Outcome {
    if src.nova && !r.mad.valid(0) {
        return Err(Status::BadPar);
    }
    let src_end = if src.nova { u64::MAX } else { hst::END_PAGE };
    let fits = |b: u64, end: u64| b.checked_add(r.count()).is_some_and(|e| e <= end);
    if !fits(r.src, src_end) || !fits(r.dst, dst_end) {
        return Err(Status::BadPar);
    }
    let mask = perm::Mem::from_bits_truncate(r.mask);
    let (mut done, mut entries) = (r.done, 0);
    let most = r.order.min(BLOCK_ORDER);
    while done < r.count() && entries < PART {
        let page = r.src + done;
        let (leaf, order) = if src.nova { boot::memory::lookup(page, most, r.mad) } else { source(src, page) };
        // The block that contains `page` may begin before it or exceed the range.
        let order = order.min(most).min((page | (r.dst + done) | 1 << 63).trailing_zeros());
        put(r.dst + done, order, Leaf { perms: leaf.perms & mask, ..leaf }).map_err(|_| Status::MemCap)?;
        done += 1 << order;
        entries += if order == BLOCK_ORDER { PART } else { 1 << (order % ptab::spec::INDEX_BITS) };
    }
    r.so_far(done)
}

/// What an ordinary host space maps at a page: the leaf moved to that page, and the order of its block or hole.
fn source(src: &HstSpace, page: u64) -> (Leaf, u32) {
    match src.lookup(page) {
        // UTCBs, virtual-APIC pages and the information page are the kernel's: they cannot be delegated.
        Ok(l) if boot::memory::is_kernel(l.phys) => nothing(0),
        Ok(l) if l.perms.contains(ptab::BOUND) => nothing(l.order),
        Ok(l) => {
            let within = page & ((1 << l.order) - 1);
            (Leaf { phys: l.phys + (within << abi::PAGE_BITS), ..l }, l.order)
        }
        Err(h) => nothing(h.order),
    }
}

/// A leaf that goes no further, if it is there and `bound` says so.
fn bind(l: Leaf, bound: perm::Mem) -> Leaf {
    if l.perms.is_empty() { l } else { Leaf { perms: l.perms | bound, ..l } }
}

fn nothing(order: u32) -> (Leaf, u32) {
    (Leaf { phys: 0, order: 0, perms: perm::Mem::empty(), mad: Mad::WB }, order)
}

fn delegate_pio(src: &PioSpace, dst: &PioSpace, r: &Range) -> Outcome {
    r.within(pio::PORTS)?;
    if r.src != r.dst {
        return Err(Status::BadPar);
    }
    let used = dst.is_used();
    for port in r.part().map(|i| r.src + i) {
        dst.set(port, src.allows(port) && r.mask & perm::Pio::A.bits() != 0);
    }
    dst.changed(dst.is_used() && !used);
    r.so_far(r.part().end)
}

fn delegate_msr(src: &MsrSpace, dst: &MsrSpace, r: &Range) -> Outcome {
    r.within(msr::MSRS)?;
    if r.src != r.dst {
        return Err(Status::BadPar);
    }
    for m in r.part().map(|i| r.src + i) {
        dst.set(m, src.get(m) & perm::Msr::from_bits_truncate(r.mask));
    }
    dst.changed();
    r.so_far(r.part().end)
}

const STRONG: u8 = 1;

/// Recalls an execution context (5.4.2).
///
/// On the EC's own CPU weak and strong are the same: it has entered the kernel, or the caller would not run.
pub fn ctrl_ec(ec: &'static Ec) -> Outcome {
    let target = ec.obj.find::<Ec>(selector(ec), perm::Ec::CTRL.bits()).ok_or(Status::BadCap)?;
    let strong = flags(ec) & STRONG != 0;
    if !target.ipc.tag.recall.swap(true, SeqCst) || strong {
        remote::recall(target, strong);
    }
    Ok(Done::Now)
}

/// Consumed time of a scheduling context (5.4.3).
pub fn ctrl_sc(ec: &'static Ec) -> Outcome {
    let sc = ec.obj.find::<Sc>(selector(ec), perm::Sc::CTRL.bits()).ok_or(Status::BadCap)?;
    ec.regs().set_rsi(sc.consumed());
    Ok(Done::Now)
}

/// Configures a portal (5.4.4).
pub fn ctrl_pt(ec: &'static Ec) -> Outcome {
    let pt = ec.obj.find::<Pt>(selector(ec), perm::Pt::CTRL.bits()).ok_or(Status::BadCap)?;
    pt.configure(ec.regs().rsi(), ec.regs().rdx() as u32, flags(ec) & IN_REGISTERS != 0);
    Ok(Done::Now)
}

pub const DOWN: u8 = 1;
const ZERO: u8 = 2;

/// Up or down on a semaphore (5.4.5).
pub fn ctrl_sm(ec: &'static Ec) -> Outcome {
    let f = flags(ec);
    if f & DOWN == 0 {
        let sm = ec.obj.find::<Sm>(selector(ec), perm::Sm::CTRL_UP.bits()).ok_or(Status::BadCap)?;
        return sm.up().map(|()| Done::Now);
    }
    let sm = ec.obj.find::<Sm>(selector(ec), perm::Sm::CTRL_DN.bits()).ok_or(Status::BadCap)?;
    if sm.gsi.and_then(crate::arch::interrupt::routed_to).is_some_and(|c| c != ec.home()) {
        return Err(Status::BadCpu);
    }
    match sm.down(ec, f & ZERO != 0) {
        Down::Taken => Ok(Done::Now),
        Down::Closed => Err(Status::BadCap),
        Down::Queued => {
            let held = Ref::try_from_found(sm);
            if held.is_none() && sm.forget(ec) {
                return Err(Status::BadCap);
            }
            ec.ipc.block();
            let at = ec.regs().rsi();
            // Without the semaphore it is released already, and hears of it soon.
            if at != 0 && held.is_some() {
                cpu().timeouts.arm::<Timed>(ec, at, |e| &e.deadline);
                time::arm(at);
            }
            ec.blocked_on.set(held);
            Ok(Done::Blocked)
        }
    }
}

/// [`ctrl_sm`]: up, if that succeeds: 1, or who is to be released. 0: nothing has happened.
pub extern "C" fn quick_up(sm: &'static Sm) -> u64 {
    match sm.up_for() {
        Ok(None) => 1,
        Ok(Some(ec)) => (&raw const *ec).addr() as u64,
        Err(_) => 0,
    }
}

/// [`ctrl_sm`]: down, with its identifier, if it succeeds at once: 1. 0: nothing has happened.
pub extern "C" fn quick_down(sm: &'static Sm, identifier: u64) -> u64 {
    sm.down_alone((identifier >> 4) as u8 & ZERO != 0).into()
}

/// Power and platform control (5.5.1).
pub fn ctrl_hw(ec: &'static Ec) -> Outcome {
    if !boot::is_root(ec) {
        return Err(Status::BadHyp);
    }
    let d = selector(ec);
    match flags(ec) {
        op if op == HwOp::Sleep as u8 => acpi::sleep((d & 7) as u8, (d >> 3 & 7) as u8, (d >> 6 & 7) as u8),
        4..=7 => Err(Status::BadFtr),
        _ => Err(Status::BadPar),
    }
}
