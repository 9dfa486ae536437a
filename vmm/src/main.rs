//! The VMM component: one guest. Its logic is in the library; `component` wires it to portals, threads and sessions.
#![forbid(unsafe_code)]

extern crate rt;

mod component;

fn main() {
    if let Err(e) = component::run() {
        println!("{e}");
        std::process::exit(1);
    }
}
