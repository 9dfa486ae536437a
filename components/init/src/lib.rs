//! What init decides: the children that its configuration describes, and what follows from another one.
//!
//! Key type: [`House`], a `session::Parent` with a configuration. `bank` has the words in which core keeps the books,
//! `report` the state report.
#![forbid(unsafe_code)]

mod bank;
mod house;
mod report;

pub use bank::{Core, Remote};
pub use house::House;
