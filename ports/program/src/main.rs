//! The Rust side of a C program: the runtime, and nothing else. `main` is the program's, which the build links
//! (`xtask/src/port/c.rs`).
#![no_main]
#![forbid(unsafe_code)]
extern crate rt;
