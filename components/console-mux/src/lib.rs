//! The console multiplexer: many log streams and terminals on one terminal, everything but the wiring.
//!
//! Log clients send text; each line comes out as `[label] text`. Terminal clients are raw both ways; the one with the
//! focus, today the first, gets the keyboard. A log line never ends up inside a terminal's line: it waits for the
//! line's end if that is at hand, else it is put in front of it, and the unfinished line (a shell prompt, say) is
//! printed again.
//!
//! `main.rs` connects [`Mux`] to the rings of the clients and of the terminal below.
//!
//! Key types: [`Mux`], [`Streams`], [`Client`], `Screen`.
#![forbid(unsafe_code)]

mod client;
mod config;
mod mux;
mod screen;

pub use client::{Client, Kind, LINE_MAX};
pub use config::{Config, ConfigError};
pub use mux::{Mux, Streams};
pub use screen::{OUT_MAX, PARTIAL_MAX};
