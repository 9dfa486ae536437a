//! Driver for 16550-compatible UARTs: everything but the wiring.
//!
//! The driver owns the eight ports and the interrupt of one UART and serves one byte stream, "terminal", both ways.
//! `main.rs` connects [`Uart`] to real ports and to the client's rings; nothing here touches hardware.
//!
//! Key types: [`Uart`] (the device), [`Ports`] (how it reaches its registers), [`Config`].
#![forbid(unsafe_code)]

mod config;
mod device;
#[cfg(test)]
mod fake;
mod health;
pub mod spec;

pub use config::{Config, ConfigError};
pub use device::{OpenError, Ports, RX_BACKLOG, Uart};
pub use health::LineErrors;
