//! docs/spec/ctrl_pd.md.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{
    DENIED, FETCH, NOT_MAPPED, PAGE, Slot, Touch, WRITE, copy, faults, memory, ms, page, peek, poke, window, works,
};
use abi::{CreatePdOp, Mad, PAGE_SIZE, Sel, Status, perm, perm::Mem};
use bare::map;
use parent::{layout, sel};
use rt::Semaphore;
use rt::hypercall as hc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    ("ctrl_pd-2 ctrl_pd-10 ctrl_pd-15 spaces-21", "objects: permissions are masked", obj_mask),
    ("ctrl_pd-10", "objects: lost permissions do not come back", obj_no_gain),
    ("ctrl_pd-11 ctrl_pd-12 ctrl_pd-24 spaces-13", "objects: mask 0 revokes; a null source overwrites", obj_revoke),
    ("ctrl_pd-10", "objects: order 2 moves four slots and no more", obj_order),
    ("ctrl_pd-6 ctrl_pd-18", "BAD_PAR: misaligned", misaligned),
    ("ctrl_pd-7 ctrl_pd-19", "BAD_PAR: beyond the space", out_of_range),
    (
        "ctrl_pd-1 ctrl_pd-16 ctrl_pd-17 spaces-25",
        "BAD_CAP: no TAKE, no GRANT, no space, kinds that do not go together",
        bad_cap,
    ),
    ("ctrl_pd-3 ctrl_pd-10 spaces-2", "memory: an alias sees the same bytes both ways", alias),
    ("ctrl_pd-10 spaces-22", "memory: a read-only alias faults on write, and so does an alias of it", read_only),
    ("spaces-22 spaces-30", "memory: without XU a fetch faults", no_execute),
    ("ctrl_pd-12 ctrl_pd-24", "memory: revoking takes it away at once", mem_revoke),
    ("ctrl_pd-10 spaces-11", "memory: order 9, 2 MiB in one call, single pages taken out of it", large),
    ("ctrl_pd-10 ctrl_pd-12", "memory: order 31, 8 TiB in one call", huge),
    ("ctrl_pd-29", "while a large call goes on others run, and see parts of it", in_parts),
    ("ctrl_pd-30", "BAD_CAP: a capability that goes in the middle of a large call", cut_short),
    ("ctrl_pd-26", "revoking reaches no copies of copies", copies_stay),
    ("spaces-32", "memory: whatever is mapped at all can be read", readable),
    ("spaces-33", "memory: but a capability without R gives no R on", exact),
    ("objects-50", "objects: a call may overwrite the capabilities that it works with", overwrites_itself),
    ("ctrl_pd-11", "memory: a null source page overwrites", mem_null),
    ("ctrl_pd-34 ctrl_pd-35", "memory: with flag B it is there, and goes no further", bound),
    ("ctrl_pd-27 spaces-34 abi-11", "memory: UTCB pages read as null", utcb_source),
    ("ctrl_pd-28 spaces-9", "memory: the last user page cannot be mapped", last_page),
    (
        "ctrl_pd-4 ctrl_pd-5 ctrl_pd-8 ctrl_pd-19 ctrl_pd-20",
        "PIO, MSR: BAD_PAR if ssb is not dsb, or beyond the space",
        exit_spaces,
    ),
];

fn obj(ssb: Sel, dsb: Sel, ord: u32, pmm: u8) -> Result<(), Status> {
    // SAFETY: the object space holds no memory.
    unsafe { hc::ctrl_pd(sel::OBJ, sel::OBJ, ssb, dsb, ord, pmm, Mad::WB) }
}

const UP: u8 = perm::Sm::CTRL_UP.bits();
const DN: u8 = perm::Sm::CTRL_DN.bits();

fn obj_mask() -> Outcome {
    let sm = Slot::sm(1)?;
    let (up, dn) = (Slot::masked(sm.0, UP)?, Slot::masked(sm.0, DN)?);
    refused("up without CTRL_UP", hc::sm_up(dn.0), Status::BadCap)?;
    refused("down without CTRL_DN", hc::sm_down(up.0, false, Some(1)), Status::BadCap)?;
    done("down through the copy", hc::sm_down(dn.0, false, Some(1)))?;
    done("up through the copy", hc::sm_up(up.0))?;
    done("down through the original", hc::sm_down(sm.0, false, Some(1)))
}

fn obj_no_gain() -> Outcome {
    let sm = Slot::sm(0)?;
    let up = Slot::masked(sm.0, UP)?;
    let again = Slot::masked(up.0, perm::ALL)?;
    refused("down", hc::sm_down(again.0, false, Some(1)), Status::BadCap)?;
    done("up", hc::sm_up(again.0))
}

fn obj_revoke() -> Outcome {
    let (sm, null) = (Slot::sm(0)?, Slot::new());
    let other = Slot::masked(sm.0, perm::ALL)?;
    done("mask 0", copy(other.0, other.0, 0))?;
    refused("revoked", hc::sm_up(other.0), Status::BadCap)?;
    done("the original", hc::sm_up(sm.0))?;
    done("copy again", copy(sm.0, other.0, perm::ALL))?;
    done("null over it", copy(null.0, other.0, perm::ALL))?;
    refused("overwritten by null", hc::sm_up(other.0), Status::BadCap)?;
    done("copy with bits that are not there", copy(sm.0, other.0, perm::Space::ASSIGN.bits()))?;
    refused("no permission is left: null", hc::sm_up(other.0), Status::BadCap)?;
    done("so the slot is free", hc::create_sm(other.0, sel::PD, 0))
}

fn obj_order() -> Outcome {
    let from = rt::sel::alloc_range(4, 4).ok_or("selectors")?;
    let to = rt::sel::alloc_range(8, 8).ok_or("selectors")?;
    for i in 0..4 {
        done("create_sm", hc::create_sm(from + i, sel::PD, i))?;
    }
    done("order 2", obj(from, to, 2, DN))?;
    let counts = (0..4).map(|i| (0..9).take_while(|_| hc::sm_down(to + i, false, Some(1)).is_ok()).count());
    let counts: Vec<_> = counts.collect();
    refused("slot behind", hc::sm_down(to + 4, false, Some(1)), Status::BadCap)?;
    done("revoke order 3", obj(to, to, 3, 0))?;
    refused("revoked", hc::sm_down(to, false, Some(1)), Status::BadCap)?;
    (0..4).for_each(|i| rt::sel::free(from + i));
    (0..8).for_each(|i| rt::sel::free(to + i));
    equal("counters behind the four copies", counts, vec![0, 1, 2, 3])
}

fn misaligned() -> Outcome {
    let at = rt::sel::alloc_range(8, 8).ok_or("selectors")?;
    for (what, s, d, o) in [("ssb", at + 1, at, 1), ("dsb", at, at + 1, 1), ("ssb", at + 2, at + 4, 2)] {
        refused(&format!("objects, {what}"), obj(s, d, o, perm::ALL), Status::BadPar)?;
    }
    let w = window();
    // SAFETY: refused.
    unsafe {
        refused("memory, ssb", map(w + PAGE, w, 1, Mem::R), Status::BadPar)?;
        refused("memory, dsb", map(w, w + PAGE, 1, Mem::R), Status::BadPar)
    }
}

fn out_of_range() -> Outcome {
    let s = Slot::new();
    refused("objects, ssb", obj(abi::SEL_NUM, s.0, 0, 0), Status::BadPar)?;
    refused("objects, dsb", obj(s.0, abi::SEL_NUM, 0, 0), Status::BadPar)?;
    refused("objects, highest selector", obj((1 << 52) - 1, s.0, 0, 0), Status::BadPar)?;
    refused("objects, order 19", obj(0, 0, 19, 0), Status::BadPar)?;
    refused("objects, order 31", obj(0, 0, 31, 0), Status::BadPar)?;
    let end = 1 << 47;
    // SAFETY: refused.
    unsafe {
        refused("memory, ssb", map(end, window(), 0, Mem::R), Status::BadPar)?;
        refused("memory, dsb", map(window(), end, 0, Mem::R), Status::BadPar)?;
        refused("memory, the last page of a range", map(end - HUGE, end - HUGE, HUGE_ORDER, Mem::R), Status::BadPar)
    }
}

fn bad_cap() -> Outcome {
    let null = Slot::new();
    let take = perm::Space::TAKE.bits();
    let grant = perm::Space::GRANT.bits();
    let pio = Slot::pd(CreatePdOp::Pio, Slot::pd(CreatePdOp::Pd, sel::PD)?.0)?;
    let msr = Slot::pd(CreatePdOp::Msr, Slot::pd(CreatePdOp::Pd, sel::PD)?.0)?;
    let try_it = |what: &str, src: Sel, dst: Sel| {
        // SAFETY: refused.
        refused(what, unsafe { hc::ctrl_pd(src, dst, null.0, null.0, 0, 0, Mad::WB) }, Status::BadCap)
    };
    for (name, space) in [("object", sel::OBJ), ("host", sel::HST), ("PIO", pio.0), ("MSR", msr.0)] {
        let (t, g) = (Slot::masked(space, take)?, Slot::masked(space, grant)?);
        try_it(&format!("{name} space without TAKE"), g.0, space)?;
        try_it(&format!("{name} space without GRANT"), space, t.0)?;
        try_it(&format!("{name} space to a PD"), space, sel::PD)?;
        try_it(&format!("PD to {name} space"), sel::PD, space)?;
        try_it(&format!("{name} space to null"), space, null.0)?;
        try_it(&format!("null to {name} space"), null.0, space)?;
        for other in [sel::OBJ, sel::HST, pio.0, msr.0].into_iter().filter(|&o| o != space) {
            try_it(&format!("{name} space to one of another kind"), space, other)?;
        }
    }
    Ok(())
}

fn mem(from: u64, to: u64, ord: u32, perms: Mem) -> Outcome {
    // SAFETY: destinations are in windows of the check, sources memory that only it uses.
    done("delegation of memory", unsafe { map(from, to, ord, perms) })
}

fn alias() -> Outcome {
    let (p, w) = (page(), window());
    poke(p + 8, 0x1234_5678);
    mem(p, w, 0, Mem::R | Mem::W)?;
    equal("original's word through the alias", peek(w + 8), 0x1234_5678)?;
    poke(w + 0xff8, 0x9abc);
    equal("alias's word through the original", peek(p + 0xff8), 0x9abc)?;
    faults("page behind", w + PAGE, Touch::Read, NOT_MAPPED)
}

fn read_only() -> Outcome {
    let (p, w) = (page(), window());
    mem(p, w, 0, Mem::R)?;
    works("read", w, Touch::Read)?;
    faults("write", w + 5, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    let v = window();
    mem(w, v, 0, Mem::R | Mem::W)?;
    works("read of the alias's alias", v, Touch::Read)?;
    faults("write to the alias's alias", v, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    works("write to the original", p, Touch::Write)
}

fn no_execute() -> Outcome {
    let (p, w) = (page(), window());
    poke(p, 0xc3);
    mem(p, w, 0, Mem::R | Mem::W | Mem::XU)?;
    faults("fetch from RAM, which has no XU", p, Touch::Call, NOT_MAPPED | FETCH | DENIED)?;
    faults("fetch from an alias of it", w, Touch::Call, NOT_MAPPED | FETCH | DENIED)?;
    // A function that only returns, in our own image.
    let code = returns as *const () as u64;
    mem(code & !(PAGE - 1), w, 0, Mem::R | Mem::XU)?;
    works("call of an alias of our code", w + code % PAGE, Touch::Call)?;
    mem(code & !(PAGE - 1), w, 0, Mem::R)?;
    faults("the same without XU", w + code % PAGE, Touch::Call, NOT_MAPPED | FETCH | DENIED)
}

#[inline(never)]
extern "C" fn returns() {
    std::hint::black_box(());
}

fn mem_revoke() -> Outcome {
    let (p, w) = (page(), window());
    mem(p, w, 0, Mem::R | Mem::W)?;
    works("write", w, Touch::Write)?;
    mem(p, w, 0, Mem::R)?;
    faults("write after W was taken", w, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    mem(p, w, 0, Mem::empty())?;
    faults("read after all was taken", w, Touch::Read, NOT_MAPPED)?;
    works("the original", p, Touch::Write)
}

fn large() -> Outcome {
    const LEN: u64 = 2 << 20;
    let (p, w) = (memory(LEN as usize, LEN as usize), window());
    mem(p, w, 9, Mem::R | Mem::W)?;
    for at in [0, PAGE, LEN / 2 + 8, LEN - 8] {
        poke(p + at, at + 1);
        equal("word through the alias", peek(w + at), at + 1)?;
    }
    let hole = w + 100 * PAGE;
    mem(p, hole, 0, Mem::empty())?;
    faults("a page taken out", hole, Touch::Read, NOT_MAPPED)?;
    works("page before", hole - 1, Touch::Write)?;
    works("page behind", hole + PAGE, Touch::Write)?;
    mem(p + 7 * PAGE, hole, 0, Mem::R)?;
    poke(p + 7 * PAGE, 777);
    equal("another page in its place", peek(hole), 777)?;
    mem(p, w, 9, Mem::empty())?;
    for at in [0, 100 * PAGE, LEN - PAGE] {
        faults("all taken", w + at, Touch::Read, NOT_MAPPED)?;
    }
    Ok(())
}

const HUGE_ORDER: u32 = 31;
const HUGE: u64 = PAGE << HUGE_ORDER;
/// As much as that of addresses where nothing is, and nobody else maps anything.
const BARE: u64 = 0x4000_0000_0000;

/// Pages far from each other in a huge range.
fn landmarks() -> [u64; 5] {
    [BARE, BARE + (1 << 30), BARE + 513 * PAGE, BARE + HUGE / 2 - PAGE, BARE + HUGE - PAGE]
}

/// Maps the same page at all of them.
fn mark() -> Outcome {
    let p = page();
    landmarks().into_iter().try_for_each(|at| mem(p, at, 0, Mem::R | Mem::W))
}

fn huge() -> Outcome {
    mark()?;
    let p = page();
    mem(p, BARE + HUGE, 0, Mem::R)?;
    // To itself with fewer permissions.
    mem(BARE, BARE, HUGE_ORDER, Mem::R)?;
    for at in landmarks() {
        works("read", at, Touch::Read)?;
        faults("write after W was taken", at, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    }
    mem(BARE, BARE, HUGE_ORDER, Mem::empty())?;
    for at in landmarks() {
        faults("read after all was taken", at, Touch::Read, NOT_MAPPED)?;
    }
    works("the page behind", BARE + HUGE, Touch::Read)?;
    mem(p, BARE + HUGE, 0, Mem::empty())
}

/// State of the thread of a large call.
static STAGE: AtomicU64 = AtomicU64::new(0);
const IN_CALL: u64 = 1;

/// Runs a call of order 31 from `src` on a thread below our own; what it came to.
fn large_call(src: Sel) -> std::thread::JoinHandle<Result<(), Status>> {
    STAGE.store(0, SeqCst);
    rt::thread::set_spawn_priority(1);
    let t = std::thread::spawn(move || {
        STAGE.store(IN_CALL, SeqCst);
        // SAFETY: nothing relies on what is there.
        let r = unsafe { hc::ctrl_pd(src, sel::HST, BARE / PAGE, BARE / PAGE, HUGE_ORDER, 0, Mad::WB) };
        STAGE.store(2, SeqCst);
        r
    });
    rt::thread::set_spawn_priority(0);
    t
}

/// Sleeps a little, until the thread's call has begun. Whether it still goes on.
fn nap() -> bool {
    loop {
        Semaphore::new(0).down_until(rt::time::tsc() + ms(1) / 5);
        match STAGE.load(SeqCst) {
            0 => {}
            s => return s == IN_CALL,
        }
    }
}

fn in_parts() -> Outcome {
    mark()?;
    let t = large_call(sel::HST);
    // Once could be before it, or behind it.
    let during = (0..3).take_while(|_| nap()).count();
    let (first, last) = (landmarks()[0], landmarks()[4]);
    // The rest of the call takes longer than these two.
    let seen = faults("first page of a call that goes on", first, Touch::Read, NOT_MAPPED)
        .and_then(|()| works("last page of a call that goes on", last, Touch::Read));
    let still = nap();
    done("the call", t.join().map_err(|_| "panic")?)?;
    equal("naps in the middle of the call", during, 3)?;
    holds("the call still goes on after a look at its pages", still)?;
    seen?;
    faults("last page after the call", last, Touch::Read, NOT_MAPPED)
}

fn cut_short() -> Outcome {
    mark()?;
    let src = Slot::masked(sel::HST, perm::ALL)?;
    let t = large_call(src.0);
    let during = nap() && nap();
    done("revoke", copy(src.0, src.0, 0))?;
    let r = t.join().map_err(|_| "panic")?;
    holds("the call was going on", during)?;
    refused("the call", r, Status::BadCap)?;
    faults("first page", landmarks()[0], Touch::Read, NOT_MAPPED)?;
    works("last page", landmarks()[4], Touch::Read)?;
    mem(BARE, BARE, HUGE_ORDER, Mem::empty())
}

fn bound() -> Outcome {
    let (p, w, v) = (page(), window(), window());
    poke(p, 7);
    let given = |perms: Mem| {
        let (from, to) = (p / PAGE, w / PAGE);
        // SAFETY: the window is the check's.
        unsafe { hc::ctrl_pd_bound(sel::HST, sel::HST, from, to, 0, perms.bits(), Mad::WB) }
    };
    done("with B", given(Mem::R | Mem::W))?;
    works("write", w, Touch::Write)?;
    mem(p, v, 0, Mem::R)?;
    mem(w, v, 0, Mem::R | Mem::W)?;
    faults("what has been delegated from there", v, Touch::Read, NOT_MAPPED)?;
    works("there", w, Touch::Read)?;
    mem(p, w, 0, Mem::R)?;
    mem(w, v, 0, Mem::R)?;
    works("over it without B, and further", v, Touch::Read)?;
    done("with B and no permission", given(Mem::empty()))?;
    faults("after that", w, Touch::Read, NOT_MAPPED)?;
    works("what was delegated before", v, Touch::Read)
}

fn mem_null() -> Outcome {
    let (p, w, nothing) = (page(), window(), window());
    mem(p, w, 0, Mem::R)?;
    mem(nothing, w, 0, Mem::R)?;
    faults("after a null page", w, Touch::Read, NOT_MAPPED)
}

fn utcb_source() -> Outcome {
    let (p, w) = (page(), window());
    mem(p, w, 0, Mem::R)?;
    works("before", w, Touch::Read)?;
    mem(layout::UTCBS, w, 0, Mem::R | Mem::W)?;
    faults("alias of the own UTCB", w, Touch::Read, NOT_MAPPED)
}

fn last_page() -> Outcome {
    let last = (1 << 47) - PAGE_SIZE as u64;
    // SAFETY: refused.
    refused("destination", unsafe { map(page(), last, 0, Mem::R) }, Status::BadPar)
}

fn exit_spaces() -> Outcome {
    for (name, op, end) in [("PIO", CreatePdOp::Pio, 0x1_0000), ("MSR", CreatePdOp::Msr, 0xc000_2000)] {
        let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
        let (a, b) = (Slot::pd(op, pd.0)?, Slot::pd(op, pd.0)?);
        // SAFETY: these hold no memory.
        let move_ = |s, d, o| unsafe { hc::ctrl_pd(a.0, b.0, s, d, o, perm::ALL, Mad::WB) };
        done(&format!("{name}, ssb = dsb"), move_(0x80, 0x80, 3))?;
        refused(&format!("{name}, ssb not dsb"), move_(0x80, 0x81, 0), Status::BadPar)?;
        refused(&format!("{name}, misaligned"), move_(0x81, 0x81, 1), Status::BadPar)?;
        done(&format!("{name}, last"), move_(end - 1, end - 1, 0))?;
        refused(&format!("{name}, beyond"), move_(end, end, 0), Status::BadPar)?;
    }
    Ok(())
}

fn copies_stay() -> Outcome {
    let (p, a, b) = (page(), window(), window());
    mem(p, a, 0, Mem::R)?;
    mem(a, b, 0, Mem::R)?;
    mem(a, a, 0, Mem::empty())?;
    faults("the first copy", a, Touch::Read, NOT_MAPPED)?;
    works("the copy of it", b, Touch::Read)?;
    let sm = Slot::sm(0)?;
    let first = Slot::masked(sm.0, perm::ALL)?;
    let second = Slot::masked(first.0, perm::ALL)?;
    done("revoke", copy(first.0, first.0, 0))?;
    refused("the first copy", hc::sm_up(first.0), Status::BadCap)?;
    done("the copy of it", hc::sm_up(second.0))
}

fn readable() -> Outcome {
    let (p, w) = (page(), window());
    mem(p, w, 0, Mem::W)?;
    works("read where only W is", w, Touch::Read)?;
    works("write", w, Touch::Write)?;
    let code = returns as *const () as u64;
    mem(code & !(PAGE - 1), w, 0, Mem::XU)?;
    works("read where only XU is", w, Touch::Read)?;
    works("call", w + code % PAGE, Touch::Call)
}

fn exact() -> Outcome {
    let (p, a, b) = (page(), window(), window());
    mem(p, a, 0, Mem::W)?;
    mem(a, b, 0, Mem::R)?;
    faults("R of W", b, Touch::Read, NOT_MAPPED)?;
    mem(a, b, 0, Mem::R | Mem::W)?;
    works("write", b, Touch::Write)?;
    mem(b, b, 0, Mem::R)?;
    faults("R of R and W of W", b, Touch::Read, NOT_MAPPED)
}

fn overwrites_itself() -> Outcome {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let at = rt::sel::alloc_range(4, 4).ok_or("selectors")?;
    done("create_pd", hc::create_pd(CreatePdOp::Obj, at + 1, pd.0))?;
    let sm = Slot::sm(0)?;
    // SAFETY: object spaces hold no memory.
    unsafe {
        done("there", hc::ctrl_pd(sel::OBJ, at + 1, sm.0, 3, 0, perm::ALL, Mad::WB))?;
        // The source loses its own capability on the way.
        drop(pd);
        done("back", hc::ctrl_pd(at + 1, sel::OBJ, 0, at, 2, perm::ALL, Mad::WB))?;
    }
    done("what was behind it came", hc::sm_up(at + 3))?;
    done("null over the space", hc::create_sm(at + 1, sel::PD, 0))?;
    (0..4).for_each(|i| rt::sel::free(at + i));
    Ok(())
}
