//! Says "tick N" ten times a second: a test that sees it knows that other components' misfortune did not spread.
#![forbid(unsafe_code)]
extern crate rt;

use std::thread::sleep;
use std::time::Duration;

fn main() {
    for n in 1u64.. {
        println!("tick {n}");
        sleep(Duration::from_millis(100));
    }
}
