//! Does what it is configured to do, `kind = "write"`, `"stack"` or `"panic"`, and should not survive it. `after_ms` lets
//! it wait before. What it `serves`, `"log"` or `"terminal"`, it never reads. With `busy = true` it has threads on all its CPUs then,
//! of which one computes and one starts others.
//!
//! UNSAFETY: the invalid write is the purpose of this test component; it runs in its own protection domain.
#![allow(unsafe_code)]

extern crate rt;

use rt::channel::Server;
use rt::rpc::Entrypoint;
use rt::session;
use std::hint::black_box;
use std::thread::{self, sleep};
use std::time::Duration;

/// Stack of the entry point, in bytes.
const STACK_LEN: usize = 32 << 10;
/// No component has anything at this address.
const NOWHERE: usize = 0x10;

/// What is behind `key =` in a line of the configuration.
fn value<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config.lines().find_map(|l| l.strip_prefix(key)?.trim().strip_prefix('=')).map(str::trim)
}

fn main() {
    let config = rt::rom("config").and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
    let after = value(config, "after_ms").map_or(Ok(0), str::parse).expect("after_ms is a number");
    if value(config, "busy") == Some("true") {
        let info = rt::start_info().expect("a component");
        info.usable_cpus().iter().for_each(|&cpu| be_busy(cpu));
    }
    let _clients = value(config, "serves").map(|what| serve(what).expect("its sessions"));
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

/// Serves that.
fn serve(what: &str) -> Result<Server, session::Error> {
    let server = Server::new().map_err(session::Error::Kernel)?;
    let at = Entrypoint::new(rt::thread::cpu(), STACK_LEN).map_err(session::Error::Kernel)?;
    match what {
        "\"log\"" => server.serve_log(at, 8)?,
        _ => server.serve_terminal(at, 8)?,
    }
    Ok(server)
}

/// Two threads on `cpu` that never rest.
fn be_busy(cpu: u16) {
    rt::thread::set_spawn_cpu(cpu);
    // One below us, so that we come to an end on our own CPU.
    rt::thread::set_spawn_priority(1);
    thread::spawn(|| {
        loop {
            black_box(());
        }
    });
    thread::spawn(|| while thread::spawn(rt::thread::cpu).join().is_ok() {});
    println!("busy on CPU {cpu}");
}

/// Recurses until the stack is used up.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[usize::try_from(depth % 64).unwrap_or(0)] }
}
