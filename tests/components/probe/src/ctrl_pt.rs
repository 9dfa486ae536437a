//! docs/spec/ctrl_pt.md.

use crate::check::{Check, Outcome, done, equal, refused};
use crate::scene::{Local, Slot, cpu, server};
use abi::{ArchState, Mtd, Status, perm};
use parent::sel;
use rt::hypercall as hc;
use std::sync::{Arc, Mutex};

pub const CHECKS: &[Check] = &[
    ("ctrl_pt-2 ctrl_pt-5 objects-41", "later calls deliver the new identifier", pid),
    ("ctrl_pt-3 objects-25", "later events transfer the new groups", mtd),
    ("ctrl_pt-4", "a message already delivered keeps its identifier", delivered),
    ("ctrl_pt-7", "groups that a thread does not have are skipped", all_groups),
    ("objects-42", "in a call the caller's descriptor counts", callers_descriptor),
    ("ctrl_pt-1 ctrl_pt-6 spaces-20", "BAD_CAP: null, wrong type, no CTRL", bad_cap),
];

fn pid() -> Outcome {
    let seen = Arc::new(Mutex::new(0));
    let s = seen.clone();
    let (_t, pt) = server(Box::new(move |pid, mtd, _| {
        *s.lock().expect("seen") = pid;
        mtd
    }))?;
    for pid in [1, u64::MAX, 0] {
        done("ctrl_pt", hc::ctrl_pt(pt.0, pid, 0))?;
        done("ipc_call", hc::ipc_call(pt.0, 0, false))?;
        equal("PID", *seen.lock().expect("seen"), pid)?;
    }
    Ok(())
}

extern "C" fn raises(_: u64, _: u64, _: *mut u64) -> u64 {
    // SAFETY: the handler goes on behind the instruction (2 bytes).
    unsafe { std::arch::asm!("ud2", inout("r12") 0x1212u64 => _, inout("rsi") 0x66u64 => _) };
    0
}

fn mtd() -> Outcome {
    let seen = Arc::new(Mutex::new(ArchState::default()));
    let s = seen.clone();
    let fresh = ArchState { rip: 0xeeee, ..ArchState::default() };
    let l = Local::new(
        raises,
        Some(Box::new(move |_, state| {
            *s.lock().expect("seen") = *state;
            // What the next event does not transfer stays what we leave here.
            let rip = state.rip;
            *state = fresh;
            state.rip = rip + 2;
            Mtd::RIP
        })),
    )?;
    let pt = l.events.base + 6;
    for (mtd, gpr) in [(Mtd::RIP | Mtd::GPR_0_7, (0x66, 0)), (Mtd::RIP | Mtd::GPR_8_15, (0, 0x1212))] {
        done("ctrl_pt", hc::ctrl_pt(pt, 6, mtd.bits()))?;
        done("call", l.call(&[0]))?;
        let s = *seen.lock().expect("seen");
        equal(&format!("RSI, R12 with {mtd:?}"), (s.gpr[ArchState::RSI], s.gpr[12]), gpr)?;
    }
    Ok(())
}

fn delivered() -> Outcome {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (s, own) = (seen.clone(), Slot::new());
    let sel = own.0;
    let handler = Box::new(move |pid, mtd, _: &mut abi::Utcb| {
        let r = hc::ctrl_pt(sel, pid + 1, 0);
        s.lock().expect("seen").push((pid, r));
        mtd
    });
    let t = done("portal thread", rt::PortalThread::new(cpu(), 32 << 10, handler))?;
    done("portal", t.portal(sel, 7, 0))?;
    for _ in 0..2 {
        done("ipc_call", hc::ipc_call(sel, 0, false))?;
    }
    equal("identifiers", seen.lock().expect("seen").clone(), vec![(7, Ok(())), (8, Ok(()))])
}

fn all_groups() -> Outcome {
    let seen = Arc::new(Mutex::new(ArchState::default()));
    let s = seen.clone();
    let l = Local::new(
        raises,
        Some(Box::new(move |_, state| {
            *s.lock().expect("seen") = *state;
            state.rip += 2;
            (state.cr0, state.cr3, state.efer) = (0, 0, 0);
            // All of them back, but the one that kills.
            Mtd::from_bits_retain(!1)
        })),
    )?;
    for mtd in [!0, !1] {
        done("ctrl_pt", hc::ctrl_pt(l.events.base + 6, 6, mtd))?;
        done("call", l.call(&[0]))?;
        let s = *seen.lock().expect("seen");
        equal("RSI, R12", (s.gpr[ArchState::RSI], s.gpr[12]), (0x66, 0x1212))?;
        equal("what a thread does not have", (s.cs.sel, s.tr.base, s.cr3, s.efer), (0, 0, 0, 0))?;
    }
    Ok(())
}

fn callers_descriptor() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, u| {
        u.words[0] = mtd.into();
        0
    }))?;
    done("ctrl_pt", hc::ctrl_pt(pt.0, 0, Mtd::GPR_0_7.bits() | 0x1ff))?;
    equal("descriptor of the callee", crate::scene::call(pt.0, &[1, 2, 3], false), Ok(vec![2]))
}

fn bad_cap() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, _| mtd))?;
    let weak = Slot::masked(pt.0, perm::ALL & !perm::Pt::CTRL.bits())?;
    for (what, s) in [
        ("null", Slot::new().0),
        ("SEL_NUM", abi::SEL_NUM),
        ("PD", sel::PD),
        ("no CTRL", weak.0),
        ("the parent's portal", sel::parent(cpu())),
    ] {
        refused(what, hc::ctrl_pt(s, 0, 0), Status::BadCap)?;
    }
    Ok(())
}
