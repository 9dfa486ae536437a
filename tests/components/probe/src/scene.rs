//! What checks are made of: ECs with event portals of our own, and a way to touch memory that may fault. Slots and memory
//! are those of `bare`.
//!
//! The root task that tests the kernel uses it, too; what differs there is in `own`.
//!
//! Key types: [`Local`] (a local thread on bare code), [`Global`] (a thread on bare code), [`Fault`].

use crate::check::done;
use crate::own::sel;
pub use crate::own::start;
use abi::{ArchState, Mtd, Sel, Status, event};
pub use bare::{PAGE, Slot, copy, memory, page, peek, poke, utcb_page, window};
use rt::hypercall::{self as hc, EcArgs};
use rt::{PortalThread, Semaphore};
use std::arch::{asm, global_asm};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

/// CPU of what is made, and 1; 0: that of this component.
static CPU: AtomicU64 = AtomicU64::new(0);

/// CPU of this component, or the one that [`on_cpu`] has chosen.
pub fn cpu() -> u16 {
    match CPU.load(Relaxed) {
        0 => rt::start_info().map_or(0, |i| i.cpu as u16),
        n => n as u16 - 1,
    }
}

/// What `f` makes, it makes on that CPU.
pub fn on_cpu<T>(cpu: u16, f: impl FnOnce() -> T) -> T {
    CPU.store(u64::from(cpu) + 1, Relaxed);
    let made = f();
    CPU.store(0, Relaxed);
    made
}

/// Address of the entry of all [`Local`] threads.
pub fn entry() -> u64 {
    probe_entry as *const () as u64
}

/// So many milliseconds in STC ticks.
pub fn ms(n: u64) -> u64 {
    rt::time::tsc_hz() / 1000 * n
}

/// The STC, so many milliseconds from now.
pub fn in_ms(n: u64) -> u64 {
    rt::time::tsc() + ms(n)
}

/// How much longer [`sleep_ms`] takes.
static PATIENCE: AtomicU64 = AtomicU64::new(1);

/// From now on [`sleep_ms`] takes so many times as long: for emulators whose clock is the host's, and goes on while the
/// host runs others.
pub fn be_patient(times: u64) {
    PATIENCE.store(times, Relaxed);
}

/// Lets others come to where they will be.
pub fn sleep_ms(n: u64) {
    Semaphore::new(0).down_until(in_ms(n * PATIENCE.load(Relaxed)));
}

/// Uses up time.
pub fn spin_ms(n: u64) {
    let end = in_ms(n);
    while rt::time::tsc() < end {}
}

/// Waits for a semaphore, but not for ever.
pub fn arrives(what: &str, s: &Semaphore) -> Result<(), String> {
    if s.down_until(in_ms(2000)) { Ok(()) } else { Err(format!("{what}: did not come within 2 s")) }
}

/// Handles events: number and state; returns what to write back.
pub type React = Box<dyn FnMut(u64, &mut ArchState) -> Mtd + Send>;

/// What arrived at event portals.
pub type Log = Arc<Mutex<Vec<(u64, ArchState)>>>;

/// All that a thread has.
pub const THREAD: Mtd = Mtd::GPR_0_7.union(Mtd::GPR_8_15).union(Mtd::RFLAGS).union(Mtd::RIP).union(Mtd::QUAL);
/// Events of a thread.
pub const THREAD_EVENTS: u64 = event::HST_ARCH + event::HST_NOVA;

/// Selectors for the events of an EC, with portals to a handler of our own if there is a `react`.
#[derive(Debug)]
pub struct Events {
    /// Event base.
    pub base: Sel,
    count: u64,
}

impl Events {
    /// `count` events that transfer `mtd`.
    pub fn new(count: u64, mtd: Mtd, react: Option<React>) -> Result<Events, String> {
        let base = rt::sel::alloc_range(count, 1).ok_or("no selectors")?;
        let e = Events { base, count };
        let Some(mut react) = react else { return Ok(e) };
        let handler = Box::new(move |pid, _, u: &mut abi::Utcb| react(pid, u.arch_mut()).bits());
        let t = done("event handler", PortalThread::new(cpu(), 32 << 10, handler))?;
        for n in 0..count {
            done("event portal", t.portal(base + n, n, mtd.bits()))?;
        }
        Ok(e)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        for n in 0..self.count {
            rt::sel::free(self.base + n);
        }
    }
}

// Entry of local threads on bare code: the stack pointer is at the UTCB's address and the body's.
global_asm!(
    "probe_entry:",
    "mov rdx, [rsp]",
    "mov rax, [rsp + 8]",
    "xor ebp, ebp",
    "call rax",
    "mov esi, eax",
    "shr rax, 32",
    "shl eax, 4",
    "lea edi, [rax + {reply}]",
    "syscall",
    "ud2",
    reply = const abi::Hypercall::IpcReply as u8,
);

unsafe extern "C" {
    /// Entry of local threads on bare code; their stack has at its end the UTCB's address and a [`Body`].
    pub fn probe_entry();
}

/// Code that a [`Local`] runs for each message: identifier, descriptor, UTCB; returns the reply's descriptor, and
/// its flags in bits 63:32. It has no
/// thread-local data: hypercalls, atomics and memory only.
pub type Body = extern "C" fn(pid: u64, mtd: u64, utcb: *mut u64) -> u64;

/// A local thread on bare code, with a portal.
#[derive(Debug)]
pub struct Local {
    /// EC.
    pub ec: Slot,
    /// Portal: identifier 0.
    pub portal: Slot,
    /// Its events.
    pub events: Events,
}

impl Local {
    /// Without `react` any event kills it.
    pub fn new(body: Body, react: Option<React>) -> Result<Local, String> {
        Local::with(body, react, true)
    }

    /// Also without the right to use vector registers.
    pub fn with(body: Body, react: Option<React>, fpu: bool) -> Result<Local, String> {
        let events = Events::new(THREAD_EVENTS, THREAD, react)?;
        let (utcb, top) = (utcb_page(), memory(16 << 10, 16) + (16 << 10) - 16);
        poke(top, utcb);
        poke(top + 8, body as *const () as u64);
        let (ec, portal) = (Slot::new(), Slot::new());
        let args = EcArgs {
            utcb_page: utcb,
            cpu: cpu(),
            sp: top,
            evt: events.base,
            guest: false,
            global_or_offset: false,
            fpu,
        };
        // SAFETY: page and stack are new, and it is entered at `probe_entry` only.
        unsafe {
            done("create_ec", hc::create_ec(ec.0, sel::PD, args))?;
            done("create_pt", hc::create_pt(portal.0, sel::PD, ec.0, probe_entry as *const () as u64))?;
        }
        Ok(Local { ec, portal, events })
    }

    /// Calls it with those words; returns as many of the reply as its descriptor says.
    pub fn call(&self, words: &[u64]) -> Result<Vec<u64>, Status> {
        call(self.portal.0, words, false)
    }
}

/// Calls a portal with words; returns those of the reply.
pub fn call(pt: Sel, words: &[u64], no_wait: bool) -> Result<Vec<u64>, Status> {
    rt::utcb().words[..words.len()].copy_from_slice(words);
    let mtd = hc::ipc_call(pt, Mtd::words(words.len()), no_wait)?;
    Ok(rt::utcb().words[..Mtd::word_count(mtd)].to_vec())
}

/// A portal thread with a portal.
pub fn server(handler: rt::Handler) -> Result<(PortalThread, Slot), String> {
    let t = done("portal thread", PortalThread::new(cpu(), 32 << 10, handler))?;
    let s = Slot::new();
    done("portal", t.portal(s.0, 0, 0))?;
    Ok((t, s))
}

/// A thread with events of its own on bare code.
#[derive(Debug)]
pub struct Global {
    /// EC.
    pub ec: Slot,
    /// Stack pointer that it was created with.
    pub sp: u64,
    /// SC and events: only held.
    _rest: (Slot, Events),
}

impl Global {
    /// Runs `body(arg)`, `lower` below our own priority. STARTUP is answered here, all other events by `react`; those
    /// arrive with number and state in the log that is returned.
    pub fn new(
        body: extern "C" fn(u64) -> !,
        arg: u64,
        lower: u64,
        mut react: impl FnMut(u64, &mut ArchState) -> Mtd + Send + 'static,
    ) -> Result<(Global, Log), String> {
        let log = Log::default();
        let (seen, top) = (log.clone(), memory(16 << 10, 16) + (16 << 10) - 8);
        let events = Events::new(
            THREAD_EVENTS,
            THREAD,
            Some(Box::new(move |n, s| {
                seen.lock().expect("log").push((n, *s));
                if n != event::HST_STARTUP {
                    return react(n, s);
                }
                s.rip = body as *const () as u64;
                s.gpr[ArchState::RDI] = arg;
                Mtd::GPR_0_7 | Mtd::RIP
            })),
        )?;
        let (ec, sc) = (Slot::new(), Slot::new());
        let args = EcArgs {
            utcb_page: utcb_page(),
            cpu: cpu(),
            sp: top,
            evt: events.base,
            guest: false,
            global_or_offset: true,
            fpu: true,
        };
        // SAFETY: page and stack are new, and it is started at `body` only.
        done("create_ec", unsafe { hc::create_ec(ec.0, sel::PD, args) })?;
        start(ec.0, sc.0, lower)?;
        Ok((Global { ec, sp: top, _rest: (sc, events) }, log))
    }
}

/// Why an access failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Event.
    pub event: u64,
    /// First qualification.
    pub error: u64,
    /// Second.
    pub addr: u64,
}

/// Error code of a page fault, user mode: nothing there.
pub const NOT_MAPPED: u64 = 4;
/// Bit of it: write.
pub const WRITE: u64 = 2;
/// Bit of it: fetch.
pub const FETCH: u64 = 0x10;
/// Bit of it: something is there, but not for that.
pub const DENIED: u64 = 1;

/// How to touch memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Reads a byte.
    Read,
    /// Writes a byte.
    Write,
    /// Calls a function there.
    Call,
}

/// Body of the thread that touches: an exception goes on at the address in R9 with the stack pointer in R10.
extern "C" fn toucher(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the own UTCB; the accesses are the purpose.
    unsafe {
        let (op, addr) = (u.read_volatile(), u.add(1).read_volatile());
        asm!(
            "lea r9, [rip + 4f]",
            "mov r10, rsp",
            "cmp rdi, 1",
            "ja 3f",
            "je 2f",
            "mov al, [rsi]",
            "jmp 4f",
            "2:",
            "mov byte ptr [rsi], 0x5a",
            "jmp 4f",
            "3:",
            "call rsi",
            "4:",
            "mov rsp, r10",
            in("rdi") op, in("rsi") addr, out("r9") _, out("r10") _, out("rax") _,
            clobber_abi("C"),
        );
    }
    0
}

/// Accesses an address and says how it failed, if it did.
pub fn touch(addr: u64, how: Touch) -> Result<Option<Fault>, String> {
    static TOUCHER: OnceLock<(Local, Arc<Mutex<Option<Fault>>>)> = OnceLock::new();
    let (local, fault) = TOUCHER.get_or_init(|| {
        let fault = Arc::new(Mutex::new(None));
        let seen = fault.clone();
        let react: React = Box::new(move |event, s| {
            *seen.lock().expect("fault") = Some(Fault { event, error: s.qual[0], addr: s.qual[1] });
            s.rip = s.gpr[9];
            Mtd::RIP
        });
        (Local::new(toucher, Some(react)).expect("a thread that touches"), fault)
    });
    *fault.lock().expect("fault") = None;
    done("call of the thread that touches", local.call(&[how as u64, addr]))?;
    Ok(*fault.lock().expect("fault"))
}

/// Such an access works.
pub fn works(what: &str, addr: u64, how: Touch) -> Result<(), String> {
    crate::check::equal(what, touch(addr, how)?, None)
}

/// Such an access is a page fault with that error code.
pub fn faults(what: &str, addr: u64, how: Touch, error: u64) -> Result<(), String> {
    crate::check::equal(what, touch(addr, how)?, Some(Fault { event: 14, error, addr }))
}
