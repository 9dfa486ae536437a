//! Tests of virtual CPUs, written once and run wherever there is a [`Machine`] for them: by the component `probe` on
//! VT-x and SVM, through real portals, and on a software CPU over the back ends' own logic under `cargo test`.
//!
//! A test drives a [`Guest`]: it runs to the next event, looks at the state that the kernel shows, and answers. What a
//! machine cannot show it says as "not here", for a reason that the CPU gives ([`Facts`]), or that is a known gap of an
//! emulator and was seen to be one in that very run. Start: [`GROUPS`], then `exits`.
//!
//! UNSAFETY: guests are assembled into this crate, and their bytes are read as such.
#![allow(unsafe_code)]

#[macro_use]
mod code;
#[macro_use]
mod guest;
mod entry;
mod exits;
mod facts;
mod inject;
mod maps;
mod memory;
mod modes;
mod nested;
mod reason;
mod replies;
mod state;
mod windows;

pub use entry::{Fuzz, fuzz};
pub use facts::{Emulator, Facts, Vendor};
pub use guest::{Access, Guest, Machine, Outcome, RAM, Test, Vm, Why};

/// All tests, by what they are about.
pub const GROUPS: &[(&str, &[Test])] = &[
    ("exits", exits::TESTS),
    ("injection", inject::TESTS),
    ("windows", windows::TESTS),
    ("nested", nested::TESTS),
    ("memory", memory::TESTS),
    ("modes", modes::TESTS),
    ("maps", maps::TESTS),
    ("state", state::TESTS),
    ("replies", replies::TESTS),
    ("entry", entry::TESTS),
];
