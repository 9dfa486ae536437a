//! The log collector: the lines of many clients become one log, everything but the wiring.
//!
//! Each line gets a number, the time at which it ended, and its client's label. A client that writes more than its share
//! loses lines, and the log says how many. The last lines are kept for whoever reads them.
//!
//! Key types: [`Collector`], [`Line`], [`Config`].
#![forbid(unsafe_code)]

mod bucket;
mod collector;
mod config;
mod kept;

pub use collector::{ClientId, Collector, Full, LINE_MAX, MAX_CLIENTS};
pub use config::{Config, ConfigError};
pub use kept::Line;
