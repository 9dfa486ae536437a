//! Messages in registers (X4): docs/spec/abi.md, ipc_call.md, ipc_reply.md, ctrl_pt.md.

use crate::check::{Check, Outcome, done, equal, holds};
use crate::scene::{
    Events, Local, PAGE, Slot, THREAD, THREAD_EVENTS, copy, cpu, memory, peek, poke, server, utcb_page,
};
use abi::{CreatePdOp, Hypercall, IN_REGISTERS, Mad, Mtd, REGISTER_MTD, REGISTER_WORDS, Sel, Status, perm};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs, Reply};
use std::arch::global_asm;

pub const CHECKS: &[Check] = &[
    (
        "abi-170 abi-171 ctrl_pt-8 ipc_call-24 ipc_call-25 ipc_reply-18 abi-173",
        "six words go there and back in registers; no UTCB is touched",
        both_ways,
    ),
    ("abi-171 abi-172 ctrl_pt-8", "a portal that does not take them has them in the callee's UTCB", portal_without),
    ("ctrl_pt-9", "what a portal takes can be changed", changed),
    ("ipc_reply-19 abi-172 abi-7", "a reply in registers to a call without R arrives in the UTCB", plain_call),
    ("ipc_call-26", "a reply without R to a call in registers arrives in the UTCB", plain_reply),
    ("ipc_call-27", "BAD_PAR with C", with_items),
    ("ipc_call-28 abi-174", "a call that fails leaves all registers but the status", failing),
    ("ipc_call-2 ipc_call-13 ipc_call-24", "T works with R", no_wait),
    ("abi-174 ipc_reply-9", "caller and callee keep all other registers", others_kept),
    ("ipc_reply-20", "an event is answered in the UTCB whatever R says", event),
    ("abi-170", "between two domains", between_domains),
];

// A server: the end of its stack has its UTCB's address, the identifier of its reply, and where it notes the descriptor
// that it got. It inverts the words, and leaves them in its UTCB too if they have come, or go, there.
global_asm!(
    ".balign 64",
    "probe_register_server:",
    "mov rdi, [rsp + 16]",
    "mov [rdi], rsi",
    "mov rax, [rsp]",
    "cmp rsi, -1",
    "je 1f",
    "mov r8, [rax]",
    "mov r9, [rax + 8]",
    "mov r10, [rax + 16]",
    "mov r12, [rax + 24]",
    "mov r13, [rax + 32]",
    "mov r14, [rax + 40]",
    "1: not r8",
    "not r9",
    "not r10",
    "not r12",
    "not r13",
    "not r14",
    "mov rdi, [rsp + 8]",
    "test dil, dil",
    "js 2f",
    "mov [rax], r8",
    "mov [rax + 8], r9",
    "mov [rax + 16], r10",
    "mov [rax + 24], r12",
    "mov [rax + 32], r13",
    "mov [rax + 40], r14",
    "2: mov esi, 5",
    "syscall",
    "ud2",
    // One that notes its registers but for those of the message: at [rsp].
    "probe_register_noter:",
    "mov rdi, [rsp]",
    "mov [rdi], rax",
    "mov [rdi + 8], rdx",
    "mov [rdi + 16], rbx",
    "mov [rdi + 24], rbp",
    "mov [rdi + 32], r15",
    "mov [rdi + 40], rsp",
    "mov rax, 0x101",
    "mov edx, 0x102",
    "mov ebx, 0x103",
    "mov ebp, 0x104",
    "mov r15d, 0x105",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    // One of another domain: it has no memory.
    "probe_register_stranger:",
    "not r8",
    "not r14",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    // RDI: registers, loaded before a hypercall and stored after it.
    "probe_registers:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15; push rdi",
    "mov r11, rdi",
    "mov rdi, [r11]",
    "mov rsi, [r11 + 8]",
    "mov rax, [r11 + 16]",
    "mov rdx, [r11 + 24]",
    "mov rbx, [r11 + 32]",
    "mov rbp, [r11 + 40]",
    "mov r15, [r11 + 48]",
    "mov r8, [r11 + 56]",
    "mov r9, [r11 + 64]",
    "mov r10, [r11 + 72]",
    "mov r12, [r11 + 80]",
    "mov r13, [r11 + 88]",
    "mov r14, [r11 + 96]",
    "syscall",
    "pop r11",
    "mov [r11], rdi",
    "mov [r11 + 8], rsi",
    "mov [r11 + 16], rax",
    "mov [r11 + 24], rdx",
    "mov [r11 + 32], rbx",
    "mov [r11 + 40], rbp",
    "mov [r11 + 48], r15",
    "mov [r11 + 56], r8",
    "mov [r11 + 64], r9",
    "mov [r11 + 72], r10",
    "mov [r11 + 80], r12",
    "mov [r11 + 88], r13",
    "mov [r11 + 96], r14",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "ret",
    reply = const (IN_REGISTERS as u32) << 4 | Hypercall::IpcReply as u32,
);

unsafe extern "C" {
    fn probe_register_server();
    fn probe_register_noter();
    fn probe_register_stranger();
    fn probe_registers(r: &mut Registers);
}

/// Registers of a hypercall.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Registers {
    rdi: u64,
    rsi: u64,
    /// RAX, RDX, RBX, RBP, R15.
    others: [u64; 5],
    message: [u64; REGISTER_WORDS],
}

const OTHERS: [u64; 5] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4];
const SENT: [u64; REGISTER_WORDS] = [1, u64::MAX, 0x8000_0000_0000_0000, 3, 4, 5];
const CALL: u8 = IN_REGISTERS;
const REPLY: u64 = (IN_REGISTERS as u64) << 4 | Hypercall::IpcReply as u64;

/// A hypercall with these words in the message's registers, RSI 0x77, and [`OTHERS`].
fn hypercall(rdi: u64, message: [u64; REGISTER_WORDS]) -> Registers {
    let mut r = Registers { rdi, rsi: 0x77, others: OTHERS, message };
    // SAFETY: a call to a server here, which changes nothing but UTCBs.
    unsafe { probe_registers(&mut r) };
    r
}

fn inverted(words: [u64; REGISTER_WORDS]) -> [u64; REGISTER_WORDS] {
    words.map(|w| !w)
}

/// Words of a UTCB of ours.
fn utcb_words(utcb: u64) -> [u64; REGISTER_WORDS] {
    std::array::from_fn(|i| peek(utcb + 8 * i as u64))
}

/// A server here, which replies as said; whose portal takes registers, or not.
struct Server {
    portal: Slot,
    utcb: u64,
    /// Where it notes the descriptor.
    note: u64,
    _rest: (Slot, Events),
}

impl Server {
    fn new(reply: u64, takes: bool) -> Result<Server, String> {
        Server::entering(probe_register_server as *const () as u64, reply, takes, Events::new(1, Mtd::empty(), None)?)
    }

    fn entering(ip: u64, reply: u64, takes: bool, events: Events) -> Result<Server, String> {
        let (ec, portal, utcb) = (Slot::new(), Slot::new(), utcb_page());
        let sp = memory(PAGE as usize, 16);
        let note = sp + 64;
        [utcb, reply, note].into_iter().enumerate().for_each(|(i, w)| poke(sp + 8 * i as u64, w));
        let args = EcArgs { utcb_page: utcb, cpu: cpu(), sp, evt: events.base, fpu: true, ..EcArgs::default() };
        // SAFETY: page and stack are new, and it is entered at bare code only, which relies on nothing.
        unsafe {
            done("create_ec", hc::create_ec(ec.0, sel::PD, args))?;
            done("create_pt", hc::create_pt(portal.0, sel::PD, ec.0, ip))?;
            if takes {
                done("ctrl_pt", hc::ctrl_pt_registers(portal.0, 0, 0))?;
            }
        }
        // It has replied once, so that all is as it will be.
        done("first call", hc::ipc_call(portal.0, Mtd::words(6), false))?;
        Ok(Server { portal, utcb, note, _rest: (ec, events) })
    }

    fn call(&self, flags: u8, message: [u64; REGISTER_WORDS]) -> Registers {
        hypercall(Hypercall::IpcCall.identifier(flags, self.portal.0), message)
    }
}

/// It has come back well, with that descriptor.
fn success(r: Registers, mtd: u64) -> Outcome {
    equal("status, mtd", (r.rdi & 0xff, r.rsi), (Status::Success as u64, mtd))
}

fn both_ways() -> Outcome {
    let s = Server::new(REPLY, true)?;
    let (own, theirs) = ([9; REGISTER_WORDS], [8; REGISTER_WORDS]);
    rt::utcb().words[..own.len()].copy_from_slice(&own);
    theirs.iter().enumerate().for_each(|(i, w)| poke(s.utcb + 8 * i as u64, *w));
    for sent in [SENT, [0; REGISTER_WORDS], inverted(SENT)] {
        let r = s.call(CALL, sent);
        success(r, REGISTER_MTD)?;
        equal("reply", r.message, inverted(sent))?;
        equal("descriptor at the callee", peek(s.note), REGISTER_MTD)?;
    }
    equal("by the runtime", hc::ipc_call_registers(s.portal.0, SENT), Ok(Reply::Words(inverted(SENT))))?;
    equal("callee's UTCB", utcb_words(s.utcb), theirs)?;
    equal("own UTCB", &rt::utcb().words[..own.len()], &own[..])
}

fn portal_without() -> Outcome {
    let s = Server::new(REPLY, false)?;
    let r = s.call(CALL, SENT);
    equal("descriptor at the callee", peek(s.note), 5)?;
    equal("callee's UTCB", utcb_words(s.utcb), SENT)?;
    success(r, REGISTER_MTD)?;
    equal("reply", r.message, inverted(SENT))
}

fn changed() -> Outcome {
    let s = Server::new(REPLY, true)?;
    for takes in [false, true, false] {
        // SAFETY: the server relies on nothing.
        done("ctrl_pt", unsafe {
            if takes { hc::ctrl_pt_registers(s.portal.0, 0, 0) } else { hc::ctrl_pt(s.portal.0, 0, 0) }
        })?;
        success(s.call(CALL, SENT), REGISTER_MTD)?;
        equal("descriptor at the callee", peek(s.note), if takes { REGISTER_MTD } else { 5 })?;
    }
    Ok(())
}

fn plain_call() -> Outcome {
    let s = Server::new(REPLY, true)?;
    rt::utcb().words[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut r = Registers { rdi: Hypercall::IpcCall.identifier(0, s.portal.0), rsi: 7, others: OTHERS, message: SENT };
    // SAFETY: as in `hypercall`.
    unsafe { probe_registers(&mut r) };
    equal("descriptor at the callee", peek(s.note), 7)?;
    success(r, 5)?;
    equal("own UTCB", rt::utcb().words[..8].to_vec(), vec![!1, !2, !3, !4, !5, !6, 7, 8])?;
    equal("own registers", (r.others, r.message), (OTHERS, SENT))
}

fn plain_reply() -> Outcome {
    let s = Server::new(Hypercall::IpcReply as u64, true)?;
    let r = s.call(CALL, SENT);
    success(r, 5)?;
    equal("own UTCB", &rt::utcb().words[..REGISTER_WORDS], &inverted(SENT)[..])?;
    equal("by the runtime", hc::ipc_call_registers(s.portal.0, SENT), Ok(Reply::Utcb(5)))
}

const ITEMS: u8 = crate::foreign::ITEMS;

fn with_items() -> Outcome {
    let s = Server::new(REPLY, true)?;
    poke(s.note, 0x55);
    let r = s.call(CALL | ITEMS, SENT);
    equal("status", r.rdi & 0xff, Status::BadPar as u64)?;
    equal("nobody was called", peek(s.note), 0x55)
}

fn failing() -> Outcome {
    let weak = Slot::new();
    let s = Server::new(REPLY, true)?;
    done("copy", copy(s.portal.0, weak.0, perm::ALL & !perm::Pt::CALL.bits()))?;
    for (what, pt, flags, status) in [
        ("null", Slot::new().0, CALL, Status::BadCap),
        ("beyond SEL_NUM", abi::SEL_NUM, CALL, Status::BadCap),
        ("the last selector", (1 << 56) - 1, CALL, Status::BadCap),
        ("no portal", sel::PD, CALL, Status::BadCap),
        ("without CALL", weak.0, CALL, Status::BadCap),
        ("with C", s.portal.0, CALL | ITEMS, Status::BadPar),
    ] {
        let r = hypercall(Hypercall::IpcCall.identifier(flags, pt), SENT);
        let want = Registers { rdi: (r.rdi & !0xff) | status as u64, rsi: 0x77, others: OTHERS, message: SENT };
        equal(what, r, want)?;
    }
    Ok(())
}

/// Calls of a portal on another CPU, which change nothing but RSI, to that CPU.
pub fn elsewhere(pt: Sel, cpu: u16) -> Outcome {
    for flags in [0, CALL, ITEMS] {
        let r = hypercall(Hypercall::IpcCall.identifier(flags, pt), SENT);
        let rdi = (r.rdi & !0xff) | Status::BadCpu as u64;
        let want = Registers { rdi, rsi: cpu.into(), others: OTHERS, message: SENT };
        equal("a call from here", r, want)?;
    }
    Ok(())
}

fn no_wait() -> Outcome {
    let s = Server::new(REPLY, true)?;
    let (at, flags) = (s.portal.0, CALL | crate::foreign::NO_WAIT);
    success(s.call(flags, SENT), REGISTER_MTD)?;
    // A server that calls back while it is busy: its own portal.
    let own = Slot::new();
    let sel = own.0;
    let (t, _pt) = server(Box::new(move |_, mtd, u| {
        u.words[0] = hypercall(Hypercall::IpcCall.identifier(flags, sel), SENT).rdi & 0xff;
        mtd
    }))?;
    done("portal", t.portal(sel, 0, 0))?;
    equal("busy", crate::scene::call(sel, &[0], false), Ok(vec![Status::Timeout as u64]))?;
    success(hypercall(Hypercall::IpcCall.identifier(CALL, at), SENT), REGISTER_MTD)
}

fn others_kept() -> Outcome {
    let (events, ip) = (Events::new(1, Mtd::empty(), None)?, probe_register_noter as *const () as u64);
    let s = Server::entering(ip, REPLY, true, events)?;
    // Its stack pointer is where it notes the registers.
    let noted = s.utcb;
    for _ in 0..2 {
        let r = s.call(CALL, SENT);
        success(r, REGISTER_MTD)?;
        equal("words", r.message, SENT)?;
        equal("caller's", r.others, OTHERS)?;
        equal("callee's", std::array::from_fn(|i| peek(noted + 8 * i as u64)), [0x101, 0x102, 0x103, 0x104, 0x105])?;
        equal("callee's stack pointer", peek(noted + 40), s.note - 64)?;
    }
    Ok(())
}

extern "C" fn raises(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the handler changes R12 and goes on behind the instruction (2 bytes); the own UTCB.
    unsafe {
        let r12: u64;
        std::arch::asm!("ud2", inout("r12") 0x1212u64 => r12);
        u.write_volatile(r12);
    }
    0
}

fn event() -> Outcome {
    // Handles #UD: RIP and GPR_8_15 are in its UTCB, and it replies with R and those groups. Its words are in the registers.
    let l = Local::new(raises, None)?;
    let groups = Mtd::RIP | Mtd::GPR_8_15;
    let (ec, utcb) = (Slot::new(), utcb_page());
    let sp = memory(PAGE as usize, 16);
    [utcb, REPLY, groups.bits().into()].into_iter().enumerate().for_each(|(i, w)| poke(sp + 8 * i as u64, w));
    let args = EcArgs { utcb_page: utcb, cpu: cpu(), sp, fpu: true, ..EcArgs::default() };
    let pt = l.events.base + 6;
    // SAFETY: as for servers.
    unsafe {
        done("create_ec", hc::create_ec(ec.0, sel::PD, args))?;
        done("create_pt", hc::create_pt(pt, sel::PD, ec.0, probe_register_handler as *const () as u64))?;
    }
    done("ctrl_pt", hc::ctrl_pt(pt, 6, groups.bits()))?;
    let words = done("call", l.call(&[0]));
    holds("thread events are more", THREAD_EVENTS > 6 && !THREAD.is_empty())?;
    equal("R12 by the reply", words?, vec![0x3434])
}

// Advances RIP by 2 and sets R12 in the UTCB.
global_asm!(
    "probe_register_handler:",
    "mov rax, [rsp]",
    "add qword ptr [rax + {rip}], 2",
    "mov qword ptr [rax + 12 * 8], 0x3434",
    "mov r12d, 0x5656",
    "mov esi, [rsp + 16]",
    "mov edi, [rsp + 8]",
    "syscall",
    "ud2",
    rip = const std::mem::offset_of!(abi::ArchState, rip),
);

unsafe extern "C" {
    fn probe_register_handler();
}

fn between_domains() -> Outcome {
    const UTCB: u64 = 0x7000;
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let (_obj, hst) = (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?);
    let (code, ec, portal) = (probe_register_stranger as *const () as u64, Slot::new(), Slot::new());
    let args = EcArgs { utcb_page: UTCB, cpu: cpu(), sp: UTCB, fpu: true, ..EcArgs::default() };
    let perms = (perm::Mem::R | perm::Mem::XU).bits();
    // SAFETY: spaces of another domain, where nothing but that code runs.
    unsafe {
        done("code", hc::ctrl_pd(sel::HST, hst.0, code / PAGE, code / PAGE, 0, perms, Mad::WB))?;
        done("create_ec", hc::create_ec(ec.0, pd.0, args))?;
        done("create_pt", hc::create_pt(portal.0, sel::PD, ec.0, code))?;
        done("ctrl_pt", hc::ctrl_pt_registers(portal.0, 0, 0))?;
    }
    let call = |at: Sel| hypercall(Hypercall::IpcCall.identifier(CALL, at), SENT);
    for _ in 0..3 {
        let r = call(portal.0);
        success(r, REGISTER_MTD)?;
        let mut want = SENT;
        (want[0], want[5]) = (!want[0], !want[5]);
        equal("reply", (r.message, r.others), (want, OTHERS))?;
    }
    Ok(())
}
