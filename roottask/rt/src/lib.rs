//! The std layer: what the precompiled `std` of x86_64-unknown-linux-gnu expects of a C library, on the hypercalls of
//! this system, and the native interface beside it.
//!
//! A component says `extern crate rt;` and is an ordinary `std` program. Two halves:
//!
//! * C symbols for std: [`start`], `thread`, `futex`, `heap`, `files`, `output`, `clock`, ... They refuse what they do
//!   not know; what is not there at all is a link error.
//! * The native interface: [`hypercall`], [`sel`], [`Semaphore`], [`channel`], [`PortalThread`], [`rpc`], [`session`], [`dataspace`],
//!   [`roms`], [`packet`], [`vm`], [`hw`], [`time`], and [`root`] for the root task alone.
//!
//! Below both: `domain` (which selectors are our own), `pages` (who has which page), `lock`, `tcb` (what a thread
//! finds behind FS). Neighbours: `parent` is the contract it fulfils, `rtlogic` its host-tested logic.
#![no_std]
// UNSAFETY: this crate is where raw memory, registers and hypercalls become safe Rust for everyone above.
#![allow(unsafe_code)]

extern crate alloc;

pub mod channel;
mod clock;
pub mod dataspace;
mod domain;
mod env;
mod errno;
mod files;
mod futex;
mod heap;
pub mod hw;
pub mod hypercall;
mod ipc;
mod keys;
mod linux;
mod lock;
mod math;
mod output;
pub mod packet;
mod pages;
mod portal;
mod random;
pub mod roms;
pub mod root;
pub mod rpc;
pub mod sel;
mod semaphore;
pub mod session;
mod space;
mod stack;
mod start;
mod string;
mod tcb;
pub mod thread;
pub mod time;
mod unwind;
pub mod vm;

pub use domain::{Domain, own, rom, start_info};
pub use heap::blocks as heap_blocks_in_use;
pub use ipc::{UtcbGuard, utcb};
pub use pages::in_use as memory_in_use;
pub use portal::{Handler, PortalThread};
pub use semaphore::Semaphore;
pub use start::exit;
