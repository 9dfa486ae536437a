//! docs/spec/get_state.md and set_state.md, for threads. Virtual CPUs: `vcpu_tests`.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Global, Log, Slot, THREAD, THREAD_EVENTS, cpu, in_ms, memory, ms, sleep_ms, utcb_page};
use abi::{ArchState, CreatePdOp, ExtOp, Mad, Mtd, Sel, Status, Utcb, event, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall::{self as hc, EcArgs};
use rt::time::tsc;
use std::arch::global_asm;
use std::sync::Arc;

pub const CHECKS: &[Check] = &[
    (
        "get_state-1 get_state-3 get_state-4 get_state-5 get_state-7",
        "the registers of a blocked thread; what is not asked for stays in the UTCB",
        read,
    ),
    (
        "set_state-1 set_state-3 set_state-5 set_state-8",
        "a blocked thread goes on with other registers, and only with what was written",
        written,
    ),
    ("set_state-4", "RFLAGS: status and control flags only; RIP: a user address", flags),
    ("set_state-4 get_state-4", "groups that a thread has not, and POISON, do nothing", skipped),
    ("get_state-5 set_state-5", "a thread that has not started yet", unborn),
    ("set_state-14", "a thread in the middle of a destroy makes another one", another_call),
    ("get_state-8 set_state-9", "ABORTED: a dead thread", dead),
    ("get_state-9 set_state-10", "BAD_CAP: null, wrong type, no CTRL; nothing has changed", bad_cap),
    ("get_state-2 get_state-11 set_state-2 set_state-12", "BAD_PAR: the caller itself; nothing has changed", own),
];

/// What the thread of a check has in R12 while it is blocked.
const R12: u64 = 0x1212_3434_5656_7878;
const R12_INDEX: usize = 12;
const R13_INDEX: usize = 13;
/// Event of an undefined instruction.
const UD: u64 = 6;

// Downs the semaphore in RDI, then raises #UD: at `probe_state_woken`, or where it was sent meanwhile. At
// `probe_state_makes` it makes the hypercall in R12 before that.
global_asm!(
    "probe_state_waits:",
    "movabs r12, {r12}",
    "mov r13, rsp",
    "shl rdi, 8",
    "or rdi, {down}",
    "xor esi, esi",
    "syscall",
    "probe_state_woken:",
    "ud2",
    "probe_state_elsewhere:",
    "ud2",
    "probe_state_makes:",
    "mov rdi, r12",
    "syscall",
    "probe_state_made:",
    "ud2",
    r12 = const R12,
    down = const abi::Hypercall::CtrlSm.identifier(1, 0),
);

unsafe extern "C" {
    fn probe_state_waits(sm: u64) -> !;
    fn probe_state_woken();
    fn probe_state_elsewhere();
    fn probe_state_makes();
    fn probe_state_made();
}

extern "C" fn waits(sm: u64) -> ! {
    // SAFETY: it uses registers only; its handler kills it.
    unsafe { probe_state_waits(sm) }
}

/// A thread that is blocked, what it is blocked on, and its events.
struct Blocked {
    sm: Arc<Semaphore>,
    ec: Global,
    log: Log,
}

impl Blocked {
    fn new() -> Result<Blocked, String> {
        Blocked::below(0)
    }

    /// It has a priority so much below ours.
    fn below(lower: u64) -> Result<Blocked, String> {
        let sm = Arc::new(Semaphore::new(0));
        let (ec, log) = Global::new(waits, sm.sel(), lower, |_, _| Mtd::POISON)?;
        let end = in_ms(1000);
        while get(ec.ec.0, Mtd::RIP)?.rip != woken() && tsc() < end {
            sleep_ms(1);
        }
        equal("events of a blocked thread", log.lock().expect("log").len(), 1)?;
        Ok(Blocked { sm, ec, log })
    }

    /// Releases it: what it raises #UD with.
    fn end(&self) -> Result<ArchState, String> {
        equal("events of a blocked thread", self.log.lock().expect("log").len(), 1)?;
        self.sm.up();
        sleep_ms(5);
        let log = self.log.lock().expect("log");
        equal("events", log.iter().map(|e| e.0).collect(), vec![event::HST_STARTUP, UD])?;
        Ok(log[1].1)
    }
}

fn woken() -> u64 {
    probe_state_woken as *const () as u64
}

fn get(ec: u64, mtd: Mtd) -> Result<ArchState, String> {
    *rt::utcb().arch_mut() = ArchState::ZERO;
    done("get_state", hc::get_state(ec, mtd))?;
    Ok(*rt::utcb().arch())
}

fn set(ec: u64, mtd: Mtd, s: &ArchState) -> Result<(), Status> {
    *rt::utcb().arch_mut() = *s;
    // SAFETY: the threads of these checks run nothing but the code above.
    unsafe { hc::set_state(ec, mtd) }
}

fn read() -> Outcome {
    let b = Blocked::new()?;
    let s = get(b.ec.ec.0, THREAD)?;
    equal("RIP", s.rip, woken())?;
    equal("R12", s.gpr[R12_INDEX], R12)?;
    equal("RSP", s.gpr[ArchState::RSP], s.gpr[R13_INDEX])?;
    holds("RSP is on its stack", s.gpr[ArchState::RSP].abs_diff(b.ec.sp) < 256)?;
    equal("RFLAGS", s.rflags & 0x3202, 0x202)?;
    const MARK: u64 = 0x5555_aaaa_5555_aaaa;
    rt::utcb().words = [MARK; abi::UTCB_WORDS];
    done("get_state of RIP", hc::get_state(b.ec.ec.0, Mtd::RIP))?;
    let mut want = Utcb { words: [MARK; abi::UTCB_WORDS] };
    (want.arch_mut().rip, want.arch_mut().inst_len, want.arch_mut().inst_info) = (woken(), 0, 0);
    holds("the rest of the UTCB is as it was", rt::utcb().words == want.words)?;
    let end = b.end()?;
    equal("R12, R13 at the end", (end.gpr[R12_INDEX], end.gpr[R13_INDEX]), (R12, s.gpr[R13_INDEX]))?;
    equal("RIP at the end", end.rip, woken())
}

fn written() -> Outcome {
    let b = Blocked::new()?;
    let elsewhere = probe_state_elsewhere as *const () as u64;
    let mut s = get(b.ec.ec.0, THREAD)?;
    let before = s;
    (s.gpr[R12_INDEX], s.rip) = (7, elsewhere);
    s.gpr[ArchState::RBX] = 8;
    done("set_state", set(b.ec.ec.0, Mtd::GPR_8_15 | Mtd::RIP, &s))?;
    let now = get(b.ec.ec.0, THREAD)?;
    equal("RIP, R12, as read back", (now.rip, now.gpr[R12_INDEX]), (elsewhere, 7))?;
    let end = b.end()?;
    equal("RIP, R12 at the end", (end.rip, end.gpr[R12_INDEX]), (elsewhere, 7))?;
    equal("RBX, which was not written", end.gpr[ArchState::RBX], before.gpr[ArchState::RBX])?;
    equal("status of its down", end.gpr[ArchState::RDI], 0)
}

fn flags() -> Outcome {
    /// IF and bit 1 on; IOPL, VM, VIF and VIP off.
    const SYSTEM: u64 = 0x1a_3202;
    const USER: u64 = 0x202;
    let b = Blocked::new()?;
    let mut s = get(b.ec.ec.0, THREAD)?;
    for (v, carry) in [(u64::MAX, 1), (0, 0)] {
        s.rflags = v;
        done("set_state", set(b.ec.ec.0, Mtd::RFLAGS, &s))?;
        let now = get(b.ec.ec.0, Mtd::RFLAGS)?.rflags;
        equal("carry and the system's flags", (now & 1, now & SYSTEM), (carry, USER))?;
    }
    s.rip = u64::MAX;
    done("set_state", set(b.ec.ec.0, Mtd::RIP, &s))?;
    holds("RIP is a user address", get(b.ec.ec.0, Mtd::RIP)?.rip < 1 << 47)?;
    s.rip = woken();
    done("set_state", set(b.ec.ec.0, Mtd::RIP, &s))?;
    b.end().map(drop)
}

fn skipped() -> Outcome {
    let b = Blocked::new()?;
    let before = get(b.ec.ec.0, THREAD)?;
    let none = (Mtd::all() - THREAD) | Mtd::QUAL;
    done("set_state of other groups", set(b.ec.ec.0, none, &ArchState { rip: 1, rflags: 1, ..before }))?;
    let after = get(b.ec.ec.0, Mtd::all())?;
    equal("registers", (after.gpr, after.rip, after.rflags), (before.gpr, before.rip, before.rflags))?;
    b.end().map(drop)
}

/// An EC of the own domain that no SC is bound to.
fn without_sc(sp: u64) -> Result<Slot, String> {
    let ec = Slot::new();
    let evt = rt::sel::alloc_range(THREAD_EVENTS, 1).ok_or("no selectors")?;
    let args = EcArgs { utcb_page: utcb_page(), cpu: cpu(), sp, evt, guest: false, global_or_offset: true, fpu: false };
    // SAFETY: page and stack are new, and it never runs.
    done("create_ec", unsafe { hc::create_ec(ec.0, sel::PD, args) })?;
    Ok(ec)
}

fn unborn() -> Outcome {
    let sp = memory(64, 64);
    let ec = without_sc(sp)?;
    let mut s = get(ec.0, THREAD)?;
    equal("RSP", s.gpr[ArchState::RSP], sp)?;
    s.rip = woken();
    done("set_state", set(ec.0, Mtd::RIP, &s))?;
    equal("RIP", get(ec.0, Mtd::RIP)?.rip, woken())
}

/// An object space that takes long to take apart, also for an emulator whose timer is late: full tables.
fn large_space() -> Result<Slot, String> {
    // A PD has one.
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let (space, sm) = (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::sm(0)?);
    let fill = |from: Sel, source, to: Sel, order| {
        // SAFETY: an object space holds no memory.
        let given = unsafe { hc::ctrl_pd(from, space.0, source, to, order, perm::ALL, Mad::WB) };
        done("fill an object space", given)
    };
    fill(sel::OBJ, sm.0, 0, 0)?;
    (0..9).try_for_each(|order| fill(space.0, 0, 1 << order, order))?;
    (1..96).try_for_each(|leaf| fill(space.0, 0, leaf << 9, 9))?;
    Ok(space)
}

fn another_call() -> Outcome {
    let destroys = |s: &Slot| ExtOp::Destroy.identifier(s.0);
    let (makes, made) = (probe_state_makes as *const () as u64, probe_state_made as *const () as u64);
    for n in 1..100 {
        let (first, second, b) = (large_space()?, Slot::sm(0)?, Blocked::below(1)?);
        let mut s = get(b.ec.ec.0, THREAD)?;
        (s.rip, s.gpr[R12_INDEX]) = (makes, destroys(&first));
        done("set_state", set(b.ec.ec.0, Mtd::GPR_8_15 | Mtd::RIP, &s))?;
        b.sm.up();
        Semaphore::new(0).down_until(tsc() + ms(1) * n / 20);
        let now = get(b.ec.ec.0, THREAD).ok();
        let middle = now.filter(|s| (s.rip, s.gpr[ArchState::RDI]) == (made, destroys(&first)));
        if let Some(mut s) = middle {
            s.gpr[ArchState::RDI] = destroys(&second);
            done("set_state in the middle", set(b.ec.ec.0, Mtd::GPR_0_7, &s))?;
        }
        let end = in_ms(3000);
        while b.log.lock().expect("log").len() < 2 && tsc() < end {
            sleep_ms(1);
        }
        let last = b.log.lock().expect("log").last().map(|e| (e.0, e.1.gpr[ArchState::RDI]));
        if middle.is_none() {
            // Too early or too late.
            continue;
        }
        equal("event, and status of the hypercall", last, Some((UD, Status::Success as u64)))?;
        refused("up of the second object", hc::sm_up(second.0), Status::BadCap)?;
        // SAFETY: an object space of this check.
        return refused("the first object", unsafe { hc::destroy(first.0) }, Status::BadCap);
    }
    Err("a destroy was never met in the middle".into())
}

fn dead() -> Outcome {
    let b = Blocked::new()?;
    b.end()?;
    let before = *rt::utcb().arch();
    refused("get_state", hc::get_state(b.ec.ec.0, THREAD), Status::Aborted)?;
    equal("UTCB", *rt::utcb().arch(), before)?;
    refused("set_state", set(b.ec.ec.0, THREAD, &before), Status::Aborted)
}

fn bad_cap() -> Outcome {
    let b = Blocked::new()?;
    let before = get(b.ec.ec.0, THREAD)?;
    let (null, weak) = (Slot::new(), Slot::masked(b.ec.ec.0, perm::ALL & !perm::Ec::CTRL.bits())?);
    for (what, s) in [("null", null.0), ("SEL_NUM", abi::SEL_NUM), ("PD", sel::PD), ("no CTRL", weak.0)] {
        *rt::utcb().arch_mut() = ArchState::ZERO;
        refused(what, hc::get_state(s, THREAD), Status::BadCap)?;
        equal("UTCB", *rt::utcb().arch(), ArchState::ZERO)?;
        refused(what, set(s, THREAD, &ArchState::ZERO), Status::BadCap)?;
    }
    equal("state", get(b.ec.ec.0, THREAD)?, before)?;
    b.end().map(drop)
}

fn own() -> Outcome {
    // This thread's own, so that going on shows that nothing has changed.
    *rt::utcb().arch_mut() = ArchState::ZERO;
    refused("get_state", hc::get_state(sel::EC, THREAD), Status::BadPar)?;
    equal("UTCB", *rt::utcb().arch(), ArchState::ZERO)?;
    refused("set_state", set(sel::EC, THREAD, &ArchState::ZERO), Status::BadPar)
}
