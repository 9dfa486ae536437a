//! docs/spec/create_sc.md: only a root task has a PD capability with SC.

use crate::check::{Check, NOT_HERE, Outcome, done, equal, holds, refused};
use crate::own::sel;
use crate::scene::{Events, Slot, THREAD, THREAD_EVENTS, copy, memory, sleep_ms, utcb_page};
use abi::{ArchState, Hypercall, Mtd, SEL_NUM, Scd, Sel, Status, event, perm};
use rt::hypercall::{self as hc, EcArgs};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    ("create_sc-4 create_sc-5 create_sc-7 spaces-19", "a new SC: its EC raises STARTUP; CTRL", fresh),
    ("create_sc-6 objects-32", "of higher priority than the caller: it runs first; of lower: not", runs_first),
    (
        "create_sc-1 create_sc-2 create_sc-9",
        "BAD_CAP: slot not null, beyond SEL_NUM, owner is no PD, no SC permission",
        bad_cap,
    ),
    ("create_sc-3 create_sc-10", "BAD_CAP: EC null, no EC, no BIND_SC, a local thread", bad_ec),
    ("create_sc-8", "ABORTED: the EC has an SC, or is dead", aborted),
    ("create_sc-11 create_sc-12 create_sc-13 abi-96", "BAD_PAR: budget 0, priority 0, class of service", bad_par),
    ("create_sc-16", "all priorities from 1 to 127", priorities),
    ("create_sc-14 create_sc-15", "MEM_OBJ, MEM_CAP: accounts that are used up", no_memory),
    ("create_sc-14 create_sc-15 objects-58", "each allocation fails once", injected),
];

/// A global thread without an SC, whose STARTUP is answered with a function.
pub struct Thread {
    /// EC.
    pub ec: Slot,
    /// SC.
    pub sc: Slot,
    _events: Events,
}

static RUNS: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);

impl Thread {
    /// Runs `body(arg)` once it has an SC; any other event ends it.
    pub fn new(body: extern "C" fn(u64) -> !, arg: u64) -> Result<Thread, String> {
        let body = body as *const () as u64;
        let events = Events::new(
            THREAD_EVENTS,
            THREAD,
            Some(Box::new(move |n, s| {
                if n != event::HST_STARTUP {
                    return Mtd::POISON;
                }
                (s.rip, s.gpr[ArchState::RDI]) = (body, arg);
                Mtd::GPR_0_7 | Mtd::RIP
            })),
        )?;
        let ec = Slot::new();
        let top = memory(16 << 10, 16) + (16 << 10) - 8;
        let args = EcArgs {
            utcb_page: utcb_page(),
            sp: top,
            evt: events.base,
            global_or_offset: true,
            fpu: true,
            ..EcArgs::default()
        };
        // SAFETY: page and stack are new, and it is started at `body` only.
        done("create_ec", unsafe { hc::create_ec(ec.0, sel::PD, args) })?;
        Ok(Thread { ec, sc: Slot::new(), _events: events })
    }

    /// Gives it an SC.
    pub fn start(&self, prio: u8, budget_ms: u16) -> Result<(), String> {
        done("create_sc", create(self.sc.0, sel::PD, self.ec.0, Scd { cos: 0, prio, budget_ms }))
    }

    /// Time that it has consumed.
    pub fn consumed(&self) -> Result<u64, String> {
        done("ctrl_sc", hc::ctrl_sc(self.sc.0))
    }
}

/// Another thread in the place of one that has ended, with the same body, priority and budget.
pub fn again(_: &Thread, body: extern "C" fn(u64) -> !) -> Result<(), String> {
    let t = Thread::new(body, 0)?;
    t.start(127, 10)?;
    std::mem::forget(t);
    Ok(())
}

const SCD: Scd = Scd { cos: 0, prio: 1, budget_ms: 10 };

fn create(s: Sel, pd: Sel, ec: Sel, scd: Scd) -> Result<(), Status> {
    hc::create_sc(s, pd, ec, scd)
}

extern "C" fn notes(arg: u64) -> ! {
    RUNS.fetch_add(1, SeqCst);
    LAST.store(arg, SeqCst);
    // SAFETY: the handler kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

/// Runs so far, when threads of the checks before are done.
fn runs() -> u64 {
    loop {
        let n = RUNS.load(SeqCst);
        sleep_ms(20);
        if RUNS.load(SeqCst) == n {
            return n;
        }
    }
}

fn fresh() -> Outcome {
    let (t, before) = (Thread::new(notes, 4711)?, RUNS.load(SeqCst));
    t.start(50, 10)?;
    sleep_ms(5);
    equal("it has run", (RUNS.load(SeqCst), LAST.load(SeqCst)), (before + 1, 4711))?;
    holds("ctrl_sc with CTRL", t.consumed()? > 0)?;
    // No other permission is there: a copy with all but CTRL is null.
    let s = Slot::masked(t.sc.0, perm::ALL & !perm::Sc::CTRL.bits())?;
    done("null", hc::create_sm(s.0, sel::PD, 0))
}

fn runs_first() -> Outcome {
    let t = std::thread::spawn(|| {
        let (lower, higher) = (Thread::new(notes, 1)?, Thread::new(notes, 2)?);
        let before = RUNS.load(SeqCst);
        lower.start(20, 10)?;
        let low = RUNS.load(SeqCst) - before;
        higher.start(126, 10)?;
        let high = RUNS.load(SeqCst) - before;
        sleep_ms(5);
        equal("have run: after the lower, after the higher, in the end", (low, high), (0, 1))?;
        equal("in the end", RUNS.load(SeqCst) - before, 2)
    });
    t.join().map_err(|_| "panic")?
}

fn bad_cap() -> Outcome {
    let (t, s, sm) = (Thread::new(notes, 0)?, Slot::new(), Slot::sm(0)?);
    let weak = Slot::masked(sel::PD, perm::ALL & !perm::Pd::SC.bits())?;
    let before = runs();
    refused("slot not null", create(sm.0, sel::PD, t.ec.0, SCD), Status::BadCap)?;
    refused("slot beyond SEL_NUM", create(SEL_NUM, sel::PD, t.ec.0, SCD), Status::BadCap)?;
    for (what, pd) in [("null", s.0), ("semaphore", sm.0), ("no SC", weak.0), ("beyond", SEL_NUM), ("EC", t.ec.0)] {
        refused(&format!("owner {what}"), create(s.0, pd, t.ec.0, SCD), Status::BadCap)?;
    }
    sleep_ms(2);
    equal("nothing has run", RUNS.load(SeqCst), before)?;
    done("the slot stayed null, the EC free", create(s.0, sel::PD, t.ec.0, SCD))
}

fn bad_ec() -> Outcome {
    let (t, s, sm, local) = (Thread::new(notes, 0)?, Slot::new(), Slot::sm(0)?, Slot::new());
    let weak = Slot::masked(t.ec.0, perm::ALL & !perm::Ec::BIND_SC.bits())?;
    let args = EcArgs { utcb_page: utcb_page(), ..EcArgs::default() };
    // SAFETY: a fresh page; it is never called.
    done("create_ec", unsafe { hc::create_ec(local.0, sel::PD, args) })?;
    for (what, ec) in [
        ("null", s.0),
        ("beyond SEL_NUM", SEL_NUM),
        ("semaphore", sm.0),
        ("PD", sel::PD),
        ("no BIND_SC", weak.0),
        ("local thread", local.0),
    ] {
        refused(what, create(s.0, sel::PD, ec, SCD), Status::BadCap)?;
    }
    done("the slot stayed null", create(s.0, sel::PD, t.ec.0, SCD))
}

fn aborted() -> Outcome {
    let (t, s) = (Thread::new(notes, 0)?, Slot::new());
    t.start(50, 10)?;
    refused("it has one", create(s.0, sel::PD, t.ec.0, SCD), Status::Aborted)?;
    sleep_ms(5);
    refused("it is dead", create(s.0, sel::PD, t.ec.0, SCD), Status::Aborted)?;
    refused(
        "its SC is gone, too",
        {
            drop(t.sc);
            create(s.0, sel::PD, t.ec.0, SCD)
        },
        Status::Aborted,
    )?;
    done("the slot stayed null", hc::create_sm(s.0, sel::PD, 0))
}

fn bad_par() -> Outcome {
    let (t, s) = (Thread::new(notes, 0)?, Slot::new());
    let before = runs();
    for (what, scd) in [
        ("budget 0", Scd { budget_ms: 0, ..SCD }),
        ("priority 0", Scd { prio: 0, ..SCD }),
        ("class of service 1", Scd { cos: 1, ..SCD }),
        ("class of service 0xffff", Scd { cos: 0xffff, ..SCD }),
    ] {
        refused(what, create(s.0, sel::PD, t.ec.0, scd), Status::BadPar)?;
    }
    sleep_ms(2);
    equal("nothing has run", RUNS.load(SeqCst), before)?;
    // Bits above the descriptor have no meaning.
    let raw = Hypercall::CreateSc.identifier(0, s.0);
    let status: u64;
    // SAFETY: an SC for a thread of ours.
    unsafe {
        std::arch::asm!("syscall", inlateout("rdi") raw => status, inlateout("rsi") sel::PD => _,
            inlateout("rdx") t.ec.0 => _, inlateout("rax") SCD.pack() | 0x7f << 39 => _, lateout("rcx") _,
            lateout("r11") _, clobber_abi("C"));
    }
    equal("bits 63:39 set", status, 0)
}

fn priorities() -> Outcome {
    // Those of checks before, too.
    sleep_ms(10);
    let before = RUNS.load(SeqCst);
    let threads: Vec<_> =
        (1..=127).step_by(9).map(|p| Ok((p, Thread::new(notes, 0)?))).collect::<Result<_, String>>()?;
    for (prio, t) in &threads {
        t.start(*prio, 1)?;
    }
    sleep_ms(20);
    equal("have run", RUNS.load(SeqCst) - before, threads.len() as u64)
}

fn no_memory() -> Outcome {
    let t = Thread::new(notes, 0)?;
    crate::poor::create(|s, pd| create(s, pd, t.ec.0, SCD))?;
    done("the EC is free", create(Slot::new().0, sel::PD, t.ec.0, SCD))
}

/// For n = 1, 2, ...: the n-th allocation fails, until there is none. Each time nothing has changed, and then it works.
fn injected() -> Outcome {
    if hc::inject(0).is_err() {
        return Err(format!("{NOT_HERE}this kernel makes no allocation fail"));
    }
    for n in 1.. {
        // Each time a slot that has no table yet.
        let (t, owner, far) = (Thread::new(notes, 0)?, Slot::new(), SEL_NUM / 2 + 0x1000 + n * 0x200);
        done("create_account", hc::create_account(owner.0, sel::PD, 4))?;
        let levels = || [owner.0, sel::PD].map(hc::read_quota);
        let before = levels();
        done("inject", hc::inject(n))?;
        let r = create(far, owner.0, t.ec.0, SCD);
        done("inject", hc::inject(0))?;
        match r {
            // The object's frame, and two for the table.
            Ok(()) => holds("allocations fail one after the other", n > 3)?,
            Err(Status::MemObj | Status::MemCap) => {
                equal(&format!("levels after allocation {n} failed"), levels(), before)?;
                done("create_sc after that", create(far, owner.0, t.ec.0, SCD))?;
            }
            Err(e) => return Err(format!("allocation {n}: {e:?}")),
        }
        // It runs to its end.
        runs();
        done("revoke", copy(far, far, 0))?;
        if r.is_ok() {
            return Ok(());
        }
    }
    Ok(())
}
