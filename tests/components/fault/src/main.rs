//! Does what it is configured to do, `kind = "write"`, `"stack"` or `"panic"`, and should not survive it. `after_ms` lets
//! it wait before: as a provider of services that nobody serves.
//!
//! UNSAFETY: the invalid write is the purpose of this test component; it runs in its own protection domain.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::thread::sleep;
use std::time::Duration;

/// No component has anything at this address.
const NOWHERE: usize = 0x10;

/// What is behind `key =` in a line of the configuration.
fn value<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config.lines().find_map(|l| l.strip_prefix(key)?.trim().strip_prefix('=')).map(str::trim)
}

fn main() {
    let config = rt::rom("config").and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
    let after = value(config, "after_ms").map_or(Ok(0), str::parse).expect("after_ms is a number");
    sleep(Duration::from_millis(after));
    match value(config, "kind") {
        Some("\"write\"") => {
            println!("about to write to {NOWHERE:#x}");
            // SAFETY: none; the access faults and this component is stopped. Nothing is at the address.
            unsafe { std::ptr::write_volatile(std::ptr::without_provenance_mut::<u8>(NOWHERE), 1) };
        }
        Some("\"stack\"") => {
            println!("about to recurse");
            println!("{}", recurse(black_box(u64::MAX)));
        }
        Some("\"panic\"") => panic!("on purpose"),
        other => println!("config: kind = {other:?}: \"write\", \"stack\" or \"panic\" is expected"),
    }
    println!("still here");
}

/// Recurses until the stack is used up.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[usize::try_from(depth % 64).unwrap_or(0)] }
}
