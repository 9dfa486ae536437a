//! The server: it announces a tally and a door, and is killed.

use crate::hub::{Gate, tally};
use crate::{STACK, child};
use rpc::Cap;
use rpc_test::{DoorServer, Hub, HubClient};
use rt::Semaphore;
use rt::rpc::{Entrypoint, Portal};
use std::sync::Arc;

/// Never comes back.
pub fn main() {
    let entry = || Entrypoint::new(rt::thread::cpu(), STACK).expect("an entry point");
    let never = || Arc::new(Semaphore::new(0));
    let gate = Gate { inside: never(), open: never(), dropped: Arc::default() };
    let (tally, door) = (tally(entry()), entry().manage(DoorServer(gate)).expect("a door"));
    let hub = HubClient::new(Portal::to(Cap::<dyn Hub>::from_sel(child::HUB)));
    hub.announce(tally.cap(), door.cap()).expect("the hub");
    never().down();
}
