//! The port of clients: a portal.

use super::arrivals::{Arrivals, make_room};
use crate::hypercall::{self, Reply};
use crate::{ipc, tcb};
use abi::{Mtd, Sel, Status};
use rpc::{Cap, Error, Interface, Port, REGISTERS, Reader, Writer};

/// A way to an object of another component, or of an entry point of our own that is not the caller.
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
fn from_utcb(mtd: u32) -> [u64; REGISTERS] {
    let utcb = ipc::utcb();
    let mut words = [0; REGISTERS];
    let n = Mtd::word_count(mtd).min(REGISTERS);
    words[..n].copy_from_slice(&utcb.words[..n]);
    Arrivals::of(&utcb, Mtd::item_count(mtd)).release(0);
    words
}

impl Port for Portal {
    #[inline]
    fn registers(&self, words: [u64; REGISTERS]) -> Result<[u64; REGISTERS], Error> {
        match hypercall::ipc_call_registers(self.0, words) {
            Ok(Reply::Words(words)) => Ok(words),
            Ok(Reply::Utcb(mtd)) => Ok(from_utcb(mtd)),
            Err(status) => Err(error(status)),
        }
    }

    fn message<R>(
        &self,
        items: usize,
        put: impl FnOnce(&mut Writer<'_>),
        take: impl FnOnce(&mut Reader<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if items > 0 {
            make_room(tcb::my()).map_err(Error::Kernel)?;
        }
        let mut utcb = ipc::utcb();
        let mut to = Writer::new(&mut utcb.words);
        put(&mut to);
        let (words, items) = to.written();
        drop(utcb);
        // Without capabilities the kernel has a shorter way.
        let called = match items {
            0 => hypercall::ipc_call(self.0, Mtd::words(words), false),
            n => hypercall::ipc_call_items(self.0, Mtd::with_items(Mtd::words(words), n)),
        };
        let mtd = called.map_err(error)?;
        let utcb = ipc::utcb();
        let (words, items) = (Mtd::word_count(mtd), Mtd::item_count(mtd));
        let arrivals = (items > 0).then(|| Arrivals::of(&utcb, items));
        let mut from = Reader::of_utcb(&utcb.words, words, items);
        let answer = take(&mut from);
        if let Some(arrivals) = arrivals {
            arrivals.release(if answer.is_ok() { from.items_taken() } else { 0 });
        }
        answer
    }
}
