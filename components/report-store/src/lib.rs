//! The report store: what some components report, others get as ROMs that change; everything but the wiring.
//!
//! Rules say whose ROM is whose report, by the labels that parents have made. A report is written in pieces and becomes the
//! content of its ROMs all at once; whoever reads one is told that it has changed.
//!
//! Key types: [`Store`], [`Rules`].
#![forbid(unsafe_code)]

mod config;
mod rules;
mod store;

pub use config::{Config, ConfigError};
pub use rules::{RuleError, Rules};
pub use store::{Changed, Limit, ReaderId, Store, StoreError, WriterId, cost};
