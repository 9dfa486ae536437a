//! Does what it is configured to do, `kind = "write"`, `"stack"` or `"panic"`, and should not survive it.
//!
//! UNSAFETY: the invalid write is the purpose of this test component; it runs in its own protection domain.
#![allow(unsafe_code)]

use std::hint::black_box;

/// No component has anything at this address.
const NOWHERE: usize = 0x10;

fn main() {
    let config = rt::rom("config").and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
    match config.split('"').nth(1) {
        Some("write") => {
            println!("about to write to {NOWHERE:#x}");
            // SAFETY: none; the access faults and this component is stopped. Nothing is at the address.
            unsafe { std::ptr::write_volatile(std::ptr::without_provenance_mut::<u8>(NOWHERE), 1) };
        }
        Some("stack") => {
            println!("about to recurse");
            println!("{}", recurse(black_box(u64::MAX)));
        }
        Some("panic") => panic!("on purpose"),
        other => println!("config: kind = {other:?}: \"write\", \"stack\" or \"panic\" is expected"),
    }
    println!("still here");
}

/// Recurses until the stack is used up.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[usize::try_from(depth % 64).unwrap_or(0)] }
}
