//! RPC: ports and entry points for the interfaces of crate `rpc`.
//!
//! A [`Portal`] is a client's way to an object. An [`Entrypoint`] is a thread at which objects live and signals arrive, one
//! at a time. [`Held`] keeps capabilities that came in messages.
//!
//! Neighbours: `portal` has the thread, `rpc` all that is logic.

mod arrivals;
mod entrypoint;
mod port;
mod signal;

pub use arrivals::{Carried, Held};
pub(crate) use arrivals::{gate, make_room, retire};
pub use entrypoint::{Entrypoint, MAX_OBJECTS, Managed};
pub use port::Portal;
pub use signal::{Context, MAX_CONTEXTS, raise};
