//! Byte streams: lines of a log, and terminals.
//!
//! A session is a dataspace with a ring of bytes for each direction ([`lib/bytering`](../../../lib/bytering/src/lib.rs)), which the
//! server allocates from what the client has donated, and a signal each way. Ring 0 carries bytes to the server, ring 1 of a terminal
//! those to the client.

use crate::Dataspace;
use rpc::{Cap, Signal};

/// Length of a ring in bytes, header included: room for 16 KiB.
pub const RING_LEN: u64 = 20 << 10;

/// Why a session is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum NotConnected {
    /// It is already.
    Twice = 1,
    /// The server has no memory for it.
    Memory = 2,
}

impl core::fmt::Display for NotConnected {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            NotConnected::Twice => "the session is connected already",
            NotConnected::Memory => "the server has no memory for the session",
        })
    }
}

/// The rings, and what the client raises when it has put bytes into them, or taken some out.
pub type Connected = (Cap<dyn Dataspace>, Signal);

/// Lines of text for a log. The session's label says whose they are.
#[rpc::interface(version = "1.0", ram = "24K", caps = 4)]
pub trait Log {
    /// Gives the client its ring, once; `wake` is what the server raises when it has taken bytes out of the full ring.
    fn connect(&mut self, wake: Signal) -> Result<Connected, NotConnected>;
}

/// Bytes both ways, as they are: what is shown, and what is typed.
#[rpc::interface(version = "1.0", ram = "44K", caps = 4)]
pub trait Terminal {
    /// Gives the client its rings, once; `wake` is what the server raises when it has changed one.
    fn connect(&mut self, wake: Signal) -> Result<Connected, NotConnected>;
}
