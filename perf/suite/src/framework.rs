//! Sessions, and components that are started again: what the framework does between components.

use crate::clock::{OVERHEAD, now, report, settle};
use crate::peer::{Peer, PeerClient};
use rt::rpc::Portal;
use rt::session::{self, Session};
use services::Timer;

/// Samples of a row: each leaves something to be done afterwards.
const SAMPLES: u32 = 256;
/// Lives of the peer that are ended.
const LIVES: u32 = 32;

fn open<I: rpc::Interface + ?Sized>() -> Result<Session<I>, String> {
    session::open::<I>("", &[]).map_err(|e| e.to_string())
}

/// From before the request until its client has the capability.
fn opened<I: rpc::Interface + ?Sized>() -> Result<Vec<u32>, String> {
    let one = |_| {
        let before = now();
        let session = open::<I>()?;
        let ticks = now().wrapping_sub(before);
        drop(session);
        // The server closes it.
        settle();
        Ok(ticks)
    };
    one(0)?;
    (0..SAMPLES).map(one).collect()
}

/// From before the server ends until the first line of its next life, and until that has answered who has waited.
fn lives() -> Result<(Vec<u32>, Vec<u32>), String> {
    let mut session = open::<dyn Peer>()?;
    let mut all = (Vec::new(), Vec::new());
    for _ in 0..LIVES {
        let before = rt::time::tsc();
        if PeerClient::<Portal>::new(session.portal()).end() != Err(rpc::Error::Gone) {
            return Err("the peer has not ended".into());
        }
        session = open()?;
        let begun = PeerClient::<Portal>::new(session.portal()).begun().map_err(|e| e.to_string())?;
        let answered = rt::time::tsc();
        all.0.push((begun - before) as u32);
        all.1.push((answered - before) as u32);
        settle();
    }
    Ok(all)
}

/// All rows of this file.
pub fn run(_: u16) -> Result<(), String> {
    report("session_of_core", opened::<dyn Timer>(), OVERHEAD);
    report("session_of_component", opened::<dyn Peer>(), OVERHEAD);
    let (started, answered) = lives().map_or_else(|e| (Err(e.clone()), Err(e)), |(a, b)| (Ok(a), Ok(b)));
    report("restart_to_main", started, OVERHEAD);
    report("restart_to_answer", answered, OVERHEAD);
    Ok(())
}
