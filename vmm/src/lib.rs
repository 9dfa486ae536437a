//! A virtual-machine monitor for Linux guests: the logic, without the wiring to threads and portals (`main.rs`).
//!
//! [`config`] says what the guest is, [`mem`] and [`loader`] put it together, [`exit`] answers its VM exits with the
//! help of the policies ([`cpuid`], [`msr`]), the instruction emulator ([`emulate`], [`paging`]) and the device models
//! ([`bus`], [`dev`]).
#![deny(unsafe_code)]

pub mod acpi;
pub mod board;
pub mod bus;
pub mod config;
pub mod control;
pub mod cpuid;
pub mod dev;
pub mod emulate;
pub mod exit;
pub mod inject;
pub mod layout;
pub mod loader;
pub mod machine;
pub mod mem;
pub mod msr;
pub mod paging;
pub mod pvclock;
pub mod report;
pub mod run;
pub mod spec;
pub mod vcpu;
