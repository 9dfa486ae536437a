//! Sessions, and components that are started, and started again: what the framework does between components.

use crate::clock::{OVERHEAD, now, report, settle};
use crate::peer::{Peer, PeerClient};
use parent::sel;
use rpc::{Bytes, Cap, Signal, Text};
use rt::Semaphore;
use rt::rpc::{Entrypoint, Portal};
use rt::session::{self, Session};
use services::parent::{Amount, MAX_NAME, Notice, Refusal, Request, Response};
use services::{Children, ChildrenClient, Parent, ParentServer, Timer};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Samples of a row: each leaves something to be done afterwards.
const SAMPLES: u32 = 256;
/// Lives of the peer that are ended, and of the child that are begun.
const LIVES: u32 = 32;
/// A component of std that ends with the value that the TSC had at the first line of its `main`, as exit code.
const CHILD: &[u8] = b"[[component]]\nname = \"child\"\nbinary = \"perf-suite\"\nram = \"1M\"\nkmem = \"512K\"\n\
                       priority = 30\nconfig = { only = \"begun\" }\n";
/// What it has.
const QUOTA: Amount = Amount { ram: 1 << 20, caps: 160 };
/// Longest life of it, in ns.
const LONGEST: u64 = 1_000_000_000;
/// Stack of the entry point at which it has its parent, in bytes.
const STACK: usize = 32 << 10;

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

/// A parent that only wants to know when its child has ended, and how.
struct Nobody {
    code: Arc<AtomicU64>,
    ended: Arc<Semaphore>,
}

impl Parent for Nobody {
    fn announce(&mut self, _: Text<MAX_NAME>) -> Result<(), Refusal> {
        Err(Refusal::NotProvided)
    }

    fn request(&mut self, _: Request) -> Result<(), Refusal> {
        Err(Refusal::Denied)
    }

    fn upgrade(&mut self, _: u64, _: Amount) -> Result<(), Refusal> {
        Err(Refusal::Unknown)
    }

    fn close(&mut self, _: u64) -> Result<(), Refusal> {
        Err(Refusal::Unknown)
    }

    fn respond(&mut self, _: u64, _: Response) -> Result<(), Refusal> {
        Err(Refusal::Unknown)
    }

    fn next(&mut self) -> Option<Notice> {
        None
    }

    fn heed(&mut self, _: Signal) {}

    fn exit(&mut self, code: u64) {
        self.code.store(code, Ordering::Release);
        self.ended.up();
    }

    fn want(&mut self, _: Amount) -> Result<(), Refusal> {
        Err(Refusal::Denied)
    }

    fn yielded(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn alive(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

fn done<T, E: Debug, F: Debug>(what: &str, answer: Result<Result<T, E>, F>) -> Result<T, String> {
    answer.map_err(|e| format!("{what}: {e:?}"))?.map_err(|e| format!("{what}: {e:?}"))
}

/// From before a parent describes a child to core until the first line of its `main`.
fn starts(cpu: u16) -> Result<Vec<u32>, String> {
    let core = ChildrenClient::new(Portal::to(Cap::<dyn Children>::from_sel(sel::CHILDREN_SESSION)));
    let account = done("open an account", core.open(QUOTA))?;
    let (code, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
    let at = Entrypoint::new(cpu, STACK).map_err(|e| format!("an entry point: {e:?}"))?;
    let nobody = Nobody { code: Arc::clone(&code), ended: Arc::clone(&ended) };
    let parent = at.manage(ParentServer(nobody)).map_err(|e| format!("a parent: {e:?}"))?;
    let mut all = Vec::new();
    for _ in 0..LIVES {
        let before = rt::time::tsc();
        done("describe", core.describe(Bytes::new(CHILD).ok_or("a long description")?))?;
        let child = done("start", core.start(account, parent.cap()))?;
        if !ended.down_until(before + rt::time::tsc_from_ns(LONGEST)) {
            return Err("the child has not ended".into());
        }
        all.push((code.load(Ordering::Acquire) - before) as u32);
        core.stop(child).map_err(|e| format!("stop: {e:?}"))?;
        settle();
    }
    done("close the account", core.close(account))?;
    Ok(all)
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    report("start_from_rom", starts(cpu), OVERHEAD);
    report("session_of_core", opened::<dyn Timer>(), OVERHEAD);
    report("session_of_component", opened::<dyn Peer>(), OVERHEAD);
    let (started, answered) = lives().map_or_else(|e| (Err(e.clone()), Err(e)), |(a, b)| (Ok(a), Ok(b)));
    report("restart_to_main", started, OVERHEAD);
    report("restart_to_answer", answered, OVERHEAD);
    Ok(())
}
