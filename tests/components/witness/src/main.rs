//! Says "tick N" ten times a second: a test that sees it knows that other components' misfortune did not spread.
//!
//! With a terminal it also writes there, half a KiB a tick, and says so when the terminal is gone.
#![forbid(unsafe_code)]
extern crate rt;

use std::thread::sleep;
use std::time::Duration;

/// Written to the terminal for each tick: its ring is full after some thirty.
const LINE: [u8; 512] = [b'.'; 512];

fn main() {
    let mut terminal = rt::channel::terminal().ok().map(|(_, writer)| writer);
    for n in 1u64.. {
        println!("tick {n}");
        if terminal.as_mut().is_some_and(|t| !t.write_all(&LINE)) {
            println!("the terminal is gone");
            terminal = None;
        }
        sleep(Duration::from_millis(100));
    }
}
