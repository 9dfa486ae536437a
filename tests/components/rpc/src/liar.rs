//! The client that lies: messages that no client of the macro sends, and capabilities that nobody wants.

use crate::ask::{hub, report};
use crate::{Outcome, done, equal};
use abi::{Item, Mtd, Sel, perm};
use rpc::Bad;
use rpc_test::HubClient;
use rt::Semaphore;
use rt::hypercall::{self as hc, Reply};
use rt::rpc::{Held, Portal};

type Link = HubClient<Portal>;

/// A message by the UTCB, with capabilities: the answer's first word.
fn send(pt: Sel, words: &[u64], items: &[Sel]) -> Result<u64, String> {
    let mut utcb = rt::utcb();
    utcb.words[..words.len()].copy_from_slice(words);
    for (i, sel) in items.iter().enumerate() {
        utcb.words[Item::word(i)] = Item::new(*sel, perm::ALL).0;
    }
    drop(utcb);
    let mtd = Mtd::with_items(Mtd::words(words.len()), items.len());
    done("call", hc::ipc_call_items(pt, mtd))?;
    Ok(rt::utcb().words[0])
}

/// A message in registers: the answer's first word.
fn in_registers(pt: Sel, words: [u64; 6]) -> Result<u64, String> {
    match done("call", hc::ipc_call_registers(pt, words))? {
        Reply::Words(words) => Ok(words[0]),
        Reply::Utcb(_) => Err("an answer in the UTCB".into()),
    }
}

/// Methods of a tally, by number.
const ADD: u64 = 1;
const TAKE: u64 = 2;
const RENAME: u64 = 3;
const WATCH: u64 = 4;
const IS: u64 = 5;

const fn bad(bad: Bad, argument: u64) -> u64 {
    argument << 8 | bad as u64
}

fn mistakes(pt: Sel) -> Outcome {
    for (words, want) in [
        (&[0][..], bad(Bad::Method, 0)),
        (&[6], bad(Bad::Method, 0)),
        (&[u64::MAX, 1, 2], bad(Bad::Method, 0)),
        (&[ADD], bad(Bad::Short, 1)),
        (&[ADD, 1], bad(Bad::Short, 2)),
        (&[TAKE, 1 << 32], bad(Bad::Value, 1)),
        (&[RENAME, 65], bad(Bad::Value, 1)),
        (&[RENAME, 64, 0], bad(Bad::Short, 1)),
        (&[RENAME, 1, 0xff], bad(Bad::Value, 1)),
        (&[WATCH], bad(Bad::Capability, 1)),
        (&[IS, 1, 2, 3], bad(Bad::Capability, 1)),
    ] {
        equal(&format!("{words:x?}"), send(pt, words, &[])?, want)?;
    }
    for (words, want) in [
        ([0, 1, 2, 3, 4, 5], bad(Bad::Method, 0)),
        ([6, 0, 0, 0, 0, 0], bad(Bad::Method, 0)),
        ([TAKE, u64::MAX, 0, 0, 0, 0], bad(Bad::Value, 1)),
        ([RENAME, 0, 0, 0, 0, 0], bad(Bad::Short, 0)),
        ([IS, 0, 0, 0, 0, 0], bad(Bad::Short, 0)),
    ] {
        equal(&format!("{words:x?} in registers"), in_registers(pt, words)?, want)?;
    }
    // And it still counts.
    equal("add, longer than it need be", send(pt, &[ADD, 0, 0, 7, 7, 7, 7], &[])?, 0)
}

/// Capabilities with methods that want fewer, or none, or others; null ones; ones that the server has, and its own.
fn unwanted(hub: &Link, pt: Sel) -> Outcome {
    // A full window of the server's is replaced before we count.
    let round = || {
        for method in [ADD, TAKE, RENAME, WATCH, IS, 9] {
            let eight: Vec<Semaphore> = (0..8).map(|_| Semaphore::new(0)).collect();
            let mut sels: Vec<Sel> = eight.iter().map(Semaphore::sel).collect();
            send(pt, &[method, 0, 0], &sels)?;
            send(pt, &[method, 0, 0], &sels)?;
            sels[0] = 0;
            send(pt, &[method, 0, 0], &sels)?;
            (sels[0], sels[2]) = (pt, sels[1]);
            send(pt, &[method, 0, 0], &sels)?;
        }
        // The watcher is a pair of ours, to be forgotten as well.
        let last: Vec<Semaphore> = (0..2).map(|_| Semaphore::new(0)).collect();
        send(pt, &[WATCH], &[last[0].sel(), last[1].sel()])?;
        done("forget", hub.forget())
    };
    let first = round()?;
    for _ in 0..20 {
        equal("free selectors of the server", round()?, first)?;
    }
    equal("its own capability", send(pt, &[IS], &[pt])?, 0)?;
    equal("a null capability", send(pt, &[IS], &[0])?, bad(Bad::Capability, 1))?;
    equal("half a signal", send(pt, &[WATCH], &[pt, 0])?, bad(Bad::Capability, 1))
}

/// Runs the checks.
pub fn main() {
    let hub = hub();
    let tally = Held::adopt(hub.tally().expect("the hub").expect("a tally"));
    report(&hub, "mistakes_are_named", mistakes(tally.sel()));
    report(&hub, "unwanted_capabilities_are_dropped", unwanted(&hub, tally.sel()));
}
