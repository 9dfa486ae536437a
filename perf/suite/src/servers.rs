//! Local threads on bare code: what answers a call or an exit with as few instructions as can be, in our domain or in
//! one of its own.
//!
//! Key types: [`Domain`], [`Server`].

use crate::threads::{self, Place, R12, Start};
use abi::{ArchState, CreatePdOp, Hypercall, IN_REGISTERS, Mad, Sel, perm};
use bare::{PAGE, done};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};
use std::arch::global_asm;
use std::mem::offset_of;

/// Where the UTCB is in a domain of its own.
const UTCB: u64 = 0x50_0000_0000;

// `bare_echo` replies at once, with the descriptor that it got. `bare_exit` notes the ticks since it ran last, advances
// the guest's RIP in the UTCB and replies; at the last sample it ups a semaphore and kills the virtual CPU. It has its
// parameters in registers, which the kernel keeps between reply and next message, and which `bare_exit_begin` has loaded
// from its stack. `cargo xtask perf profile` stops the machine at `bare_exit`.
global_asm!(
    ".balign 4096",
    "bare_page:",
    "bare_echo:",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    // The portal's identifier is a hypercall that it makes, with the descriptor that it got, before it replies.
    "bare_forward:",
    "syscall",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    // Delegates what its parameters say.
    "bare_pager:",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r14",
    "mov rax, r15",
    "syscall",
    "xor esi, esi",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    "bare_echo_registers:",
    "mov edi, {reply_in_registers}",
    "syscall",
    "ud2",
    "bare_exit_begin:",
    "mov rbx, [rsp]",      // where samples go
    "mov r12, [rsp + 8]",  // how many
    "mov r13, [rsp + 16]", // UTCB
    "mov r14, [rsp + 24]", // length of the instruction
    "mov r15, [rsp + 32]", // descriptor of the reply
    "mov r10, [rsp + 40]", // hypercall that says that it is over
    "xor esi, esi",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    "bare_exit:",
    "rdtsc",
    "mov r9d, eax",
    "sub eax, r8d",
    "mov r8d, r9d",
    "mov [rbx], eax",
    "add rbx, 4",
    "add [r13 + {rip}], r14",
    "mov esi, r15d",
    "mov edi, {reply}",
    "dec r12",
    "jz 1f",
    "syscall",
    "ud2",
    "1:",
    "mov rdi, r10",
    "syscall",
    "mov esi, 1", // POISON
    "mov edi, {reply}",
    "syscall",
    "ud2",
    // Notes the ticks since what is at [R13], and ups a semaphore, each time.
    "bare_stamp:",
    "rdtsc",
    "sub eax, [r13]",
    "mov [rbx], eax",
    "add rbx, 4",
    "mov rdi, r10",
    "syscall",
    "xor esi, esi",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    reply = const Hypercall::IpcReply as u8,
    reply_in_registers = const IN_REGISTERS << 4 | Hypercall::IpcReply as u8,
    rip = const offset_of!(ArchState, rip),
);

unsafe extern "C" {
    static bare_page: u8;
    static bare_echo: u8;
    static bare_echo_registers: u8;
    static bare_forward: u8;
    static bare_pager: u8;
    static bare_exit_begin: u8;
    static bare_exit: u8;
    static bare_stamp: u8;
}

/// What a server runs.
#[derive(Clone, Copy)]
pub enum Code {
    /// Replies with as many words as came.
    Echo,
    /// Replies with what came in registers.
    EchoRegisters,
    /// Makes the hypercall that the portal's identifier is, and replies.
    Forward,
    /// Handles a page fault.
    Pager,
    /// Loads its parameters from its stack, and replies.
    Load,
    /// Handles an exit.
    Exit,
    /// Says when it was called.
    Stamp,
}

impl Code {
    fn ip(self) -> u64 {
        match self {
            Code::Echo => &raw const bare_echo as u64,
            Code::EchoRegisters => &raw const bare_echo_registers as u64,
            Code::Forward => &raw const bare_forward as u64,
            Code::Pager => &raw const bare_pager as u64,
            Code::Load => &raw const bare_exit_begin as u64,
            Code::Exit => &raw const bare_exit as u64,
            Code::Stamp => &raw const bare_stamp as u64,
        }
    }
}

/// A new selector, never given back.
pub fn selector() -> Result<Sel, String> {
    rt::sel::alloc().ok_or_else(|| "no free selector".into())
}

/// Where servers live.
pub struct Domain {
    pd: Sel,
    obj: Sel,
    hst: Sel,
    /// A domain of its own, which has our bare code and nothing else.
    other: bool,
}

impl Domain {
    /// Ours.
    pub const fn own() -> Domain {
        Domain { pd: sel::PD, obj: sel::OBJ, hst: sel::HST, other: false }
    }

    /// Another one.
    pub fn other() -> Result<Domain, String> {
        let (pd, obj, hst) = (selector()?, selector()?, selector()?);
        done("create_pd", hc::create_pd(CreatePdOp::Pd, pd, sel::PD))?;
        done("object space", hc::create_pd(CreatePdOp::Obj, obj, pd))?;
        done("host space", hc::create_pd(CreatePdOp::Hst, hst, pd))?;
        let p = &raw const bare_page as u64 / PAGE;
        let perms = perm::Mem::R | perm::Mem::XU;
        // SAFETY: code that is only read.
        done("show code", unsafe { hc::ctrl_pd(sel::HST, hst, p, p, 0, perms.bits(), Mad::WB) })?;
        Ok(Domain { pd, obj, hst, other: true })
    }

    /// Its object space.
    pub fn obj(&self) -> Sel {
        self.obj
    }

    /// Its host space.
    pub fn hst(&self) -> Sel {
        self.hst
    }

    /// Gives it one of our capabilities, at the same selector.
    pub fn give(&self, at: Sel) -> Result<(), String> {
        if !self.other {
            return Ok(());
        }
        // SAFETY: object spaces hold no memory.
        done("give", unsafe { hc::ctrl_pd(sel::OBJ, self.obj, at, at, 0, perm::ALL, Mad::WB) })
    }

    /// A server on that CPU.
    pub fn server(&self, cpu: u16, fpu: bool) -> Result<Server, String> {
        let (utcb, sp) = (if self.other { UTCB } else { bare::utcb_page() }, bare::page());
        let ec = selector()?;
        let args = EcArgs { utcb_page: utcb, cpu, sp, evt: 0, guest: false, global_or_offset: false, fpu };
        // SAFETY: page and stack are new, and it is entered at bare code only.
        done("create_ec", unsafe { hc::create_ec(ec, self.pd, args) })?;
        if self.other {
            let (p, perms) = (sp / PAGE, perm::Mem::R | perm::Mem::W);
            // SAFETY: the stack's page, which nothing in Rust refers to.
            done("show stack", unsafe { hc::ctrl_pd(sel::HST, self.hst, p, p, 0, perms.bits(), Mad::WB) })?;
        }
        Ok(Server { pd: self.pd, ec, cpu, utcb, sp })
    }
}

/// A local thread.
pub struct Server {
    pd: Sel,
    ec: Sel,
    cpu: u16,
    /// Its UTCB's address.
    pub utcb: u64,
    /// Where its stack's words are.
    sp: u64,
}

impl Server {
    /// Its EC.
    pub fn ec(&self) -> Sel {
        self.ec
    }

    /// Has it load its parameters: RBX, R12 to R15 and R10.
    pub fn load(&self, parameters: [u64; 6]) -> Result<(), String> {
        (0..).zip(parameters).for_each(|(i, p)| bare::poke(self.sp + 8 * i, p));
        let at = selector()?;
        self.portal(at, Code::Load, 0)?;
        if self.cpu == rt::thread::cpu() {
            return done("load", hc::ipc_call(at, 0, false)).map(drop);
        }
        // Only a thread there can call it, and it may do so often.
        let place = Place { cpu: self.cpu, lower: 1, fpu: true };
        let call = (R12, Hypercall::IpcCall.identifier(0, at));
        Start::alone(place, threads::Code::Calls, &[call]).map(drop)
    }

    /// A portal at `at`; events transfer `mtd`.
    pub fn portal(&self, at: Sel, code: Code, mtd: u32) -> Result<(), String> {
        // SAFETY: bare code, which touches nothing but its stack's words and its UTCB.
        done("create_pt", unsafe { hc::create_pt(at, self.pd, self.ec, code.ip()) })?;
        done("ctrl_pt", hc::ctrl_pt(at, 0, mtd))
    }
}
