//! Protocols between CPUs: mailboxes, shoot-downs, grace periods, counted references, semaphores.
//!
//! The kernel uses them as they are. `hypervisor/smp/loom` compiles the same sources over loom's atomics and locks and
//! tries the interleavings. An interrupt is what the caller does when told to; the rest is here.
//!
//! Key types: [`Requests`], [`Presence`], [`Root`], [`Period`], [`Seen`], [`Mailbox`], [`Count`], [`Semaphore`].
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]

mod count;
mod grace;
mod mail;
mod presence;
mod semaphore;
mod shoot;
mod sync;

pub use count::Count;
pub use grace::{Period, Seen};
pub use mail::Mailbox;
pub use presence::{Presence, Root};
pub use semaphore::{Overflow, Semaphore};
pub use shoot::Requests;
