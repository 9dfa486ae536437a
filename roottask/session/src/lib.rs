//! What a parent of components decides, without anything it does: who serves a session, whose quota pays for it, and
//! who is started again. Core, `init` and every other parent ask here and then act (docs/design/0019).
//!
//! [`Routes`] say where a request goes, and under which [`Label`] and [`Args`] it arrives there.
//!
//! Nothing here panics on any input, and nothing here touches hardware or knows the time.
#![forbid(unsafe_code)]

mod args;
mod label;
mod route;

pub use args::{Args, ArgsError, MAX_ARGS};
pub use label::{ARROW, Label, LabelError, Labels, MAX_LABEL};
pub use parent::Name;
pub use route::{Patch, Rewrite, RouteError, Routes, Rule, Target};
