//! Tests of virtual CPUs, written once and run wherever there is a machine for them.
//!
//! UNSAFETY: guests are assembled into this crate, and their bytes are read as such.
#![allow(unsafe_code)]

mod facts;

pub use facts::{Emulator, Facts, Vendor};
