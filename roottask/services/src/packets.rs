//! What a session with packets gives its client: a value for methods of any interface.

use crate::Dataspace;
use rpc::{Cap, Signal};

record! {
    /// A ring of packets (`lib/packetring`) in memory of the server's. Which side is the source says the interface, whose method
    /// takes in return what the server is to raise when the client may be asleep.
    Packets {
        /// Both queues and the buffer; the server takes it back when the session ends.
        memory: Cap<dyn Dataspace>,
        /// Slots of each queue, a power of two.
        slots: u64,
        /// What the client raises when the server may be asleep.
        signal: Signal,
    }
}
