//! Calls, replies and semaphores.

use crate::clock::{OVERHEAD, Registers, hypercall, report, sample};
use crate::servers::{Code, Domain, selector};
use abi::{Hypercall, Mtd, Status};
use bare::done;
use parent::sel;
use rt::hypercall as hc;

/// Message lengths, in words.
const WORDS: [usize; 5] = [1, 8, 64, 128, 512];

fn ticks(r: Registers, want: Status) -> Result<u32, String> {
    // SAFETY: callers pass calls that change no memory but UTCBs, to which nobody has a reference.
    let (ticks, status) = unsafe { hypercall(r) };
    if status == want as u64 { Ok(ticks) } else { Err(format!("status {status:#x}")) }
}

fn calls(cpu: u16, other: bool, fpu: bool) -> Result<u64, String> {
    let domain = if other { Domain::other()? } else { Domain::own() };
    let (server, pt) = (domain.server(cpu, fpu)?, selector()?);
    server.portal(pt, Code::Echo, 0)?;
    Ok(Hypercall::IpcCall.identifier(0, pt))
}

/// A call and its reply, with as many words each way.
fn round_trips(cpu: u16) {
    for (place, other) in [("same_pd", false), ("other_pd", true)] {
        let call = calls(cpu, other, true);
        for n in WORDS {
            let r = call
                .clone()
                .and_then(|rdi| sample(|| ticks(Registers { rdi, rsi: Mtd::words(n).into() }, Status::Success)));
            report(&format!("call_reply_{place}_{n}w"), r, OVERHEAD);
        }
    }
    let without = calls(cpu, true, false);
    let r = without.and_then(|rdi| sample(|| ticks(Registers { rdi, rsi: Mtd::words(1).into() }, Status::Success)));
    report("call_reply_other_pd_1w_server_without_fpu", r, OVERHEAD);
}

/// What does not leave the caller.
fn alone() -> Result<(), String> {
    // An operation that no extension has.
    let none = Registers { rdi: 0xff, rsi: 0 };
    report("null_hypercall", sample(|| ticks(none, Status::BadHyp)), OVERHEAD);
    let sm = selector()?;
    done("create_sm", hc::create_sm(sm, sel::PD, 0))?;
    let up = Registers { rdi: Hypercall::CtrlSm.identifier(0, sm), rsi: 0 };
    report("semaphore_up_no_waiter", sample(|| ticks(up, Status::Success)), OVERHEAD);
    Ok(())
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    alone()?;
    round_trips(cpu);
    Ok(())
}
