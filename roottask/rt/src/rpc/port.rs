//! The port of clients: a portal. What is on another CPU a courier calls.

use super::arrivals::{Arrivals, make_room};
use super::courier;
use crate::hypercall::{self, Failed, Reply};
use crate::{ipc, tcb};
use abi::{Mtd, Sel, Status};
use rpc::{Cap, Error, Interface, Port, REGISTERS, Reader, Writer};

/// A way to an object of another component, or of an entry point of our own that is not the caller. One on another CPU is
/// called by a courier, a thread of ours there, which then stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Portal(Sel);

impl Portal {
    /// To the object of a capability.
    pub fn to<I: Interface + ?Sized>(cap: Cap<I>) -> Portal {
        Portal(cap.sel())
    }
}

/// A dissolved object is a null capability to its clients, and a dead server one that aborts.
#[cold]
fn error(status: Status) -> Error {
    match status {
        Status::Aborted | Status::BadCap => Error::Gone,
        Status::BadCpu => Error::OtherCpu,
        other => Error::Kernel(other),
    }
}

/// The answer of a server that does not use registers.
#[cold]
pub(super) fn from_utcb(mtd: u32) -> [u64; REGISTERS] {
    let utcb = ipc::utcb();
    let mut words = [0; REGISTERS];
    let n = Mtd::word_count(mtd).min(REGISTERS);
    words[..n].copy_from_slice(&utcb.words[..n]);
    Arrivals::of(&utcb, Mtd::item_count(mtd)).release(0);
    words
}

/// Calls a portal, wherever it is.
#[inline]
pub(super) fn call(pt: Sel, words: [u64; REGISTERS]) -> Result<[u64; REGISTERS], Status> {
    match hypercall::try_call_registers(pt, words) {
        Ok(Reply::Words(words)) => Ok(words),
        Ok(Reply::Utcb(mtd)) => Ok(from_utcb(mtd)),
        Err((failed, words)) => elsewhere(pt, words, &failed),
    }
}

#[cold]
fn elsewhere(pt: Sel, words: [u64; REGISTERS], why: &Failed) -> Result<[u64; REGISTERS], Status> {
    match why.cpu() {
        Some(cpu) => courier::registers(cpu, pt, words),
        None => Err(why.status()),
    }
}

/// The same for a port. By reference, so that where both ways meet the words of a call that went well are in registers.
#[cold]
fn port_elsewhere(pt: Sel, words: &mut [u64; REGISTERS], why: &Failed) -> Result<(), Error> {
    *words = elsewhere(pt, *words, why).map_err(error)?;
    Ok(())
}

#[cold]
fn port_from_utcb(mtd: u32, words: &mut [u64; REGISTERS]) {
    *words = from_utcb(mtd);
}

/// The same by the UTCB. `room`: capabilities may come with the answer; those of one from elsewhere are returned.
fn call_by_utcb(pt: Sel, mtd: u32, room: bool) -> Result<(u32, Option<Arrivals>), Status> {
    let failed = match hypercall::ipc_call_any(pt, mtd) {
        Ok(mtd) => return Ok((mtd, None)),
        Err(failed) => failed,
    };
    match failed.cpu() {
        // The message is still in the UTCB.
        Some(cpu) => courier::message(cpu, pt, mtd, room),
        None => Err(failed.status()),
    }
}

impl Port for Portal {
    #[inline]
    fn registers(&self, words: [u64; REGISTERS]) -> Result<[u64; REGISTERS], Error> {
        match hypercall::try_call_registers(self.0, words) {
            Ok(Reply::Words(words)) => Ok(words),
            Ok(Reply::Utcb(mtd)) => {
                let mut words = [0; REGISTERS];
                port_from_utcb(mtd, &mut words);
                Ok(words)
            }
            Err((failed, words)) => {
                let mut words = words;
                port_elsewhere(self.0, &mut words, &failed).map(|()| words)
            }
        }
    }

    fn message<R>(
        &self,
        items: usize,
        put: impl FnOnce(&mut Writer<'_>),
        take: impl FnOnce(&mut Reader<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let room = items > 0;
        if room {
            make_room(tcb::my()).map_err(Error::Kernel)?;
        }
        let mut utcb = ipc::utcb();
        let mut to = Writer::new(&mut utcb.words);
        put(&mut to);
        let (words, items) = to.written();
        drop(utcb);
        let mtd = Mtd::with_items(Mtd::words(words), items);
        let (mtd, arrivals) = call_by_utcb(self.0, mtd, room).map_err(error)?;
        let utcb = ipc::utcb();
        let (words, items) = (Mtd::word_count(mtd), Mtd::item_count(mtd));
        let arrivals = arrivals.or_else(|| (items > 0).then(|| Arrivals::of(&utcb, items)));
        let mut from = Reader::of_utcb(&utcb.words, words, items);
        let answer = take(&mut from);
        if let Some(arrivals) = arrivals {
            arrivals.release(if answer.is_ok() { from.items_taken() } else { 0 });
        }
        answer
    }
}
