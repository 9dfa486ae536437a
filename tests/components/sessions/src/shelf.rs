//! A server that keeps what its clients hand around, and says what it has in use.

use rpc::{Cap, Signal};
use rt::dataspace::{Attached, attach, pd};
use rt::rpc::{Entrypoint, Held, Managed};
use rt::session::{self, Amount, Refused, Request, Root};
use services::Dataspace;
use services::rm::Attr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Selectors and frames of kernel memory that are in use, bytes of RAM that are.
pub type Used = (u64, u64, u64);

/// Keeps what it is given until the session is over.
#[rpc::interface(version = "1.0", ram = "8K", caps = 4)]
pub trait Shelf {
    /// Keeps a signal.
    fn keep(&mut self, signal: Signal);
    /// Attaches a dataspace, and returns its first word.
    fn show(&mut self, dataspace: Cap<dyn Dataspace>) -> Option<u64>;
    /// What the server has in use.
    fn used(&mut self) -> Used;
    /// Has so much RAM for the session, beside what it has; `false`: that was not donated.
    fn store(&mut self, bytes: u64) -> bool;
}

/// What this component has in use.
pub fn used() -> Result<Used, String> {
    let (_, frames) = rt::hypercall::read_quota(rt::own().pd).map_err(|e| format!("read_quota: {e:?}"))?;
    Ok((rt::sel::CAPACITY as u64 - rt::sel::free_count(), frames, rt::memory_in_use()))
}

struct Session {
    signals: Vec<Held<Signal>>,
    shown: Vec<Attached>,
    stored: Vec<Cap<dyn Dataspace>>,
    /// Of what was donated, all told.
    spent: u64,
    donated: Arc<AtomicU64>,
}

impl Session {
    fn new(donated: Arc<AtomicU64>) -> Session {
        Session { signals: Vec::new(), shown: Vec::new(), stored: Vec::new(), spent: 0, donated }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stored.drain(..).for_each(|d| _ = pd().free(d));
    }
}

impl Shelf for Session {
    fn keep(&mut self, signal: Signal) {
        self.signals.push(Held::keep(signal));
    }

    fn show(&mut self, dataspace: Cap<dyn Dataspace>) -> Option<u64> {
        let attached = attach(dataspace, Attr::READ).ok()?;
        let first = attached.words().first()?.load(SeqCst);
        self.shown.push(attached);
        Some(first)
    }

    fn used(&mut self) -> Used {
        used().unwrap_or((u64::MAX, u64::MAX, u64::MAX))
    }

    fn store(&mut self, bytes: u64) -> bool {
        let left = self.donated.load(SeqCst) - self.spent;
        if bytes > left {
            return false;
        }
        let Ok(Ok(dataspace)) = pd().alloc(bytes) else { return false };
        self.stored.push(dataspace);
        self.spent += bytes;
        true
    }
}

#[derive(Default)]
struct Shelves {
    donated: BTreeMap<u64, Arc<AtomicU64>>,
}

impl Root for Shelves {
    type Interface = dyn Shelf;

    fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<dyn Shelf>, Refused> {
        let donated = Arc::new(AtomicU64::new(request.donation.ram));
        let session = Session::new(Arc::clone(&donated));
        let object = at.manage(ShelfServer(session)).map_err(|_| Refused::Denied)?;
        self.donated.insert(request.id, donated);
        Ok(object)
    }

    fn upgraded(&mut self, id: u64, donated: Amount) {
        if let Some(d) = self.donated.get(&id) {
            d.store(donated.ram, SeqCst);
        }
    }

    fn closed(&mut self, id: u64) {
        self.donated.remove(&id);
    }
}

/// Serves until it is ended.
pub fn main() -> crate::Outcome {
    let at = Entrypoint::new(rt::thread::cpu(), 64 << 10).map_err(|e| format!("an entry point: {e:?}"))?;
    session::serve(at, Shelves::default()).map_err(|e| format!("serve: {e}"))?;
    loop {
        std::thread::park();
    }
}
