//! Interfaces, entry points and signals on the target (docs/design/0019-component-framework.md).
//!
//! The component is a parent: it runs its own image in further domains, as a client, a server, and a client that lies, and
//! serves them a hub by which they find each other and report. A check prints `test rpc_NAME ... ok` or `FAILED: why`; the
//! last line is `rpc: N checks passed, N failed`.
//!
//! UNSAFETY: it makes domains by hand, and messages that no client makes.
#![allow(unsafe_code)]

extern crate rt;

mod ask;
mod child;
mod far;
mod hub;
mod liar;
mod mill;
mod serve;

use rpc_test::DoorClient;
use rt::Semaphore;
use rt::rpc::{Entrypoint, Portal};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What a check found, if not what was expected.
type Outcome = Result<(), String>;

/// Stack of an entry point.
const STACK: usize = 64 << 10;

/// The two are the same.
fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Outcome {
    if got == want { Ok(()) } else { Err(format!("{what}: expected {want:?}, got {got:?}")) }
}

/// No error.
fn done<T, E: std::fmt::Debug>(what: &str, got: Result<T, E>) -> Result<T, String> {
    got.map_err(|e| format!("{what}: {e:?}"))
}

fn main() {
    match rt::start_info().map(|i| i.name).as_ref().map(parent::Name::as_str) {
        Some("client") => ask::main(),
        Some("server") => serve::main(),
        Some("liar") => liar::main(),
        Some("far") => far::main(),
        _ => family(),
    }
}

/// What the parent does. On a machine with several CPUs client and server are on another one than we, and may use no other:
/// all that they do with the hub, and we with them, goes by couriers.
fn family() {
    let here = rt::thread::cpu();
    let there = rt::start_info().and_then(|i| i.usable_cpus().last().copied()).unwrap_or(here);
    let entry = || Entrypoint::new(here, STACK).expect("an entry point");
    let nursery = child::Nursery::new().expect("portals for children");
    let hub = hub::Served::new(entry(), entry());
    // First, as what it leaves of selectors is compared: children take some.
    nursery.start("liar", here, hub.sel()).expect("a child");
    nursery.ended.down();
    nursery.start("client", there, hub.sel()).expect("a child");
    // The client has knocked at the door, and is inside.
    hub.inside.down();
    hub.report("dissolve_waits_for_the_method", dissolve(&hub));
    nursery.ended.down();
    let server = nursery.start("server", there, hub.sel()).expect("a child");
    hub.announced.down();
    hub.report("two_domains_are_two_servers", other_server(&hub));
    hub.report("a_dead_server_is_gone", dead_server(&hub, server));
    hub.report("own_thread", own_thread());
    println!("rpc: we were on CPU {here}, client and server on CPU {there}");
    let (passed, failed) = hub.results();
    println!("rpc: {passed} checks passed, {failed} failed");
}

/// The door is dissolved while the client is inside. The client, which is told at once, has the door opened by its report;
/// the object lives until its method has returned.
fn dissolve(hub: &hub::Served) -> Outcome {
    equal("dropped before", hub.door_dropped(), false)?;
    hub.dissolve_door();
    equal("who was inside was told before the method returned", hub.client_was_told(), true)?;
    equal("dropped after", hub.door_dropped(), true)
}

/// We are the client.
fn other_server(hub: &hub::Served) -> Outcome {
    let tally = hub.their_tally()?;
    let client = rpc_test::TallyClient::new(Portal::to(tally));
    equal("add", client.add(20, 22), Ok(42))?;
    equal("their own", client.is(tally), Ok(true))?;
    equal("another one", client.is(hub.our_tally()), Ok(false))
}

/// The server is killed while we are inside.
fn dead_server(hub: &hub::Served, server: child::Child) -> Outcome {
    let (tally, door) = (hub.their_tally()?, hub.their_door()?);
    let inside = Arc::new(Semaphore::new(0));
    let about = inside.clone();
    let caller = thread::spawn(move || {
        about.up();
        DoorClient::new(Portal::to(door)).enter()
    });
    inside.down();
    // The caller has the time to go in; if it has not, it finds nobody, and is told the same.
    thread::sleep(Duration::from_millis(20));
    // From elsewhere that takes another courier than the one inside.
    let client = rpc_test::TallyClient::new(Portal::to(tally));
    equal("meanwhile", client.add(0, 0), Ok(42))?;
    server.kill();
    equal("inside", caller.join().map_err(|_| "the caller panicked")?, Err(rpc::Error::Gone))?;
    equal("a short call", client.add(1, 1), Err(rpc::Error::Gone))?;
    equal("a long call", client.rename(Default::default()), Err(rpc::Error::Gone))
}

/// An entry point's thread adds objects to it, dissolves them, and cannot call them.
fn own_thread() -> Outcome {
    let ep = done("an entry point", Entrypoint::new(rt::thread::cpu(), STACK))?;
    hub::nested(ep)
}
