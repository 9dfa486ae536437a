//! Signals under load: contexts of one entry point, raised by several components without end, while it answers calls.

use crate::{Outcome, done, equal};
use rpc::Signal;
use rt::rpc::{Context, Entrypoint, Held, Managed, raise};
use rt::session::{self, Refused, Request, Root};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// A signal, and how often it was heard.
#[rpc::interface(version = "1.0", ram = "8K", caps = 4)]
pub trait Bell {
    /// What raises it.
    fn signal(&mut self) -> Signal;
    /// How often its handler has run.
    fn heard(&mut self) -> u64;
    /// Adds one.
    fn next(&mut self, n: u64) -> u64;
}

struct Session {
    context: Context,
    heard: Arc<AtomicU64>,
}

impl Bell for Session {
    fn signal(&mut self) -> Signal {
        self.context.signal()
    }

    fn heard(&mut self) -> u64 {
        self.heard.load(SeqCst)
    }

    fn next(&mut self, n: u64) -> u64 {
        n + 1
    }
}

struct Bells;

impl Root for Bells {
    type Interface = dyn Bell;

    fn create(&mut self, at: Entrypoint, _: &Request) -> Result<Managed<dyn Bell>, Refused> {
        let heard = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&heard);
        let context = at.context(move || _ = count.fetch_add(1, SeqCst)).map_err(|_| Refused::Denied)?;
        at.manage(BellServer(Session { context, heard })).map_err(|_| Refused::Denied)
    }
}

/// Serves until it is ended.
pub fn main() -> Outcome {
    let at = done("an entry point", Entrypoint::new(rt::thread::cpu(), 64 << 10))?;
    done("serve", session::serve(at, Bells))?;
    loop {
        std::thread::park();
    }
}

/// How often a signal is raised in a row, and how often that.
const FLOOD: u64 = 2000;
const ROUNDS: u64 = 20;

/// Raises a signal over and over. Of each flood at least one is heard, none more often than it was raised, and the last one is
/// not lost.
pub fn flood() -> Outcome {
    let session = done("open", session::open::<dyn Bell>("", &[]))?;
    let bell = BellClient::new(session.portal());
    let signal = Held::adopt(done("signal", bell.signal())?);
    for round in 0..ROUNDS {
        let before = done("heard", bell.heard())?;
        for _ in 0..FLOOD {
            done("raise", raise(*signal))?;
        }
        let mut heard = 0;
        for _ in 0..500 {
            heard = done("heard", bell.heard())? - before;
            if heard > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if heard == 0 || heard > FLOOD {
            return Err(format!("round {round}: heard {heard} times"));
        }
        // What was raised and not heard yet is heard before what is raised now.
        settle(&bell)?;
        let calm = done("heard", bell.heard())?;
        done("raise", raise(*signal))?;
        settle(&bell)?;
        equal("one signal is heard once", bell.heard(), Ok(calm + 1))?;
    }
    Ok(())
}

/// Waits until no more is heard.
fn settle(bell: &BellClient<rt::rpc::Portal>) -> Outcome {
    let mut last = done("heard", bell.heard())?;
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = done("heard", bell.heard())?;
        if now == last {
            return Ok(());
        }
        last = now;
    }
}

/// Makes calls all the while; all are answered.
pub fn call() -> Outcome {
    let session = done("open", session::open::<dyn Bell>("", &[]))?;
    let bell = BellClient::new(session.portal());
    for n in 0..20_000 {
        equal("an answer", bell.next(n), Ok(n + 1))?;
        if n % 200 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    equal("nobody has raised it", bell.heard(), Ok(0))
}
