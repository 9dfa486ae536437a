//! docs/spec/create_ec.md.

use crate::check::{Check, Outcome, done, equal, refused};
use crate::scene::{
    FETCH, Global, Local, NOT_MAPPED, Slot, Touch, arrives, copy, cpu, faults, page, peek, poke, utcb_page, window,
};
use abi::{ArchState, CreatePdOp, Mtd, Sel, Status, event, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall::{self as hc, EcArgs};
use std::sync::Arc;

pub const CHECKS: &[Check] = &[
    (
        "create_ec-10 create_ec-16 create_ec-25 abi-11",
        "a zeroed UTCB is mapped, in place of what was there, and goes with the EC",
        utcb,
    ),
    (
        "create_ec-2 create_ec-11 create_ec-14 objects-8 objects-10 abi-87",
        "a global thread raises STARTUP with its stack pointer",
        startup,
    ),
    ("create_ec-4 objects-31 abi-92", "an EC without F gets #NM; with F it does not", vector_unit),
    ("create_ec-15 spaces-18", "a new EC: CTRL and BIND_PT", permissions),
    ("create_ec-7 create_ec-17", "ABORTED: the PD lacks spaces", no_spaces),
    (
        "create_ec-5 create_ec-6 create_ec-18",
        "BAD_CAP: slot not null, beyond SEL_NUM, owner is no PD, no EC permission",
        bad_cap,
    ),
    ("create_ec-13", "a virtual CPU's APIC page: mapped where there is a TPR shadow; BAD_PAR elsewhere too", apic_page),
    ("create_ec-19", "BAD_CPU: no such CPU", bad_cpu),
    ("create_ec-21", "BAD_PAR: UTCB not at a user address", bad_address),
    ("create_ec-1 create_ec-20", "BAD_FTR: a virtual CPU where there are no guests", no_guests),
];

fn args(utcb: u64) -> EcArgs {
    EcArgs { utcb_page: utcb, cpu: cpu(), ..EcArgs::default() }
}

fn create(s: Sel, pd: Sel, a: EcArgs) -> Result<(), Status> {
    // SAFETY: the address is one where nothing is, or the call is refused; the EC never runs.
    unsafe { hc::create_ec(s, pd, a) }
}

/// What nothing refers to any more is destroyed, with several CPUs too: reading the account waits for that.
fn gone() -> Outcome {
    done("read_quota", hc::read_quota(sel::PD)).map(drop)
}

fn utcb() -> Outcome {
    let (at, p) = (window(), page());
    poke(p, 0x5a5a);
    // SAFETY: nothing is in the window.
    done("map", unsafe { bare::map(p, at, 0, perm::Mem::R | perm::Mem::W) })?;
    equal("before", peek(at), 0x5a5a)?;
    let ec = Slot::new();
    done("create_ec", create(ec.0, sel::PD, args(at)))?;
    equal("first and last word", (peek(at), peek(at + 0xff8)), (0, 0))?;
    poke(at + 8, 3);
    equal("writable", peek(at + 8), 3)?;
    faults("not executable", at, Touch::Call, FETCH | NOT_MAPPED | 1)?;
    drop(ec);
    gone()?;
    faults("after the EC", at, Touch::Read, NOT_MAPPED)?;
    equal("the page that was there", peek(p), 0x5a5a)
}

/// Ups the semaphore and raises #UD.
extern "C" fn ups(sm: u64) -> ! {
    let _ = hc::sm_up(sm);
    // SAFETY: the handler kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

fn startup() -> Outcome {
    let ran = Arc::new(Semaphore::new(0));
    let (g, log) = Global::new(ups, ran.sel(), 0, |_, _| Mtd::POISON)?;
    arrives("the thread", &ran)?;
    Semaphore::new(0).down_until(crate::scene::in_ms(5));
    let log = log.lock().expect("log");
    equal("events", log.iter().map(|e| e.0).collect(), vec![event::HST_STARTUP, 6])?;
    let s = log[0].1;
    equal("RSP", s.gpr[ArchState::RSP], g.sp)?;
    equal("RFLAGS", s.rflags, 0x202)?;
    equal("RSP at #UD", log[1].1.gpr[ArchState::RSP] <= s.gpr[ArchState::RSP], true)
}

extern "C" fn uses_vectors(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the handler skips the instruction (3 bytes); the own UTCB.
    unsafe {
        std::arch::asm!("movaps xmm0, xmm0", out("xmm0") _);
        u.write_volatile(77);
    }
    0
}

fn vector_unit() -> Outcome {
    for (fpu, want) in [(false, vec![7]), (true, vec![])] {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let s = seen.clone();
        let l = Local::with(
            uses_vectors,
            Some(Box::new(move |n, state| {
                s.lock().expect("seen").push(n);
                state.rip += 3;
                Mtd::RIP
            })),
            fpu,
        )?;
        equal("reply", l.call(&[0]), Ok(vec![77]))?;
        equal(&format!("events, F = {fpu}"), seen.lock().expect("seen").clone(), want)?;
    }
    Ok(())
}

fn permissions() -> Outcome {
    let (ec, pt) = (Slot::new(), Slot::new());
    done("create_ec", create(ec.0, sel::PD, args(utcb_page())))?;
    done("ctrl_ec with CTRL", hc::ctrl_ec(ec.0, false))?;
    // SAFETY: never called.
    done("create_pt with BIND_PT", unsafe { hc::create_pt(pt.0, sel::PD, ec.0, 0) })
}

fn no_spaces() -> Outcome {
    let (pd, ec) = (Slot::pd(CreatePdOp::Pd, sel::PD)?, Slot::new());
    refused("no space", create(ec.0, pd.0, args(0x1000)), Status::Aborted)?;
    let _obj = Slot::pd(CreatePdOp::Obj, pd.0)?;
    refused("object space only", create(ec.0, pd.0, args(0x1000)), Status::Aborted)?;
    let _hst = Slot::pd(CreatePdOp::Hst, pd.0)?;
    done("both", create(ec.0, pd.0, args(0x1000)))
}

fn bad_cap() -> Outcome {
    let (null, sm) = (Slot::new(), Slot::sm(0)?);
    let weak = Slot::masked(sel::PD, perm::ALL & !perm::Pd::EC.bits())?;
    let a = args(utcb_page());
    refused("slot not null", create(sm.0, sel::PD, a), Status::BadCap)?;
    refused("slot beyond SEL_NUM", create(abi::SEL_NUM, sel::PD, a), Status::BadCap)?;
    refused("owner null", create(null.0, null.0, a), Status::BadCap)?;
    refused("owner a semaphore", create(null.0, sm.0, a), Status::BadCap)?;
    refused("owner without EC", create(null.0, weak.0, a), Status::BadCap)?;
    refused("the slot stayed null", copy(null.0, null.0, perm::ALL).and(hc::sm_up(null.0)), Status::BadCap)
}

fn bad_cpu() -> Outcome {
    let cpus = rt::start_info().map_or(1, |i| i.cpus as u16);
    for cpu in [cpus, 0xfff] {
        let a = EcArgs { cpu, ..args(utcb_page()) };
        refused(&format!("CPU {cpu}"), create(Slot::new().0, sel::PD, a), Status::BadCpu)?;
    }
    Ok(())
}

fn bad_address() -> Outcome {
    for at in [1u64 << 47, 0xffff_8000_0000_0000, !0xfff] {
        refused(&format!("{at:#x}"), create(Slot::new().0, sel::PD, args(at)), Status::BadPar)?;
    }
    Ok(())
}

fn no_guests() -> Outcome {
    let s = Slot::new();
    let guests_here =
        rt::start_info().is_some_and(|i| i.features & (abi::Features::VMX | abi::Features::SVM).bits() != 0);
    let want = if guests_here { Ok(()) } else { Err(Status::BadFtr) };
    equal("G=1", create(s.0, sel::PD, EcArgs { guest: true, ..args(utcb_page()) }), want)
}

fn apic_page() -> Outcome {
    if rt::start_info().is_none_or(|i| i.features & (abi::Features::VMX | abi::Features::SVM).bits() == 0) {
        return Err(format!("{}no guests", crate::check::NOT_HERE));
    }
    let (s, at) = (Slot::new(), window());
    let guest = |utcb| EcArgs { guest: true, ..args(utcb) };
    refused("kernel half", create(s.0, sel::PD, guest(1 << 47)), Status::BadPar)?;
    done("create_ec", create(s.0, sel::PD, guest(at)))?;
    // The CPUs here that have VT-x have a TPR shadow; SVM has none.
    let facts = crate::guest::facts();
    if facts.vendor == vcpu_tests::Vendor::Svm || !facts.cr8 {
        return faults("no page", at, Touch::Read, NOT_MAPPED);
    }
    equal("its task priority", peek(at + 0x80), 0)?;
    drop(s);
    gone()?;
    faults("after the virtual CPU", at, Touch::Read, NOT_MAPPED)
}
