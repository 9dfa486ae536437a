//! The smallest component of std: a line that was made in memory of the heap, and the end.
#![forbid(unsafe_code)]
extern crate rt;

fn main() {
    let line = ["a line", "of text"].join(" ");
    println!("{line}: {} KiB of RAM in use", rt::memory_in_use() >> 10);
}
