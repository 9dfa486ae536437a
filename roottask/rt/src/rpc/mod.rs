//! RPC: ports and entry points for the interfaces of crate `rpc`.
//!
//! A [`Portal`] is a client's way to an object. An [`Entrypoint`] is a thread at which objects live and signals arrive, one
//! at a time. [`Held`] keeps capabilities that came in messages. Calls to other CPUs go by couriers, threads of our own there.
//!
//! Neighbours: `portal` has the thread, `rpc` all that is logic.

mod arrivals;
mod courier;
mod entrypoint;
mod port;
mod signal;
mod task;

pub use arrivals::{Carried, Held};
pub(crate) use arrivals::{gate, make_room, retire};
pub(crate) use courier::gate as couriers_gate;
pub use courier::provide_courier;
pub use entrypoint::{Entrypoint, MAX_OBJECTS, Managed};
pub use port::Portal;
pub use signal::{Context, MAX_CONTEXTS, raise};
pub use task::{Listener, MAX_TASKS, Task};
