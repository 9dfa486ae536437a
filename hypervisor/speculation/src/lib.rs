//! Which controls over speculative execution a CPU has, which of them are set and when, and what stays open: decisions
//! only (docs/design/0013). [`Plan::of`] is all there is; [`spec`] names what the manuals name.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod plan;
pub mod spec;

pub use plan::{Facts, Open, Plan};
