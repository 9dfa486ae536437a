//! The current thread's UTCB, and calls to the parent.

use crate::hypercall::{self, EcArgs};
use crate::{start, tcb};
use abi::{Mtd, Sel, Status, UTCB_WORDS, Utcb};
use core::ops::{Deref, DerefMut};
use parent::{Call, LOG_MAX, Refusal, sel};

/// The calling thread's UTCB, for as long as it lives. See [`utcb`].
pub struct UtcbGuard(*mut Utcb);

/// The calling thread's UTCB. Drop it before anything that makes a call, and look again for the reply.
///
/// Panics if the thread has it already: in a portal handler it is the handler's parameter.
pub fn utcb() -> UtcbGuard {
    assert!(!tcb::my().utcb_taken.replace(true), "rt: the UTCB is already in use");
    UtcbGuard(tcb::my().utcb)
}

impl Drop for UtcbGuard {
    fn drop(&mut self) {
        tcb::my().utcb_taken.set(false);
    }
}

impl Deref for UtcbGuard {
    type Target = Utcb;
    fn deref(&self) -> &Utcb {
        // SAFETY: the kernel maps it for the life of the thread; the flag makes this the only reference. The type is
        // bound to its thread by the raw pointer in it.
        unsafe { &*self.0 }
    }
}

impl DerefMut for UtcbGuard {
    fn deref_mut(&mut self) -> &mut Utcb {
        // SAFETY: as above.
        unsafe { &mut *self.0 }
    }
}

/// Runs `f`, which makes calls, and has the UTCB afterwards as it was, in whoever's hands it is: where a portal handler prints
/// something its message is in there.
pub(crate) fn aside<R>(f: impl FnOnce() -> R) -> R {
    let me = tcb::my();
    if !me.utcb_taken.replace(false) {
        return f();
    }
    let mut saved = [0; UTCB_WORDS];
    let words = me.utcb.cast::<u64>();
    // SAFETY: the own UTCB. Whoever holds a reference to it sees the same values before and after.
    unsafe { words.copy_to_nonoverlapping(saved.as_mut_ptr(), UTCB_WORDS) };
    let result = f();
    // SAFETY: as above.
    unsafe { words.copy_from_nonoverlapping(saved.as_ptr(), UTCB_WORDS) };
    me.utcb_taken.set(true);
    result
}

/// Words of the longest call: operation, length, text.
const CALL_WORDS: usize = 2 + LOG_MAX.div_ceil(8);

/// Calls the parent. The UTCB has its old content afterwards: a portal handler may call us while its message is in
/// there, through nothing more than a `println!`.
fn call_parent(c: &Call) -> Result<(), Status> {
    let mut message = [0; UTCB_WORDS];
    let n = c.encode(&mut message);
    let words = tcb::my().utcb.cast::<u64>();
    let mut saved = [0; CALL_WORDS];
    // SAFETY: the own UTCB. Whoever holds a reference to it sees the same values before and after; the reply has one
    // word by contract, so it stays within what is saved.
    unsafe {
        words.copy_to_nonoverlapping(saved.as_mut_ptr(), CALL_WORDS);
        words.copy_from_nonoverlapping(message.as_ptr(), n);
        let called = hypercall::ipc_call(sel::parent(tcb::my().cpu), Mtd::words(n), false);
        let reply = words.read_volatile();
        words.copy_from_nonoverlapping(saved.as_ptr(), CALL_WORDS);
        called?;
        refused(reply)
    }
}

/// The reply's first word.
fn refused(word: u64) -> Result<(), Status> {
    match Refusal::from_word(word) {
        None => Ok(()),
        Some(Refusal::BadCall) => Err(Status::BadPar),
        Some(Refusal::BadSelector) => Err(Status::BadCap),
        Some(Refusal::NoMemory) => Err(Status::MemObj),
        Some(Refusal::NotYourCpu) => Err(Status::BadCpu),
        Some(Refusal::NoGuests) => Err(Status::BadFtr),
        Some(Refusal::NoRoute) => Err(Status::BadCap),
    }
}

/// See [`Call::StartThread`].
pub(crate) fn start_thread(ec: Sel, sc: Sel, lower: u64) -> Result<(), Status> {
    call_parent(&Call::StartThread { ec, sc, lower })
}

/// See [`Call::CreateEc`].
pub(crate) fn create_ec(ec: Sel, a: EcArgs) -> Result<(), Status> {
    let EcArgs { utcb_page: page, cpu, sp, evt: events, .. } = a;
    call_parent(&Call::CreateEc { ec, cpu, flags: a.flags(), page, sp, events })
}

/// See [`Call::CreateCourier`].
pub(crate) fn create_courier(ec: Sel, a: EcArgs) -> Result<(), Status> {
    let EcArgs { utcb_page: page, cpu, sp, evt: events, .. } = a;
    call_parent(&Call::CreateCourier { ec, cpu, page, sp, events })
}

/// See [`Call::Exit`].
pub(crate) fn exit(code: u64) -> ! {
    if !crate::session::exit(code) {
        let _ = call_parent(&Call::Exit { code });
    }
    // The parent has taken note, or cannot be told.
    start::stop()
}

/// Has the parent log `text`, in pieces of whole lines where they fit.
pub(crate) fn log(mut text: &[u8]) {
    while !text.is_empty() {
        let part = &text[..text.len().min(LOG_MAX)];
        let len = match part.iter().rposition(|&b| b == b'\n') {
            Some(end) if part.len() < text.len() => end + 1,
            _ => part.len(),
        };
        let _ = call_parent(&Call::Log { text: &text[..len] });
        text = &text[len..];
    }
}
