//! docs/spec/create_pt.md.

use crate::check::{Check, Outcome, done, equal, refused};
use crate::scene::{Local, Slot, call, cpu, entry, utcb_page};
use abi::{ArchState, Mtd, Sel, Status, perm};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};

pub const CHECKS: &[Check] = &[
    ("create_pt-4 create_pt-5 create_pt-6 create_pt-7 objects-40", "a new portal: identifier 0; CTRL, CALL", fresh),
    (
        "create_pt-1 create_pt-2 create_pt-8",
        "BAD_CAP: slot not null, beyond SEL_NUM, owner is no PD, no PT permission",
        bad_cap,
    ),
    ("create_pt-3 create_pt-9 spaces-18", "BAD_CAP: EC null, no EC, no BIND_PT, a global thread", bad_ec),
    ("create_pt-10 create_pt-11", "MEM_OBJ, MEM_CAP: accounts that are used up", no_memory),
    ("create_pt-12", "the address is cut to bits 46:0; a bad one is an exception when the portal is used", address),
    ("create_pt-13", "a portal to a dead EC can be made; calls are ABORTED", dead),
];

extern "C" fn tells_pid(pid: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the own UTCB.
    unsafe { u.write_volatile(pid) };
    0
}

extern "C" fn dies(_: u64, _: u64, _: *mut u64) -> u64 {
    // SAFETY: an exception without a handler, which kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

fn create(s: Sel, pd: Sel, ec: Sel) -> Result<(), Status> {
    // SAFETY: refused, or never entered.
    unsafe { hc::create_pt(s, pd, ec, 0x1000) }
}

fn fresh() -> Outcome {
    let l = Local::new(tells_pid, None)?;
    equal("PID with CALL", l.call(&[1]), Ok(vec![0]))?;
    done("ctrl_pt with CTRL", hc::ctrl_pt(l.portal.0, 5, 0))?;
    equal("PID", l.call(&[1]), Ok(vec![5]))
}

fn bad_cap() -> Outcome {
    let (l, null, sm) = (Local::new(tells_pid, None)?, Slot::new(), Slot::sm(0)?);
    let weak = Slot::masked(sel::PD, perm::ALL & !perm::Pd::PT.bits())?;
    refused("slot not null", create(sm.0, sel::PD, l.ec.0), Status::BadCap)?;
    refused("slot beyond SEL_NUM", create(abi::SEL_NUM, sel::PD, l.ec.0), Status::BadCap)?;
    refused("owner null", create(null.0, null.0, l.ec.0), Status::BadCap)?;
    refused("owner a semaphore", create(null.0, sm.0, l.ec.0), Status::BadCap)?;
    refused("owner without PT", create(null.0, weak.0, l.ec.0), Status::BadCap)
}

fn bad_ec() -> Outcome {
    let (l, s, null, sm) = (Local::new(tells_pid, None)?, Slot::new(), Slot::new(), Slot::sm(0)?);
    let weak = Slot::masked(l.ec.0, perm::ALL & !perm::Ec::BIND_PT.bits())?;
    let global = Slot::new();
    let a = EcArgs { utcb_page: utcb_page(), cpu: cpu(), global_or_offset: true, ..EcArgs::default() };
    // SAFETY: a fresh page, and it never runs.
    done("create_ec", unsafe { hc::create_ec(global.0, sel::PD, a) })?;
    for (what, ec) in
        [("null", null.0), ("semaphore", sm.0), ("no BIND_PT", weak.0), ("global", global.0), ("own EC", sel::EC)]
    {
        refused(what, create(s.0, sel::PD, ec), Status::BadCap)?;
    }
    Ok(())
}

fn dead() -> Outcome {
    let (l, s) = (Local::new(dies, None)?, Slot::new());
    refused("killed", l.call(&[1]), Status::Aborted)?;
    done("create_pt", create(s.0, sel::PD, l.ec.0))?;
    refused("call", call(s.0, &[1], false), Status::Aborted)
}

fn no_memory() -> Outcome {
    let l = Local::new(tells_pid, None)?;
    crate::poor::create(|s, pd| create(s, pd, l.ec.0))
}

fn address() -> Outcome {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    let react: crate::scene::React = Box::new(move |n, s: &mut ArchState| {
        log.lock().expect("log").push((n, s.rip, s.qual[1]));
        s.rip = entry();
        Mtd::RIP
    });
    let l = Local::new(tells_pid, Some(react))?;
    for high in [1 << 47, 1 << 63, 0xffff_8000_0000_0000u64] {
        let s = Slot::new();
        // SAFETY: the kernel cuts it to the address of the entry.
        done("create_pt", unsafe { hc::create_pt(s.0, sel::PD, l.ec.0, entry() | high) })?;
        equal(&format!("reply with {high:#x} added"), call(s.0, &[1], false), Ok(vec![0]))?;
    }
    equal("events", seen.lock().expect("seen").len(), 0)?;
    let s = Slot::new();
    // SAFETY: nothing is there; the handler goes on at the entry.
    done("create_pt", unsafe { hc::create_pt(s.0, sel::PD, l.ec.0, 0x1234) })?;
    equal("reply after the exception", call(s.0, &[1], false), Ok(vec![0]))?;
    equal("exception", seen.lock().expect("seen").clone(), vec![(14, 0x1234, 0x1234)])
}
