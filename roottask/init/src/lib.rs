//! Configurations of systems: what they say, whether it can work, and what follows from a change. Everything that an
//! `init`, and the root task as the outermost of them, decides about its configuration, without anything it does.
//!
//! 1. [`Config::parse`] reads a text; what is wrong in one component is a [`Defect`] of that component only.
//! 2. [`check`] decides offline whether it can work, and tells who can reach whom.
//! 3. [`diff`] says what is to be done when it changes, as little as possible.
//!
//! Nothing here panics on any input, and nothing here touches hardware.
#![forbid(unsafe_code)]

mod check;
mod config;
mod defect;
mod describe;
mod diff;
mod document;
mod parse;
mod pattern;
mod quantity;
mod reach;
mod reader;
mod rules;
mod spec;
mod supplied;
mod values;

pub use check::{Finding, Verdict, World, check, within};
pub use config::{Component, Config, Entry, Exit, Heartbeat, Quota, Report, Restart, Route, Service, Show};
pub use defect::{Cause, Defect, Hint};
pub use diff::{Action, Born, Child, Client, Open, Running, Server, diff};
pub use document::{At, Node, Placed, Table, Value};
pub use parent::Name;
pub use parse::INIT;
pub use quantity::{MemRange, Period, PortRange, QuantityError, Size, human};
pub use reach::{CORE, CORE_CAPS, CORE_SERVICES, Reach};
pub use session::ARROW;
