//! Makes hypercalls with random arguments, from protection domains below its own that may perish of them, on all its
//! CPUs. It has what any component has. Prints how far it is, and at the end what came of which call.
//!
//! Configuration: `seed`, `calls` (0: without end), `domain_calls`, `ext_ops` (operations of hypercall 0xf, a bit each).
//! The lines of progress name the seed: with it, on one CPU, the same happens again.
//!
//! UNSAFETY: hypercalls with arguments that nobody vouches for; they hit the domains below only.
#![allow(unsafe_code)]

extern crate rt;

mod domain;
mod supervisor;
mod worker;

use abi::{Hypercall, Status};
use fuzz_logic::{NUMBERS, STATUSES};
use supervisor::{Order, Supervisor};

fn order() -> Result<Order, String> {
    let info = rt::start_info().ok_or("no start information")?;
    let cpus = info.usable_cpus().to_vec();
    let mut o = Order { seed: 1, calls: 100_000, domain_calls: 50_000, cpus, ext_ops: u16::MAX };
    let text = rt::rom(parent::CONFIG_ROM).and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
    for line in text.lines() {
        let (key, value) = line.split_once('=').ok_or(format!("config: `{line}` is not `key = number`"))?;
        let number: u64 = value.trim().parse().map_err(|_| format!("config: `{}` is not a number", value.trim()))?;
        match key.trim() {
            "seed" => o.seed = number,
            "calls" => o.calls = number,
            "domain_calls" => o.domain_calls = number.max(1),
            "ext_ops" => o.ext_ops = number as u16,
            other => return Err(format!("config: unknown key `{other}`")),
        }
    }
    Ok(o)
}

/// Codes of the columns; the last is for those that the specification does not know.
fn status_name(i: usize) -> String {
    Status::from_register(i as u64).map_or("unknown".into(), |s| format!("{s:?}"))
}

fn show(outcomes: &[[u64; STATUSES]; NUMBERS]) {
    for (number, row) in outcomes.iter().enumerate() {
        let name = Hypercall::from_number(number as u8).map_or("extension".into(), |h| format!("{h:?}"));
        let cells = row.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| format!("{} {n}", status_name(i)));
        println!("fuzz: {name}: {}", cells.collect::<Vec<_>>().join(", "));
    }
}

/// A fuzzer that reaches nothing would find nothing.
fn vacuous(outcomes: &[[u64; STATUSES]; NUMBERS]) -> Option<String> {
    let success = Status::Success as usize;
    let reached = [
        Hypercall::IpcCall,
        Hypercall::CreatePd,
        Hypercall::CreateEc,
        Hypercall::CreatePt,
        Hypercall::CreateSm,
        Hypercall::CtrlPd,
        Hypercall::CtrlEc,
        Hypercall::CtrlSc,
        Hypercall::CtrlPt,
        Hypercall::CtrlSm,
    ];
    let never = reached.into_iter().find(|h| outcomes[*h as usize][success] == 0);
    let unknown = outcomes.iter().map(|r| r[STATUSES - 1]).sum::<u64>();
    match (never, unknown) {
        (Some(h), _) => Some(format!("{h:?} never succeeded")),
        (None, 0) => None,
        (None, n) => Some(format!("{n} calls had a status that there is not")),
    }
}

fn main() {
    let result = order().and_then(|o| {
        println!("fuzz: seed {}, {} calls, CPUs {:?}", o.seed, o.calls, o.cpus);
        let mut s = Supervisor::new(o)?;
        let result = s.run();
        show(&s.books.outcomes);
        println!("fuzz: deaths by event {:?}", s.faults());
        println!("fuzz: {}", s.progress());
        result.map(|()| vacuous(&s.books.outcomes))
    });
    let why = match result {
        Ok(None) => {
            println!("fuzz: survived");
            rt::exit(0)
        }
        Ok(Some(why)) | Err(why) => why,
    };
    println!("fuzz: FAILED: {why}");
    rt::exit(1)
}
