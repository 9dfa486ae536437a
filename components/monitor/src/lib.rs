//! The monitor: what runs and what it uses, live; everything but the wiring.
//!
//! A [`Sample`] is what the service `trace` said at one time; two of them make rates, [`View`] makes a picture of them,
//! [`Keys`] say what to show. `main.rs` takes the samples and puts pictures on a terminal or into the log.
#![forbid(unsafe_code)]

mod config;
mod figures;
mod keys;
mod sample;
mod screen;
mod view;

pub use config::{Config, ConfigError};
pub use keys::{Command, Keys, Order, Show};
pub use sample::{MAX_COMPONENTS, MAX_CPUS, MAX_SESSIONS, Sample, Source};
pub use screen::Screen;
pub use view::View;
