//! The console multiplexer: many log streams and terminals on one terminal, everything but the wiring.
//!
//! Log clients send text; each line comes out as `[label] text`. Terminal clients are raw both ways; one of them is
//! shown and gets the keyboard, of the others the last output is kept. Keys after an escape key switch between them,
//! and to the logs. A log line never ends up inside a terminal's line: it waits for the line's end if that is at hand,
//! else it is put in front of it, and the unfinished line (a shell prompt, say) is printed again.
//!
//! `main.rs` connects [`Mux`] to the rings of the clients and of the terminal below.
//!
//! Key types: [`Mux`], [`Streams`], [`Config`], and inside the crate `Screen`, `Terminal`, `Log`, `Keys`.
#![forbid(unsafe_code)]

mod backlog;
mod client;
mod config;
mod history;
mod keys;
mod log;
mod mux;
mod queries;
mod screen;
mod terminal;

pub use client::{CLIENTS_MAX, Kind, LINE_MAX};
pub use config::{Config, ConfigError, Escape};
pub use mux::{Mux, Streams};
pub use screen::{OUT_MAX, PARTIAL_MAX};
pub use terminal::KEYS_MAX;
