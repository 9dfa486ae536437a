//! The logic of the root task that has to do with the platform but not with the hypervisor: firmware tables, alarms, ticks, who
//! has which device, the log's backlog, the screen, the words of fault reports, lines of the kernel's trace. Tested on the host.
//!
//! What the root task decides about components is in the package `policy`; `main.rs` and its modules only act.
#![forbid(unsafe_code)]

pub mod acpi;
pub mod alarms;
pub mod backlog;
pub mod census;
pub mod claims;
pub mod fault;
pub mod firmware;
pub mod mbuf;
pub mod screen;
pub mod threads;
pub mod ticks;
pub mod trace;
