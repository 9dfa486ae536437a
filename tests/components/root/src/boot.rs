//! docs/spec/boot.md: what the root task finds.

use crate::check::{Check, NOT_HERE, Outcome, done, equal, holds, refused};
use crate::early::{self, found};
use crate::firmware::{self, available, free_memory, hip, modules};
use crate::own::sel;
use crate::scene::{
    DENIED, FETCH, NOT_MAPPED, PAGE, Slot, Touch, WRITE, copy, faults, in_ms, ms, peek, poke, sleep_ms, utcb_page,
    window, works,
};
use abi::{CreatePdOp, Mad, SEL_NUM, Scd, Status, perm, root_obj};
use rt::hypercall::{self as hc, EcArgs};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    ("boot-1 boot-28 boot-36", "registers at entry: boot loader's EAX and EBX, information page", registers),
    ("boot-2 boot-7 boot-40", "the first module is the root image, at a whole page; memory map", loaded),
    ("boot-34", "object space: five capabilities, and all else null", object_space),
    ("boot-38", "host space: image, information page, UTCB, and nothing else", host_space),
    ("boot-37", "a zeroed UTCB below the information page", utcb),
    ("boot-36", "the information page is read-only", information_page),
    ("boot-35", "segments have the access that the image names", segments),
    ("boot-23", "the image is where the boot loader put it", in_place),
    ("boot-29", "NOVA object space: TAKE", nova_space),
    ("boot-25 boot-30 boot-31 spaces-17", "root object space: TAKE, GRANT; root PD: all", own_space),
    ("boot-26 boot-32 boot-33", "root EC: on CPU 0, all permissions; root SC: CTRL", own_ec),
    ("boot-27", "root SC: priority 127, budget 1000 ms", own_sc),
    ("objects-56 boot-8", "the root PD's account has all kernel memory that was left", account),
];

fn registers() -> Outcome {
    let [rdi, rsi, rsp] = found().entry;
    equal("RDI", rdi & 0xffff_ffff, 0x36d7_6289)?;
    equal("RSP", rsp, (1 << 47) - PAGE)?;
    equal("RSP is the information page", rsp, std::ptr::from_ref(hip()).addr() as u64)?;
    holds("RSI is boot information", rsi != 0 && !firmware::boot_tags().is_empty())
}

fn loaded() -> Outcome {
    equal("first module", modules().first(), Some(&(hip().root_start, hip().root_end)))?;
    equal("offset in the page", (hip().root_start % PAGE, hip().nova_start % (2 << 20)), (0, 0))?;
    let inside = |a: u64| available().iter().any(|(s, e)| *s <= a && a < *e);
    holds("the kernel is in available memory", inside(hip().nova_start) && inside(hip().nova_end - 1))?;
    holds("there is free memory", free_memory().is_some())
}

fn object_space() -> Outcome {
    equal("not null of the first and of the last 512", found().slots, [0, 5])?;
    // In the first table are two that the copying needed; the last is the only other one with a capability.
    let [first, rest] = found().tables;
    holds("a copy of the first slots needs a table", first != u64::MAX && first > 0)?;
    equal("what a copy of all the rest needs: one more", rest, first)?;
    for s in [root_obj::ROOT_SC - 1, root_obj::NOVA_OBJ - 6] {
        done("an object fits there", hc::create_sm(s, sel::PD, 0))?;
        firmware::clear(s)?;
    }
    Ok(())
}

fn host_space() -> Outcome {
    let [image, rest] = found().mapped;
    holds("a copy of the image needs tables", image != u64::MAX && image > 0)?;
    equal("frames for a copy of all the rest", rest, 0)
}

fn utcb() -> Outcome {
    equal("words that were not zero", found().utcb_words, 0)?;
    let at = (1 << 47) - 2 * PAGE;
    works("write", at + 0xff0, Touch::Write)?;
    // A whole message goes through it.
    let (_t, pt) = crate::scene::server(Box::new(|_, mtd, _| mtd))?;
    rt::utcb().words[511] = 0x1234;
    done("ipc_call", hc::ipc_call(pt.0, 511, false))?;
    equal("its last word", peek(at + 0xff8), 0x1234)
}

fn information_page() -> Outcome {
    let at = (1 << 47) - PAGE;
    works("read", at, Touch::Read)?;
    faults("write", at, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    faults("fetch", at, Touch::Call, NOT_MAPPED | FETCH | DENIED)
}

#[inline(never)]
extern "C" fn returns() {
    std::hint::black_box(());
}

static WORD: AtomicU64 = AtomicU64::new(0x7777);

fn segments() -> Outcome {
    let (code, text, data) = (returns as *const () as u64, early::image_start(), WORD.as_ptr() as u64);
    works("call of code", code, Touch::Call)?;
    faults("write to code", code, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    works("read of the headers", text, Touch::Read)?;
    faults("call of the headers", text, Touch::Call, NOT_MAPPED | FETCH | DENIED)?;
    faults("write to the headers", text, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    works("write to data", data, Touch::Write)?;
    faults("call of data", data, Touch::Call, NOT_MAPPED | FETCH | DENIED)?;
    faults("below the image", text - PAGE, Touch::Read, NOT_MAPPED)?;
    faults("behind the image", early::image_end().next_multiple_of(PAGE), Touch::Read, NOT_MAPPED)
}

/// The frame that has a word of ours, as the ELF headers tell, seen through NOVA's space.
fn in_place() -> Outcome {
    let (start, w) = (hip().root_start, window());
    let virt = WORD.as_ptr() as u64;
    let header = early::image_start();
    let at = |a: u64, len: usize| peek(a & !7) >> (8 * (a & 7)) & (!0 >> (64 - 8 * len));
    let (phoff, phnum) = (at(header + 32, 8), at(header + 56, 2));
    let segment = (0..phnum).map(|i| header + phoff + 56 * i).find(|p| {
        let (kind, vaddr, len) = (at(*p, 4), at(*p + 16, 8), at(*p + 40, 8));
        kind == 1 && (vaddr..vaddr + len).contains(&virt)
    });
    let p = segment.ok_or("no segment has it")?;
    let phys = start + at(p + 8, 8) + (virt - at(p + 16, 8));
    done("map", firmware::map(phys & !(PAGE - 1), w, perm::Mem::R | perm::Mem::W, Mad::WB))?;
    for v in [0x1111_2222_3333_4444, 0x7777] {
        WORD.store(v, SeqCst);
        equal("seen where the boot loader put it", peek(w + phys % PAGE), v)?;
    }
    poke(w + phys % PAGE, 0x99);
    equal("written there", WORD.load(SeqCst), 0x99)
}

/// Which of TAKE and GRANT a capability to an object space has.
pub fn take_and_grant(space: abi::Sel, like: abi::Sel) -> Result<(bool, bool), String> {
    // SAFETY: nothing is moved, or a null capability.
    let r = |src, dst| unsafe { hc::ctrl_pd(src, dst, 0, 0, 0, 0, Mad::WB) };
    let (take, grant) = (r(space, like), r(like, space));
    match (take, grant) {
        (Ok(()) | Err(Status::BadCap), Ok(()) | Err(Status::BadCap)) => Ok((take.is_ok(), grant.is_ok())),
        other => Err(format!("unexpected {other:?}")),
    }
}

fn nova_space() -> Outcome {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let scratch = Slot::pd(CreatePdOp::Obj, pd.0)?;
    equal("TAKE, GRANT", take_and_grant(root_obj::NOVA_OBJ, scratch.0)?, (true, false))
}

fn own_space() -> Outcome {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let scratch = Slot::pd(CreatePdOp::Obj, pd.0)?;
    // SAFETY: an object space holds no memory.
    done("TAKE", unsafe { hc::ctrl_pd(sel::OBJ, scratch.0, 0, 0, 0, perm::ALL, Mad::WB) })?;
    let s = Slot::new();
    // SAFETY: as above.
    done("GRANT", unsafe { hc::ctrl_pd(scratch.0, sel::OBJ, 1, s.0, 0, perm::ALL, Mad::WB) })?;
    refused("a second object space", hc::create_pd(CreatePdOp::Obj, s.0, sel::PD), Status::Aborted)?;
    refused("a second host space", hc::create_pd(CreatePdOp::Hst, s.0, sel::PD), Status::Aborted)?;
    done("create_sm", hc::create_sm(s.0, sel::PD, 0))?;
    let (ec, sc, local, pt) = (Slot::new(), Slot::new(), Slot::new(), Slot::new());
    let args = EcArgs { utcb_page: utcb_page(), ..EcArgs::default() };
    // SAFETY: fresh pages; the one never runs on, the other is never called.
    unsafe {
        done("create_ec", hc::create_ec(local.0, sel::PD, args))?;
        let args = EcArgs { utcb_page: utcb_page(), global_or_offset: true, evt: SEL_NUM, ..EcArgs::default() };
        done("create_ec", hc::create_ec(ec.0, sel::PD, args))?;
        done("create_pt", hc::create_pt(pt.0, sel::PD, local.0, 0))?;
    }
    done("create_sc", hc::create_sc(sc.0, sel::PD, ec.0, Scd { cos: 0, prio: 1, budget_ms: 1 }))
}

fn own_ec() -> Outcome {
    equal("CPU of a portal that we can call", hip().cpu_bsp, 0)?;
    let s = Slot::new();
    let scd = Scd { cos: 0, prio: 1, budget_ms: 1 };
    refused("BIND_SC, and bound", hc::create_sc(s.0, sel::PD, root_obj::ROOT_EC, scd), Status::Aborted)?;
    // SAFETY: refused.
    let pt = unsafe { hc::create_pt(s.0, sel::PD, root_obj::ROOT_EC, 0) };
    refused("a portal to a global thread", pt, Status::BadCap)?;
    for (what, space, perms) in [("EC", root_obj::ROOT_EC, perm::ALL), ("SC", root_obj::ROOT_SC, perm::ALL)] {
        done(what, copy(space, s.0, perms))?;
        done("revoke", copy(s.0, s.0, 0))?;
    }
    let before = done("ctrl_sc with CTRL", hc::ctrl_sc(root_obj::ROOT_SC))?;
    crate::scene::spin_ms(2);
    let used = done("ctrl_sc", hc::ctrl_sc(root_obj::ROOT_SC))? - before;
    holds("the root SC is what we run on", used >= ms(2))
}

static FIRST_RAN: AtomicU64 = AtomicU64::new(0);

extern "C" fn notes_when(_: u64) -> ! {
    FIRST_RAN.store(rt::time::tsc(), SeqCst);
    // SAFETY: the handler kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

fn own_sc() -> Outcome {
    // Its turn begins anew when it has waited and others have run; the budget goes on where it was.
    let e = crate::create_sc::Thread::new(notes_when, 0)?;
    let begin = done("ctrl_sc", hc::ctrl_sc(root_obj::ROOT_SC))?;
    e.start(126, 10)?;
    sleep_ms(20);
    holds("one of priority 126 ran while we waited", FIRST_RAN.swap(0, SeqCst) != 0)?;
    let equal_one = crate::create_sc::Thread::new(notes_when, 0)?;
    equal_one.start(127, 10)?;
    let mut turns = Vec::new();
    for _ in 0..2 {
        let from = done("ctrl_sc", hc::ctrl_sc(root_obj::ROOT_SC))?;
        let end = in_ms(3000);
        while FIRST_RAN.load(SeqCst) == 0 && rt::time::tsc() < end {}
        holds("an equal runs when our budget is used up", FIRST_RAN.swap(0, SeqCst) != 0)?;
        turns.push(done("ctrl_sc", hc::ctrl_sc(root_obj::ROOT_SC))? - from);
        crate::create_sc::again(&equal_one, notes_when)?;
    }
    holds(&format!("a turn is 1000 ms: {turns:?}, begun at {begin}"), (ms(950)..=ms(1300)).contains(&turns[1]))
}

fn account() -> Outcome {
    let (limit, used) = done("read_quota", hc::read_quota(sel::PD))?;
    let frames = hip().kmem_total / PAGE;
    equal("kernel memory is a part of image and pool", hip().kmem_total < hip().nova_end - hip().nova_start, true)?;
    equal("16 MiB", hip().kmem_total, 16 << 20)?;
    holds(&format!("{used} of {limit} are used"), used < limit)?;
    holds(&format!("{limit} of {frames} were left at boot"), limit < frames && limit > frames * 9 / 10)
}

/// For those that need more than one CPU.
pub fn several_cpus() -> Outcome {
    if hip().cpu_num > 1 { Ok(()) } else { Err(format!("{NOT_HERE}one CPU")) }
}
