//! Calls and replies.

use crate::clock::{OVERHEAD, Registers, hypercall, missing, report, sample, succeeded};
use crate::semaphores::{ONE_CPU, other_cpu};
use crate::servers::{Code as Serve, Domain, selector};
use crate::threads::{Code, Place, R8, R12, R13, R15, RSP, Start, Thread, down, registers, up};
use abi::{Hypercall, IN_REGISTERS, Item, Mad, Mtd, Sel, Status, WITH_ITEMS, perm};
use bare::{Slot, done, memory};
use rt::hypercall as hc;

/// Message lengths, in words.
const WORDS: [usize; 5] = [1, 8, 64, 128, 512];
/// log2 of the slots of a receive window, which is as many as can travel.
const WINDOW: u32 = 3;

fn call(rdi: u64, mtd: u32) -> Result<u32, String> {
    // SAFETY: changes no memory but UTCBs, to which nobody has a reference.
    succeeded("ipc_call", unsafe { hypercall(Registers { rdi, rsi: mtd.into(), ..Registers::default() }) })
}

/// A call of six words in registers, and the reply.
fn in_registers(cpu: u16, other: bool) -> Result<Vec<u32>, String> {
    let (domain, pt) = (if other { Domain::other()? } else { Domain::own() }, selector()?);
    domain.server(cpu, true)?.portal(pt, Serve::EchoRegisters, 0)?;
    // SAFETY: its handler relies on no register.
    done("ctrl_pt", unsafe { hc::ctrl_pt_registers(pt, 0, 0) })?;
    // The clock's own register is among those that come back as they went.
    sample(|| call(Hypercall::IpcCall.identifier(IN_REGISTERS, pt), 0))
}

fn echo(cpu: u16, other: bool, fpu: bool) -> Result<u64, String> {
    let domain = if other { Domain::other()? } else { Domain::own() };
    let (server, pt) = (domain.server(cpu, fpu)?, selector()?);
    server.portal(pt, Serve::Echo, 0)?;
    Ok(Hypercall::IpcCall.identifier(0, pt))
}

/// A call and its reply, with as many words each way.
fn round_trips(cpu: u16) {
    for (place, other) in [("same_pd", false), ("other_pd", true)] {
        let server = echo(cpu, other, true);
        for n in WORDS {
            let r = server.clone().and_then(|pt| sample(|| call(pt, Mtd::words(n))));
            report(&format!("call_reply_{place}_{n}w"), r, OVERHEAD);
        }
    }
    report("call_reply_other_pd_registers", in_registers(cpu, true), OVERHEAD);
    report("call_reply_same_pd_registers", in_registers(cpu, false), OVERHEAD);
    let without = echo(cpu, true, false).and_then(|pt| sample(|| call(pt, Mtd::words(1))));
    report("call_reply_other_pd_1w_server_without_fpu", without, OVERHEAD);
    report("call_reply_nested_other_pds_1w", nested(cpu).and_then(|pt| sample(|| call(pt, Mtd::words(1)))), OVERHEAD);
    report("call_reply_busy_server_other_pd_1w", busy(cpu), OVERHEAD);
}

/// A server that calls another one, each in a domain of its own.
fn nested(cpu: u16) -> Result<u64, String> {
    let (middle, last) = (Domain::other()?, Domain::other()?);
    let (pt, next) = (selector()?, selector()?);
    last.server(cpu, true)?.portal(next, Serve::Echo, 0)?;
    middle.give(next)?;
    let server = middle.server(cpu, true)?;
    server.portal(pt, Serve::Forward, 0)?;
    done("identifier", hc::ctrl_pt(pt, Hypercall::IpcCall.identifier(0, next), 0))?;
    Ok(Hypercall::IpcCall.identifier(0, pt))
}

/// A call of a server that has just woken the caller in the midst of a call of somebody below: it is helped to its reply, and
/// then serves.
fn busy(cpu: u16) -> Result<Vec<u32>, String> {
    let (domain, alarm, place) = (Domain::other()?, Slot::sm(0)?, |lower| Place { cpu, lower, fpu: true });
    let (wakes, echoes) = (selector()?, selector()?);
    let server = domain.server(cpu, true)?;
    domain.give(alarm.0)?;
    server.portal(wakes, Serve::Forward, 0)?;
    done("identifier", hc::ctrl_pt(wakes, up(alarm.0), 0))?;
    server.portal(echoes, Serve::Echo, 0)?;
    let calls = |pt| (R12, Hypercall::IpcCall.identifier(0, pt));
    let start = Start::of(1);
    let (_urgent, buffer) = start.sampler(
        place(1),
        Code::WaitAndCall,
        &[(R13, down(alarm.0)), calls(echoes), (R15, Mtd::words(1).into())],
    )?;
    let _other = Thread::new(place(2), Code::Caller, registers(&[calls(wakes), (R13, Mtd::words(1).into())]))?;
    start.wait(1)?;
    Ok(crate::clock::samples_at(buffer))
}

/// A call that takes capabilities along, which the receiver does not have yet or has already.
fn items(cpu: u16, count: usize, new: bool) -> Result<Vec<u32>, String> {
    let (domain, pt) = (Domain::other()?, selector()?);
    let window: Sel = rt::sel::alloc_range(1 << WINDOW, 1 << WINDOW).ok_or("no selectors")?;
    let server = domain.server(cpu, true)?;
    server.portal(pt, Serve::Echo, 0)?;
    done("set_window", hc::set_window(server.ec(), window, 1 << WINDOW))?;
    let sent: Vec<Slot> = (0..count).map(|_| Slot::sm(0)).collect::<Result<_, _>>()?;
    let rdi = Hypercall::IpcCall.identifier(WITH_ITEMS, pt);
    let mtd = Mtd::with_items(Mtd::words(1), count);
    sample(|| {
        for (i, s) in sent.iter().enumerate() {
            rt::utcb().words[Item::word(i)] = Item::new(s.0, perm::ALL).0;
        }
        if new {
            // SAFETY: object spaces hold no memory.
            done("revoke", unsafe { hc::ctrl_pd(domain.obj(), domain.obj(), window, window, WINDOW, 0, Mad::WB) })?;
        }
        call(rdi, mtd)
    })
}

/// Words by a shared page, and semaphores, to another CPU and back.
fn shared_page(cpu: u16, other: u16, words: u64) -> Result<Vec<u32>, String> {
    let (there, back) = (Slot::sm(0)?, Slot::sm(0)?);
    let (page, place) = (bare::page(), |cpu| Place { cpu, lower: 1, fpu: true });
    let all =
        |receive, send| [(R13, receive), (R12, send), (R15, page), (R8, words), (RSP, memory(8 * words as usize, 64))];
    let _pong = Thread::new(place(other), Code::PongWords, registers(&all(down(there.0), up(back.0))))?;
    Start::alone(place(cpu), Code::PingWords, &all(down(back.0), up(there.0)))
}

/// What does not leave the caller: an operation that no extension has.
fn nothing() -> Result<u32, String> {
    // SAFETY: it does nothing.
    let (ticks, status) = unsafe { hypercall(Registers { rdi: 0xff, ..Registers::default() }) };
    if status == Status::BadHyp as u64 { Ok(ticks) } else { Err(format!("status {status:#x}")) }
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    report("null_hypercall", sample(nothing), OVERHEAD);
    round_trips(cpu);
    for (count, what, new) in [(1, "known", false), (8, "known", false), (1, "new", true), (8, "new", true)] {
        report(&format!("call_reply_other_pd_1w_{count}_{what}_items"), items(cpu, count, new), OVERHEAD);
    }
    missing("call_reply_other_cpu", "a portal is called on the CPU of its thread only; see shared_page_other_cpu");
    for words in [1, 64] {
        let name = format!("shared_page_other_cpu_{words}w");
        match other_cpu(cpu) {
            Some(other) => report(&name, shared_page(cpu, other, words), OVERHEAD),
            None => missing(&name, ONE_CPU),
        }
    }
    Ok(())
}
