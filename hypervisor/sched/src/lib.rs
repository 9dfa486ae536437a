//! Ready queues, wait queues and timeouts: intrusive lists over objects that live as long as they are linked.
//!
//! Nothing here allocates or walks a list on a hot path; the links are in the objects ([`Node`]). The crate is safe
//! code: an object is a `&'static T`, and whoever reclaims objects must unlink them first.
//!
//! Key types: [`Queue`], [`ReadyQueue`], [`Timeouts`], [`Budget`], [`CpuSet`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod budget;
mod cpus;
mod queue;
mod ready;
mod timeout;

pub use budget::Budget;
pub use cpus::{CpuSet, MAX_CPUS};
pub use queue::{Link, Node, Queue};
pub use ready::{PRIORITIES, ReadyQueue};
pub use timeout::{Deadline, Timeouts};
