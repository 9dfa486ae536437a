//! Events: exceptions, STARTUP and RECALL [8.6].

use crate::nova::{Status, call, mtd, on, root, utcb};
use crate::world::{Handler, World, park, place, sel};
use crate::{Verdict, check};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What the last exception was: error code, address.
static ERROR: AtomicU64 = AtomicU64::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);
/// Breakpoints and recalls so far.
static COUNT: AtomicU64 = AtomicU64::new(0);
static RECALLS: AtomicU64 = AtomicU64::new(0);

// One instruction that may fail; its handler goes on behind it with RAX = 1.
global_asm!(
    "try_read:",
    "xor eax, eax",
    "try_read_at: mov rdx, [rdi]",
    "try_read_end: ret",
    "try_write:",
    "xor eax, eax",
    "try_write_at: mov [rdi], rdi",
    "try_write_end: ret",
    "try_in:",
    "xor eax, eax",
    "mov edx, edi",
    "try_in_at: in al, dx",
    "try_in_end: mov edx, eax",
    "shr eax, 8",
    "ret",
);

unsafe extern "C" {
    fn try_read(address: u64) -> u64;
    fn try_write(address: u64) -> u64;
    fn try_in(port: u64) -> u64;
    fn try_write_at();
    fn try_write_end();
    fn try_read_at();
    fn try_read_end();
    fn try_in_at();
    fn try_in_end();
}

/// The error code, and the address that the exception was about.
pub struct Exception(pub u64, pub u64);

fn outcome(failed: u64) -> Result<(), Exception> {
    if failed == 0 { Ok(()) } else { Err(Exception(ERROR.load(SeqCst), ADDRESS.load(SeqCst))) }
}

/// Reads a word at an address.
pub fn read(address: u64) -> Result<(), Exception> {
    // SAFETY: an address where nothing is raises an exception that `answer` ends.
    outcome(unsafe { try_read(address) })
}

/// Writes a word at an address that nobody needs.
pub fn write(address: u64) -> Result<(), Exception> {
    // SAFETY: as above.
    outcome(unsafe { try_write(address) })
}

/// Reads a port.
pub fn input(port: u64) -> Result<(), Exception> {
    // SAFETY: as above; the ports are read only to see whether they can be.
    outcome(unsafe { try_in(port) })
}

extern "C" fn answer(utcb: &mut [u64; utcb::WORDS], groups: u64) -> u64 {
    ERROR.store(utcb[utcb::QUAL], SeqCst);
    ADDRESS.store(utcb[utcb::QUAL + 1], SeqCst);
    let at = |f: unsafe extern "C" fn()| f as usize as u64;
    if groups != EXCEPTION {
        return mtd::POISON;
    }
    match utcb[utcb::RIP] {
        rip if rip == at(try_read_at) => (utcb[utcb::RIP], utcb[utcb::RAX]) = (at(try_read_end), 1),
        rip if rip == at(try_write_at) => (utcb[utcb::RIP], utcb[utcb::RAX]) = (at(try_write_end), 1),
        rip if rip == at(try_in_at) => (utcb[utcb::RIP], utcb[utcb::RAX]) = (at(try_in_end), 0x100),
        rip => {
            crate::print!("exception at {rip:#x}, address {:#x}\n", utcb[utcb::QUAL + 1]);
            return mtd::POISON;
        }
    }
    mtd::RIP | mtd::GPR_0_7
}

/// RIP is behind the instruction already.
extern "C" fn breakpoint(utcb: &mut [u64; utcb::WORDS], _: u64) -> u64 {
    COUNT.fetch_add(1, SeqCst);
    utcb[utcb::RCX] = 0x5a5a;
    mtd::GPR_0_7
}

const EXCEPTION: u64 = mtd::RIP | mtd::GPR_0_7 | mtd::QUAL;

/// #BP, #GP, #PF of the root EC, whose event base is 0, reach their portals with the groups that these ask for.
pub fn exceptions(w: &World) -> Verdict {
    let handler = sel::HANDLERS + w.hip.cpu_bsp();
    let portals: [(u64, Handler); 3] = [(3, breakpoint), (13, answer), (14, answer)];
    for (vector, handle) in portals {
        let status = w.portal(vector, handler, handle, EXCEPTION);
        check!(status == Status::Success, status as u8);
    }
    let mut given: u64 = 0;
    // SAFETY: a breakpoint, whose handler changes one register.
    unsafe { asm!("int3", inout("rcx") given) };
    check!(given == 0x5a5a && COUNT.load(SeqCst) == 1, given);
    let nothing = place::FREE + 0x8_0123;
    match read(nothing) {
        // Not present, read, user [4, 5].
        Err(Exception(error, address)) => check!(error == 4 && address == nothing, address),
        Ok(()) => return Verdict::Failed("memory where none is", nothing),
    }
    match input(0x21) {
        Err(Exception(error, _)) => check!(error == 0, error),
        Ok(()) => return Verdict::Failed("a port that was not granted", 0x21),
    }
    check!(input(u64::from(crate::console::COM1) + 5).is_ok());
    // The information page is read-only [6.2.3.2].
    check!(read(w.hip.0).is_ok());
    check!(matches!(write(w.hip.0), Err(Exception(7, _))));
    Verdict::Ok
}

static BODY: AtomicU64 = AtomicU64::new(0);

/// Says that it runs, and sleeps for ever.
extern "C" fn body() -> ! {
    BODY.fetch_add(1, SeqCst);
    let _ = on(call::SM_UP, sel::FREE, [0; 4]);
    park()
}

/// A global thread raises STARTUP when it gets an SC, and runs where the answer says.
pub fn startup(w: &World) -> Verdict {
    let pd = w.root(root::PD);
    check!(on(call::CREATE_SM, sel::FREE, [pd, 0, 0, 0]).0 == Status::Success);
    check!(w.global(sel::FREE + 2, w.hip.cpu_bsp(), 12, body, 1) == Status::Success);
    // We have the highest priority.
    check!(BODY.load(SeqCst) == 0);
    let late = crate::nova::stc() + w.hip.stc_freq();
    let (status, _) = on(call::SM_DOWN, sel::FREE, [late, 0, 0, 0]);
    check!(status == Status::Success && BODY.load(SeqCst) == 1, status as u8);
    w.empty(sel::FREE + 2, 1);
    w.empty(sel::FREE, 1);
    Verdict::Ok
}

extern "C" fn recalled(_: &mut [u64; utcb::WORDS], _: u64) -> u64 {
    RECALLS.fetch_add(1, SeqCst);
    0
}

/// We recall ourselves [5.4.2].
pub fn recall(w: &World) -> Verdict {
    let (handler, at) = (sel::HANDLERS + w.hip.cpu_bsp(), w.hip.field(0x60, 16) + 1);
    check!(w.portal(at, handler, recalled, 0) == Status::Success);
    let (status, _) = on(call::CTRL_EC_STRONG, w.root(root::EC), [0; 4]);
    check!(status == Status::Success && RECALLS.load(SeqCst) == 1, status as u8);
    check!(on(call::CTRL_EC_STRONG, w.root(root::SC), [0; 4]).0 == Status::BadCap);
    Verdict::Ok
}
