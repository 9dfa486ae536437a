//! System files, resource books and start plans of the root task: everything the root task decides, without anything
//! it does. The package `core-task` (../core) asks here and then acts.
//!
//! The way from text to running components:
//! 1. [`system_file`] reads the system file (crate `init`), as far as the root task can do what it says; what is wrong
//!    in one component is an error of that component only.
//! 2. [`Plan::new`] finds modules, reads ELF images ([`Image`]), checks routes, and takes all physical memory from the
//!    [`Book`]. Again errors are confined to a component.
//! 3. [`Plan::start_info`] is what each component finds when it starts (crate `parent`).
//! 4. [`children::spec`] is what its parent, the root task, knows of it: `session::Parent` decides who is started again,
//!    [`Shutdown`] when the system ends; [`Plan::reclaim`] what others can have of it then.
//!
//! Nothing here panics on any input, and nothing here touches hardware.
#![forbid(unsafe_code)]

pub mod children;
mod exit;
mod image;
mod memory;
mod plan;
mod reclaim;
mod routes;
pub mod sel;
mod start_info;
mod system_file;

pub use exit::{End, FAULT_CODE, Shutdown, exit_code};
pub use image::{Image, ImageError, Segment};
pub use memory::{Book, Chunk, MemoryError, PhysRange, chunks};
pub use plan::{ComponentError, ComponentPlan, Content, Mapping, Module, Plan, Source};
pub use reclaim::Level;
pub use start_info::Machine;
pub use system_file::system_file;
