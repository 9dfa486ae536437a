//! What a guest should not do. The virtual machine may die of it; nothing else may.

use crate::cmdline::Options;
use crate::machine::cpu;
use crate::println;

/// Does what `mode` says.
pub fn run(mode: &str, _options: &Options) {
    println!("mode {mode}");
    match mode {
        "spin" => loop {
            cpu::disable_interrupts();
        },
        other => println!("no such mode: {other}"),
    }
}
