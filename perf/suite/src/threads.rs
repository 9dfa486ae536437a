//! Global threads on bare code: what takes samples where a single hypercall is not all, and its partners.
//!
//! Key types: [`Thread`], [`Start`] (samplers that begin together).

use crate::clock::{SAMPLES, WARM_UP, samples_at};
use abi::{ArchState, Hypercall, Mtd, Sel, event};
use bare::{Slot, done, memory, peek, poke};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};
use rt::{PortalThread, Semaphore};
use std::arch::global_asm;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;

/// Longest wait for samples, in milliseconds.
const PATIENCE: u64 = 20_000;

// Samplers have: RBX where samples go, R14 how many, RBP the gate, behind which is the hypercall that waits for ever, R10 the
// hypercall that says that it is over. The others say what they use; R12 and R13 are hypercalls: identifiers for RDI.
global_asm!(
    ".macro bare_gate",
    "lock dec dword ptr [rbp]",
    "9:",
    "pause",
    "cmp dword ptr [rbp], 0",
    "jne 9b",
    ".endm",
    // The end of a sample that began at that time; goes on at label 1. Its name is for `cargo xtask perf profile`.
    ".macro bare_note since",
    "bare_note.\\@:",
    "rdtsc",
    "sub eax, \\since",
    "mov [rbx], eax",
    "add rbx, 4",
    "dec r14",
    "jnz 1b",
    "mov rdi, r10",
    "syscall",
    "mov rdi, [rbp + 8]",
    "xor esi, esi",
    "syscall",
    "ud2",
    ".endm",
    // R12 with the descriptor R13, again and again.
    "bare_calls:",
    "bare_gate",
    "1:",
    "mov rdi, r12",
    "mov rsi, r13",
    "rdtsc",
    "mov r9d, eax",
    "syscall",
    "bare_note r9d",
    // The same without samples.
    "bare_caller:",
    "mov rdi, r12",
    "mov rsi, r13",
    "syscall",
    "jmp bare_caller",
    // Waits with R13, then R12 with the descriptor R15.
    "bare_wait_and_call:",
    "bare_gate",
    "1:",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "mov rdi, r12",
    "mov esi, r15d",
    "rdtsc",
    "mov r9d, eax",
    "syscall",
    "bare_note r9d",
    // Ups with R12, and leaves in [R15] when.
    "bare_up:",
    "mov rdi, r12",
    "rdtsc",
    "mov [r15], eax",
    "syscall",
    "jmp bare_up",
    // Waits with R13: since when is in [R15].
    "bare_wait:",
    "bare_gate",
    "1:",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "bare_note [r15]",
    // Ups with R12, waits with R13; its partner.
    "bare_ping:",
    "bare_gate",
    "1:",
    "mov rdi, r12",
    "rdtsc",
    "mov r9d, eax",
    "syscall",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "bare_note r9d",
    "bare_pong:",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "mov rdi, r12",
    "syscall",
    "jmp bare_pong",
    // The same, and both use a vector register.
    "bare_ping_vector:",
    "bare_gate",
    "1:",
    "mov rdi, r12",
    "rdtsc",
    "mov r9d, eax",
    "paddq xmm0, xmm0",
    "syscall",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "bare_note r9d",
    "bare_pong_vector:",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "paddq xmm0, xmm0",
    "mov rdi, r12",
    "syscall",
    "jmp bare_pong_vector",
    // The same with R8 words from the buffer at RSP to [R15], and back from there.
    "bare_ping_words:",
    "bare_gate",
    "1:",
    "rdtsc",
    "mov r9d, eax",
    "mov rsi, rsp",
    "mov rdi, r15",
    "mov rcx, r8",
    "rep movsq",
    "mov rdi, r12",
    "syscall",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "mov rsi, r15",
    "mov rdi, rsp",
    "mov rcx, r8",
    "rep movsq",
    "bare_note r9d",
    "bare_pong_words:",
    "mov rdi, r13",
    "xor esi, esi",
    "syscall",
    "mov rsi, r15",
    "mov rdi, rsp",
    "mov rcx, r8",
    "rep movsq",
    "mov rsi, rsp",
    "mov rdi, r15",
    "mov rcx, r8",
    "rep movsq",
    "mov rdi, r12",
    "syscall",
    "jmp bare_pong_words",
    // Takes the page at R15 away: R12 with RSI = R13, RDX = R8, RAX = RSP; then reads from it.
    "bare_touch:",
    "bare_gate",
    "1:",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r8",
    "mov rax, rsp",
    "syscall",
    "rdtsc",
    "mov r9d, eax",
    "mov al, [r15]",
    "bare_note r9d",
    // Leaves in [R15] what time it is.
    "bare_spin:",
    "rdtsc",
    "mov [r15], eax",
    "jmp bare_spin",
);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident,)*) => {
        unsafe extern "C" {
            $(static $symbol: u8;)*
        }
        /// What a thread runs.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }
        impl Code {
            fn ip(self) -> u64 {
                match self {
                    $(Code::$name => &raw const $symbol as u64,)*
                }
            }
        }
    };
}

codes! {
    /// Samples calls.
    Calls = bare_calls,
    /// Calls without end.
    Caller = bare_caller,
    /// Waits, and samples a call.
    WaitAndCall = bare_wait_and_call,
    /// Ups without end.
    Up = bare_up,
    /// Samples wake-ups.
    Wait = bare_wait,
    /// Samples up and down.
    Ping = bare_ping,
    /// Answers.
    Pong = bare_pong,
    /// Samples up and down, with a vector register.
    PingVector = bare_ping_vector,
    /// Answers with a vector register.
    PongVector = bare_pong_vector,
    /// Samples up and down, with words in shared memory.
    PingWords = bare_ping_words,
    /// Answers with words in shared memory.
    PongWords = bare_pong_words,
    /// Samples page faults.
    Touch = bare_touch,
    /// Says what time it is.
    Spin = bare_spin,
}

/// General registers by their numbers, RAX first.
pub type Registers = [u64; 16];
/// Numbers of those that bare code has something in.
pub const RBX: usize = 3;
pub const RSP: usize = ArchState::RSP;
pub const RBP: usize = 5;
pub const R8: usize = 8;
pub const R10: usize = 10;
pub const R12: usize = 12;
pub const R13: usize = 13;
pub const R14: usize = 14;
pub const R15: usize = 15;

/// Registers with these, the others 0.
pub fn registers(set: &[(usize, u64)]) -> Registers {
    let mut r = Registers::default();
    set.iter().for_each(|&(n, v)| r[n] = v);
    r
}

/// How a thread runs.
#[derive(Clone, Copy)]
pub struct Place {
    /// CPU.
    pub cpu: u16,
    /// Below our own priority.
    pub lower: u64,
    /// May use vector registers.
    pub fpu: bool,
}

/// A global thread of our domain on bare code. Destroyed when it goes.
pub struct Thread {
    ec: Slot,
    sc: Slot,
    base: Sel,
}

const EVENTS: u64 = event::HST_ARCH + event::HST_NOVA;

/// Answers STARTUP: the portal's identifier is the address of 16 registers and an instruction pointer.
fn begin(pid: u64, u: &mut abi::Utcb) -> Mtd {
    let s = u.arch_mut();
    for (n, r) in s.gpr.iter_mut().enumerate() {
        *r = peek(pid + 8 * n as u64);
    }
    s.rip = peek(pid + 8 * 16);
    Mtd::GPR_0_7 | Mtd::GPR_8_15 | Mtd::RIP
}

/// Makes the portal for STARTUP: of a handler for each CPU.
fn starter(cpu: u16, at: Sel, pid: u64) -> Result<(), String> {
    static STARTERS: Mutex<BTreeMap<u16, PortalThread>> = Mutex::new(BTreeMap::new());
    let mut all = STARTERS.lock().map_err(|e| e.to_string())?;
    let thread = match all.entry(cpu) {
        Entry::Occupied(e) => e.into_mut(),
        Entry::Vacant(e) => {
            let handler = Box::new(|pid, _, u: &mut abi::Utcb| begin(pid, u).bits());
            e.insert(done("starter", PortalThread::new(cpu, 32 << 10, handler))?)
        }
    };
    done("portal", thread.portal(at, pid, 0))
}

impl Thread {
    /// Begins at once, if its priority says so.
    pub fn new(at: Place, code: Code, registers: Registers) -> Result<Thread, String> {
        let t = Thread::asleep(at, code, registers)?;
        t.start(at.lower)?;
        Ok(t)
    }

    /// Does not run before [`Thread::start`].
    pub fn asleep(at: Place, code: Code, registers: Registers) -> Result<Thread, String> {
        let base = rt::sel::alloc_range(EVENTS, 1).ok_or("no selectors")?;
        let first = memory(8 * 17, 8);
        (0..).zip(registers).for_each(|(n, r)| poke(first + 8 * n, r));
        poke(first + 8 * 16, code.ip());
        starter(at.cpu, base + event::HST_STARTUP, first)?;
        let t = Thread { ec: Slot::new(), sc: Slot::new(), base };
        let utcb_page = bare::utcb_page();
        let Place { cpu, fpu, .. } = at;
        let args = EcArgs { utcb_page, cpu, sp: 0, evt: base, guest: false, global_or_offset: true, fpu };
        // SAFETY: the page is new, and bare code touches nothing but what its registers say.
        done("create_ec", unsafe { hc::create_ec(t.ec.0, sel::PD, args) })?;
        Ok(t)
    }

    /// Gets it a scheduling context, so far below our own priority.
    pub fn start(&self, lower: u64) -> Result<(), String> {
        done("scheduling context", rt::thread::give_sc(self.ec.0, self.sc.0, lower))
    }

    /// Its EC.
    pub fn ec(&self) -> Sel {
        self.ec.0
    }

    /// Where the portals of its events are: there is none but that of STARTUP.
    pub fn events(&self) -> Sel {
        self.base
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: nothing relies on it. It may be destroyed already with what it ran in.
        let _ = unsafe { hc::destroy(self.ec.0) };
        rt::sel::free_range(self.base, EVENTS);
    }
}

/// Samplers that begin when all are there.
pub struct Start {
    gate: u64,
    end: Semaphore,
    never: Semaphore,
}

impl Start {
    /// Of so many samplers.
    pub fn of(samplers: u64) -> Start {
        let s = Start { gate: memory(16, 64), end: Semaphore::new(0), never: Semaphore::new(0) };
        poke(s.gate, samplers);
        poke(s.gate + 8, down(s.never.sel()));
        s
    }

    /// A sampler, and where its samples will be.
    pub fn sampler(&self, at: Place, code: Code, set: &[(usize, u64)]) -> Result<(Thread, u64), String> {
        let (t, buffer) = self.sampler_asleep(at, code, set)?;
        t.start(at.lower)?;
        Ok((t, buffer))
    }

    /// The same, not started yet.
    pub fn sampler_asleep(&self, at: Place, code: Code, set: &[(usize, u64)]) -> Result<(Thread, u64), String> {
        let (count, buffer) = (WARM_UP + SAMPLES, memory(4 * (WARM_UP + SAMPLES), 64));
        let mut r = registers(set);
        (r[RBX], r[R14], r[RBP], r[R10]) = (buffer, count as u64, self.gate, up(self.end.sel()));
        Ok((Thread::asleep(at, code, r)?, buffer))
    }

    /// Waits until so many are over.
    pub fn wait(&self, samplers: u64) -> Result<(), String> {
        let late = rt::time::tsc() + rt::time::tsc_hz() / 1000 * PATIENCE;
        let all = (0..samplers).all(|_| self.end.down_until(late));
        if all { Ok(()) } else { Err(format!("no end after {PATIENCE} ms")) }
    }

    /// Samples of one sampler.
    pub fn alone(at: Place, code: Code, set: &[(usize, u64)]) -> Result<Vec<u32>, String> {
        let start = Start::of(1);
        let (_sampler, buffer) = start.sampler(at, code, set)?;
        start.wait(1)?;
        Ok(samples_at(buffer))
    }
}

/// Hypercall that ups a semaphore.
pub fn up(sm: Sel) -> u64 {
    Hypercall::CtrlSm.identifier(0, sm)
}

/// Hypercall that downs it.
pub fn down(sm: Sel) -> u64 {
    Hypercall::CtrlSm.identifier(1, sm)
}
