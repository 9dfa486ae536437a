//! The black hole: takes sessions of many services and does nothing with them; everything but the wiring.
//!
//! A component that needs a service to run, but whose use of it nobody wants to see, gets it here.
//!
//! Key types: [`Swallowed`], [`Config`].
#![forbid(unsafe_code)]

mod config;
mod swallowed;

pub use config::{Config, ConfigError, Service};
pub use swallowed::Swallowed;
