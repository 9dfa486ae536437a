//! docs/spec/ipc_reply.md.

use crate::abi_page::raw;
use crate::check::{Check, Outcome, done, equal, refused};
use crate::scene::{Local, Slot, server};
use abi::{ArchState, Hypercall, Mtd, Status};
use std::arch::asm;
use std::sync::{Arc, Mutex};

pub const CHECKS: &[Check] = &[
    (
        "ipc_reply-8 ipc_reply-10 ipc_call-7",
        "the callee gets the portal's identifier and the descriptor, full width",
        pid_and_mtd,
    ),
    (
        "ipc_reply-9 ipc_reply-8 ipc_reply-7 ipc_call-20 create_ec-2 objects-7",
        "the callee enters at the portal's address with the stack pointer it replied with",
        same_stack,
    ),
    ("ipc_reply-11", "BAD_HYP for a global thread", global_thread),
    ("ipc_reply-3 abi-21 abi-23 abi-24 abi-26", "event: only the groups of the reply's descriptor are written", groups),
    ("ipc_reply-4 objects-19 abi-22", "event: POISON kills the EC that raised it", poison),
    ("objects-20 create_pt-6", "event: the EC is killed when its handler is", handler_killed),
    ("objects-14 abi-84", "event: the EC is killed when its handler is dead already", handler_dead),
    ("objects-15", "event: the EC is killed when its handler waits for it", handler_itself),
    ("ipc_reply-13 abi-25", "event: RFLAGS takes status and control flags only", flags),
    ("ipc_reply-14", "event: RIP is cut to bits 46:0", rip_cut),
];

fn pid_and_mtd() -> Outcome {
    let seen = Arc::new(Mutex::new((0, 0)));
    let s = seen.clone();
    let (t, _pt) = server(Box::new(move |pid, mtd, _| {
        *s.lock().expect("seen") = (pid, mtd);
        0
    }))?;
    let other = Slot::new();
    let pid = 0xfedc_ba98_7654_3210;
    done("portal", t.portal(other.0, pid, 0))?;
    done("ipc_call", rt::hypercall::ipc_call(other.0, 0x8000_0007, false))?;
    equal("PID, mtd", *seen.lock().expect("seen"), (pid, 0x8000_0007))
}

extern "C" fn stack(_: u64, _: u64, u: *mut u64) -> u64 {
    let sp: u64;
    // SAFETY: the own UTCB.
    unsafe {
        asm!("mov {}, rsp", out(reg) sp);
        u.write_volatile(sp);
    }
    0
}

fn same_stack() -> Outcome {
    let l = Local::new(stack, None)?;
    let first = done("first call", l.call(&[0]))?;
    for _ in 0..3 {
        equal("RSP", done("later call", l.call(&[0]))?, first.clone())?;
    }
    Ok(())
}

fn global_thread() -> Outcome {
    equal("status", raw(Hypercall::IpcReply.identifier(0, 0), 0, 0, 0, 0).0, Status::BadHyp as u64)
}

/// Raises #UD with known registers and returns what they are afterwards: R12, R13, RSI, RFLAGS.
extern "C" fn raise(_: u64, _: u64, u: *mut u64) -> u64 {
    let (r12, r13, rsi, flags): (u64, u64, u64, u64);
    // SAFETY: the handler goes on behind the instruction; the own UTCB.
    unsafe {
        asm!("lea r9, [rip + 3f]", "2:", "ud2", "3:", "pushfq", "pop {f}", "cld",
             f = out(reg) flags, inout("r12") 12u64 => r12, inout("r13") 13u64 => r13, inout("rsi") 6u64 => rsi,
             out("r9") _);
        for (i, v) in [r12, r13, rsi, flags].into_iter().enumerate() {
            u.add(i).write_volatile(v);
        }
    }
    3
}

const CARRY: u64 = 1;
const DIRECTION: u64 = 1 << 10;

/// Changes everything and says that `mtd` of it is to be written.
fn raised(mtd: Mtd) -> Result<Vec<u64>, String> {
    let l = Local::new(
        raise,
        Some(Box::new(move |_, s| {
            let rsp = s.gpr[ArchState::RSP];
            s.rip = s.gpr[9];
            (s.gpr[12], s.gpr[13], s.gpr[ArchState::RSI]) = (112, 113, 106);
            s.gpr[ArchState::RSP] = rsp;
            s.rflags = !0;
            mtd
        })),
    )?;
    done("call", l.call(&[0]))
}

fn groups() -> Outcome {
    equal("RIP", raised(Mtd::RIP)?[..3].to_vec(), vec![12, 13, 6])?;
    equal("RIP, GPR_8_15", raised(Mtd::RIP | Mtd::GPR_8_15)?[..3].to_vec(), vec![112, 113, 6])?;
    equal("RIP, GPR_0_7", raised(Mtd::RIP | Mtd::GPR_0_7)?[..3].to_vec(), vec![12, 13, 106])
}

fn poison() -> Outcome {
    let l = Local::new(raise, Some(Box::new(|_, _| Mtd::POISON)))?;
    refused("call", l.call(&[0]), Status::Aborted)?;
    refused("later call", l.call(&[0]), Status::Aborted)
}

extern "C" fn dies(_: u64, _: u64, _: *mut u64) -> u64 {
    // SAFETY: an exception without a handler, which kills this thread.
    unsafe { asm!("ud2", options(noreturn)) }
}

fn handler_killed() -> Outcome {
    let handler = Local::new(dies, None)?;
    let l = Local::new(raise, None)?;
    done("event portal", crate::scene::copy(handler.portal.0, l.events.base + 6, abi::perm::ALL))?;
    refused("call", l.call(&[0]), Status::Aborted)?;
    refused("the handler", handler.call(&[0]), Status::Aborted)
}

fn handler_dead() -> Outcome {
    let handler = Local::new(dies, None)?;
    refused("the handler", handler.call(&[0]), Status::Aborted)?;
    let l = Local::new(raise, None)?;
    done("event portal", crate::scene::copy(handler.portal.0, l.events.base + 6, abi::perm::ALL))?;
    refused("call", l.call(&[0]), Status::Aborted)?;
    refused("call of what was killed", l.call(&[0]), Status::Aborted)
}

fn handler_itself() -> Outcome {
    // Its own events arrive at its own portal.
    let l = Local::new(raise, None)?;
    done("event portal", crate::scene::copy(l.portal.0, l.events.base + 6, abi::perm::ALL))?;
    refused("call", l.call(&[0]), Status::Aborted)?;
    refused("call of what was killed", l.call(&[0]), Status::Aborted)
}

fn flags() -> Outcome {
    const TRAP: u64 = 1 << 8;
    let l = Local::new(
        raise,
        Some(Box::new(|_, s| {
            s.rip = s.gpr[9];
            // Interrupts off, IOPL 3, VM; carry and direction; no single steps.
            s.rflags = 0x3000 | 1 << 17 | CARRY | DIRECTION;
            Mtd::RIP | Mtd::RFLAGS
        })),
    )?;
    equal("RFLAGS", done("call", l.call(&[0]))?[3] & !TRAP, 0x202 | CARRY | DIRECTION)
}

fn rip_cut() -> Outcome {
    let l = Local::new(
        raise,
        Some(Box::new(|_, s| {
            s.rip = s.gpr[9] | 0xffff_8000_0000_0000;
            Mtd::RIP
        })),
    )?;
    equal("R12 behind the exception", done("call", l.call(&[0]))?[0], 12)
}
