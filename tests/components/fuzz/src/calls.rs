//! Arguments, one function a hypercall, mostly near to what is valid.
//!
//! One kind of call is never made: a `down` that would wait for ever, or for long. The worker would be gone, and rightly.

use crate::random::Random;
use crate::slots::{Kind, Slots, fixed};
use abi::{ExtOp, Hypercall, Scd};

/// The registers of a hypercall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Number, flags, first parameter.
    pub rdi: u64,
    /// Second.
    pub rsi: u64,
    /// Third.
    pub rdx: u64,
    /// Fourth.
    pub rax: u64,
    /// Fifth.
    pub r8: u64,
}

/// Where a worker is and what it finds there.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Place {
    /// Its number in its domain.
    pub worker: u16,
    /// Its CPU.
    pub cpu: u16,
    /// CPUs of the machine.
    pub cpus: u16,
    /// Addresses that nothing depends on, for UTCBs and mappings: this one and [`Place::ARENA_PAGES`] more pages.
    pub arena: u64,
    /// Its own memory, which it may lose: address.
    pub own: u64,
    /// Pages of that.
    pub own_pages: u64,
    /// Code of portals: it replies at once, calls or waits before it does, or faults.
    pub entries: [u64; 4],
    /// Ticks of the system time counter that a down may wait at most.
    pub patience: u64,
    /// Whether hypercall 0xf may be tried with the operation of that bit.
    pub ext_ops: u16,
}

impl Place {
    /// Pages of the arena.
    pub const ARENA_PAGES: u64 = 1 << 12;
}

/// A call and its weight.
type Maker = fn(&mut Random, &Slots, &Place, u64) -> Call;
const MAKERS: [(u64, Maker); 18] = [
    (100, ipc_call),
    (2, ipc_reply),
    (90, create_pd),
    (70, create_ec),
    (15, create_sc),
    (60, create_pt),
    (60, create_sm),
    (150, revoke),
    (90, copy_objects),
    (100, copy_memory),
    (40, copy_others),
    (40, ctrl_ec),
    (10, ctrl_sc),
    (40, ctrl_pt),
    (120, ctrl_sm),
    (25, platform),
    (30, extension),
    (20, garbage),
];

/// The next call.
pub fn next(r: &mut Random, s: &Slots, p: &Place, now: u64) -> Call {
    let total = MAKERS.iter().map(|m| m.0).sum();
    let mut ticket = r.below(total);
    let mut make: Maker = garbage;
    for (weight, maker) in MAKERS {
        if ticket < weight {
            make = maker;
            break;
        }
        ticket -= weight;
    }
    let mut c = make(r, s, p, now);
    if r.one_in(64) {
        spoil(r, &mut c);
    }
    tame(p, now, &mut c);
    c
}

/// Replaces a register or flips one of its bits.
fn spoil(r: &mut Random, c: &mut Call) {
    let value = if r.one_in(2) { r.any() } else { r.boundary() };
    let bit = 1 << r.below(64);
    let register = match r.below(5) {
        0 => &mut c.rdi,
        1 => &mut c.rsi,
        2 => &mut c.rdx,
        3 => &mut c.rax,
        _ => &mut c.r8,
    };
    *register = if r.one_in(2) { value } else { *register ^ bit };
}

const DOWN: u64 = 1;

/// Sees to it that no wait is long, and that what would end the fuzzer's own ability to go on is not done.
fn tame(p: &Place, now: u64, c: &mut Call) {
    let (number, flags) = (c.rdi & 0xf, c.rdi >> 4 & 0xf);
    if number == Hypercall::CtrlSm as u64 && flags & DOWN != 0 && (c.rsi == 0 || c.rsi > now + p.patience) {
        c.rsi = now + c.rsi % p.patience.max(1);
    }
    if number == u64::from(abi::EXT_NUMBER) && p.ext_ops & 1 << flags == 0 {
        c.rdi |= 0xf0;
    }
}

fn call(h: Hypercall, flags: u64, sel: u64) -> Call {
    Call { rdi: h.identifier(flags as u8 & 0xf, sel), ..Call::default() }
}

fn ipc_call(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let flags = if r.one_in(32) { r.below(16) } else { r.below(4) };
    Call { rsi: mtd(r), ..call(Hypercall::IpcCall, flags, s.pick(r, Kind::Pt)) }
}

/// A message descriptor: few words mostly, and items.
fn mtd(r: &mut Random) -> u64 {
    if r.one_in(4) { r.any() } else { r.below(8) | r.below(12) << 16 }
}

fn ipc_reply(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    Call { rsi: mtd(r), ..call(Hypercall::IpcReply, r.below(16), s.anything(r)) }
}

fn create_pd(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let op = if r.one_in(16) { r.below(16) } else { r.below(9) };
    // Spaces of domains of our own, whose object and host space are still missing.
    Call { rsi: s.pick(r, Kind::Pd), rdx: r.below(64), ..call(Hypercall::CreatePd, op, s.pick_free(r)) }
}

fn cpu(r: &mut Random, p: &Place) -> u64 {
    match r.below(16) {
        0 => r.below(4096),
        1 => u64::from(p.cpus),
        2..6 => r.below(p.cpus.into()),
        _ => p.cpu.into(),
    }
}

/// An address for a page that is about to be mapped.
fn page_address(r: &mut Random, p: &Place) -> u64 {
    match r.below(128) {
        0 => p.own + (r.below(p.own_pages) << 12),
        1..8 => r.boundary(),
        _ => p.arena + (r.below(Place::ARENA_PAGES) << 12),
    }
}

fn events(r: &mut Random, s: &Slots, p: &Place) -> u64 {
    match r.below(8) {
        0 => s.anything(r),
        1 => r.any(),
        _ => fixed::EVENTS + 64 * if r.one_in(8) { r.below(p.cpus.into()) } else { p.cpu.into() },
    }
}

fn create_ec(r: &mut Random, s: &Slots, p: &Place, _: u64) -> Call {
    let flags = match r.below(8) {
        0 => r.below(16),
        1 => 1 | r.below(8),
        2 => 2 | r.below(2) << 2,
        _ => r.below(2) << 2,
    };
    let sp = if r.one_in(4) { r.boundary() } else { r.any() };
    Call {
        rsi: s.pick(r, Kind::Pd),
        rdx: page_address(r, p) & !0xfff | cpu(r, p) & 0xfff,
        rax: sp,
        r8: events(r, s, p),
        ..call(Hypercall::CreateEc, flags, s.pick_free(r))
    }
}

fn create_sc(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let scd = Scd { cos: r.below(2) as u16, prio: r.below(128) as u8, budget_ms: r.below(20) as u16 };
    let d = if r.one_in(4) { r.any() } else { scd.pack() };
    Call {
        rsi: s.pick(r, Kind::Pd),
        rdx: s.pick(r, Kind::Global),
        rax: d,
        ..call(Hypercall::CreateSc, flags(r), s.pick_free(r))
    }
}

/// Flags of a call that defines none.
fn flags(r: &mut Random) -> u64 {
    if r.one_in(16) { r.below(16) } else { 0 }
}

fn create_pt(r: &mut Random, s: &Slots, p: &Place, _: u64) -> Call {
    let ip = if r.one_in(32) { r.boundary() } else { r.of(&p.entries) };
    Call {
        rsi: s.pick(r, Kind::Pd),
        rdx: s.pick(r, Kind::Local),
        rax: ip,
        ..call(Hypercall::CreatePt, flags(r), s.pick_free(r))
    }
}

fn create_sm(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let count = if r.one_in(4) { r.any() } else { r.below(4) };
    Call { rsi: s.pick(r, Kind::Pd), rdx: count, ..call(Hypercall::CreateSm, flags(r), s.pick_free(r)) }
}

/// An order for `ctrl_pd`: large ones take long.
fn order(r: &mut Random) -> u64 {
    match r.below(512) {
        0 => r.below(32),
        1..64 => r.below(10),
        _ => 0,
    }
}

fn delegation(src: u64, dst: u64, from: u64, to: u64, order: u64, mask: u64) -> Call {
    let (rdx, rax) = (from << 12 | order & 0x1f, to << 12 | mask & 0x1f);
    Call { rsi: dst, rdx, rax, ..call(Hypercall::CtrlPd, 0, src) }
}

/// Takes away something of our own, so that there is room again.
fn revoke(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let kind = r.of(&[Kind::Pd, Kind::Sm, Kind::Local, Kind::Global, Kind::Pt, Kind::Hst]);
    let sel = s.pick(r, kind);
    let sel = if sel < fixed::SLOTS && !r.one_in(64) { s.anything(r) } else { sel };
    delegation(fixed::OBJ, fixed::OBJ, sel, sel, 0, 0)
}

fn mask(r: &mut Random) -> u64 {
    if r.one_in(3) { r.below(32) } else { 0x1f }
}

fn copy_objects(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let order = order(r);
    let align = !((1u64 << order) - 1);
    let kind = r.of(&[Kind::Pd, Kind::Obj, Kind::Hst, Kind::Local, Kind::Pt, Kind::Sm, Kind::Null]);
    // A space that holds itself keeps itself alive: rarely into others.
    let dst = if r.one_in(64) { s.pick(r, Kind::Obj) } else { fixed::OBJ };
    let (from, to) = (s.pick(r, kind) & align, s.pick_free(r) & align);
    let src = if r.one_in(8) { s.pick(r, Kind::Obj) } else { fixed::OBJ };
    delegation(src, dst, from, to, order, mask(r))
}

fn page(r: &mut Random, p: &Place) -> u64 {
    match r.below(64) {
        0 => r.any(),
        1 => r.boundary() >> 12,
        2..6 => p.own / 4096 + r.below(p.own_pages),
        6..12 => parent::layout::IMAGE / 4096 + r.below(64),
        _ => p.arena / 4096 + r.below(Place::ARENA_PAGES),
    }
}

fn copy_memory(r: &mut Random, s: &Slots, p: &Place, _: u64) -> Call {
    let order = order(r);
    let align = !((1u64 << order) - 1);
    let guest = r.one_in(4);
    let src = if r.one_in(8) { s.pick(r, Kind::Hst) } else { fixed::HST };
    let dst = if guest { s.pick(r, Kind::Gst) } else { s.pick(r, Kind::Hst) };
    let from = if r.one_in(3) { p.own / 4096 + r.below(p.own_pages) } else { page(r, p) };
    let to =
        if dst == fixed::HST && !r.one_in(256) { p.arena / 4096 + r.below(Place::ARENA_PAGES) } else { page(r, p) };
    // Foreign content in its own memory could let it wait for ever; without that memory it dies.
    let mask = if dst == fixed::HST && to.wrapping_sub(p.own / 4096) < p.own_pages { 0 } else { mask(r) };
    let mad = if r.one_in(8) { r.any() } else { r.below(8) };
    Call { r8: mad, ..delegation(src, dst, from & align, to & align, order, mask) }
}

fn copy_others(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let order = if r.one_in(64) { r.below(32) } else { r.below(6) };
    let align = !((1u64 << order) - 1);
    let (kind, from) = match r.below(4) {
        0 => (Kind::Pio, r.below(1 << 16)),
        1 => (Kind::Msr, r.below(0x2000) + if r.one_in(2) { 0xc000_0000 } else { 0 }),
        2 => (Kind::Gst, r.any()),
        _ => (r.of(&[Kind::Pio, Kind::Msr, Kind::Sm, Kind::Pd, Kind::Dma]), r.any()),
    };
    let from = from & align;
    let to = if r.one_in(8) { r.any() } else { from };
    delegation(s.pick(r, kind), s.pick(r, kind), from, to, order, mask(r))
}

fn ctrl_ec(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let kind = if r.one_in(2) { Kind::Local } else { Kind::Global };
    let strong = r.below(2);
    call(Hypercall::CtrlEc, strong | flags(r), s.pick(r, kind))
}

fn ctrl_sc(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    call(Hypercall::CtrlSc, flags(r), s.pick(r, Kind::Sc))
}

fn ctrl_pt(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let (pid, mtd) = (r.any(), r.any());
    Call { rsi: pid, rdx: mtd, ..call(Hypercall::CtrlPt, flags(r), s.pick(r, Kind::Pt)) }
}

fn ctrl_sm(r: &mut Random, s: &Slots, p: &Place, now: u64) -> Call {
    let at = match r.below(8) {
        0 => 1,
        1 => r.any(),
        2 => now + r.below(p.patience),
        _ => now + r.below(p.patience / 64),
    };
    let down = r.below(4) | flags(r);
    Call { rsi: at, ..call(Hypercall::CtrlSm, down, s.pick(r, Kind::Sm)) }
}

fn platform(r: &mut Random, s: &Slots, p: &Place, _: u64) -> Call {
    let (a, b) = (r.any(), r.any());
    match r.below(3) {
        0 => Call { rsi: a, rdx: b, ..call(Hypercall::CtrlHw, r.below(16), r.any()) },
        1 => Call { rsi: cpu(r, p), rdx: b, ..call(Hypercall::AssignInt, r.below(16), s.pick(r, Kind::Sm)) },
        _ => Call { rsi: a, rdx: b, ..call(Hypercall::AssignDev, flags(r), s.pick(r, Kind::Dma)) },
    }
}

/// Every number of hypercall 0xf.
fn extension(r: &mut Random, s: &Slots, p: &Place, _: u64) -> Call {
    let op = r.below(16) as u8;
    let small = if r.one_in(2) { r.below(70) } else { r.any() };
    let (sel, rsi, rdx) = match ExtOp::from_flags(op) {
        Some(ExtOp::Destroy) => {
            let kind =
                r.of(&[Kind::Pd, Kind::Obj, Kind::Hst, Kind::Gst, Kind::Pio, Kind::Msr, Kind::Local, Kind::Global]);
            let kind = if r.one_in(2) { r.of(&[Kind::Pt, Kind::Sm, Kind::Sc]) } else { kind };
            let sel = s.pick(r, kind);
            // What the worker itself stands on goes now and then, too.
            (if sel < fixed::SLOTS && !r.one_in(64) { s.anything(r) } else { sel }, r.any(), r.any())
        }
        Some(ExtOp::MoveQuota) => (s.pick(r, Kind::Pd), s.pick(r, Kind::Pd), small),
        Some(ExtOp::ReadQuota) => (s.pick(r, Kind::Pd), r.any(), r.any()),
        Some(ExtOp::SetWindow | ExtOp::GetState | ExtOp::SetState) => {
            let kind = if r.one_in(2) { Kind::Local } else { Kind::Global };
            let rsi = if r.one_in(2) { s.pick_free(r) } else { r.any() };
            (s.pick(r, kind), rsi, small)
        }
        _ => (s.anything(r), r.any(), small),
    };
    let rdi = sel << 8 | u64::from(op) << 4 | u64::from(abi::EXT_NUMBER);
    Call { rdi, rsi, rdx, rax: page_address(r, p), r8: r.any() }
}

/// No thought behind it.
fn garbage(r: &mut Random, s: &Slots, _: &Place, _: u64) -> Call {
    let rdi = if r.one_in(2) { r.any() } else { s.anything(r) << 8 | r.below(256) };
    Call { rdi, rsi: r.any(), rdx: r.any(), rax: r.any(), r8: r.any() }
}
