//! Who writes into a ring what it must not.

use crate::pipe::SLOTS;
use packetring::{Descriptor, layout};
use rpc::{Cap, Signal};
use rt::dataspace::{Attached, attach};
use rt::packet::{Error, Sink, Waiter};
use rt::rpc::raise;
use services::Dataspace;
use services::rm::Attr;
use std::sync::atomic::Ordering::SeqCst;

/// The memory of a ring, in words.
pub struct Raw(Attached);

impl Raw {
    /// Attaches it, perhaps once more.
    pub fn attach(memory: Cap<dyn Dataspace>) -> Result<Raw, String> {
        attach(memory, Attr::WRITE).map(Raw).map_err(|e| e.to_string())
    }

    /// Writes a descriptor of the queue that begins there.
    pub fn put(&self, queue: usize, slot: usize, descriptor: Descriptor) {
        let at = (queue + layout::SLOTS + slot * layout::SLOT_LEN) / 8;
        let Descriptor { offset, len, tag } = descriptor;
        self.0.words()[at].store(u64::from(offset) | u64::from(len) << 32, SeqCst);
        self.0.words()[at + 1].store(tag, SeqCst);
    }

    /// Says that there are so many.
    pub fn tail(&self, queue: usize, n: u64) {
        self.0.words()[(queue + layout::TAIL) / 8].store(n, SeqCst);
    }
}

/// A server that gives back what it has not got, in front of what it has; then it says that there is more than goes in.
pub fn acknowledge(mut sink: Sink<Waiter>, memory: Cap<dyn Dataspace>, signal: Signal) -> Result<(), Error> {
    let Ok(raw) = Raw::attach(memory) else { return Ok(()) };
    let queue = layout::acknowledge_at(SLOTS);
    let first = sink.arrival()?;
    let (offset, len) = (first.packet.offset() as u32, first.packet.len() as u32);
    raw.put(queue, 0, Descriptor { offset: offset + 64, len, tag: 1 });
    raw.put(queue, 1, Descriptor { offset, len, tag: 2 });
    raw.tail(queue, 2);
    let _ = raise(signal);
    sink.arrival()?;
    raw.tail(queue, 500);
    let _ = raise(signal);
    // Until the session is over.
    sink.arrival().map(drop)
}
