//! Interfaces between components: a trait with [`macro@interface`] is what client and server agree on.
//!
//! ```
//! use rpc::{Signal, Text};
//!
//! /// Why a wake-up is refused.
//! #[derive(Clone, Copy, Debug, PartialEq, rpc::Value)]
//! #[repr(u8)]
//! pub enum TimerError {
//!     /// Farther away than the timer can count.
//!     TooFar = 1,
//! }
//!
//! /// Time and wake-ups.
//! #[rpc::interface(version = "1.0", ram = "16K", caps = 3)]
//! pub trait Timer {
//!     /// Time since boot in µs.
//!     fn elapsed_us(&mut self) -> u64;
//!     /// Raises the signal once after `us`.
//!     fn trigger_once(&mut self, us: u64) -> Result<(), TimerError>;
//!     /// What to raise.
//!     fn sigh(&mut self, context: Signal);
//!     /// A name for the log.
//!     fn rename(&mut self, name: Text<32>);
//! }
//!
//! use rpc::Interface;
//! let table = <dyn Timer as Interface>::TABLE;
//! assert_eq!((table.name, table.methods[1].name, table.cost.ram), ("Timer", "trigger_once", 16 << 10));
//! ```
//!
//! Of this the macro makes `TimerClient<P>`, with the methods of the trait, each returning a `Result` with [`Error`], over
//! any [`Port`]; `TimerServer<T>`, an [`Object`] that calls the methods of a `T: Timer`; and the [`Table`] of the
//! interface, from which versions are compared ([`Table::admits`]) and reference pages are made ([`page`]).
//!
//! A message is the method's number and its arguments, a word at least for each; an answer is a word that says how it
//! went, and the value. Both go in registers if both fit six words and carry no capabilities, else in the UTCB. Values are
//! plain data or capabilities, never addresses. What arrives is not believed: see [`Value::take`].
//!
//! What a reference, or anything else without a bound, makes of it is an error at that place:
//!
//! ```compile_fail
//! /// Notes.
//! #[rpc::interface(version = "1.0", ram = "4K", caps = 1)]
//! pub trait Notes {
//!     /// Writes one down.
//!     fn write(&mut self, text: &str);
//! }
//! ```
//!
//! So is a message that is too long:
//!
//! ```compile_fail
//! /// Notes.
//! #[rpc::interface(version = "1.0", ram = "4K", caps = 1)]
//! pub trait Notes {
//!     /// Writes one down.
//!     fn write(&mut self, text: rpc::Text<4096>);
//! }
//! ```
//!
//! Beside that, the books of an entry point, [`Objects`], [`Tasks`] and [`Uses`], and of couriers, [`Pool`]. Neighbours: `rt` has the port and the entry point,
//! `rpc-macros` the macros.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
extern crate self as rpc;
#[cfg(test)]
extern crate std;

mod call;
mod cap;
mod error;
mod objects;
mod page;
mod pool;
mod table;
mod tasks;
mod text;
mod uses;
mod value;
mod window;
mod wire;

pub use call::{Frame, Object, Port, REGISTERS, Sent, Serves, answer, call, refuse};
pub use cap::{Cap, Signal, Space};
pub use error::{Error, Refusal};
pub use objects::{Indices, Objects};
pub use page::page;
pub use pool::{Pool, Turn};
pub use rpc_macros::{Value, interface};
pub use table::{Argument, Built, Cost, Interface, Method, Table, Version};
pub use tasks::{Event, Full, Job, Key, Tasks};
pub use text::{Bytes, Text};
pub use uses::Uses;
pub use value::{Size, Value, fits, short, size, words_of};
pub use window::Window;
pub use wire::{Bad, Reader, Writer};
pub use zerocopy;
