//! A server that keeps what its clients hand around, and says what it has in use.

use rpc::{Cap, Signal};
use rt::dataspace::{Attached, attach};
use rt::rpc::{Entrypoint, Held, Managed};
use rt::session::{self, Refused, Request, Root};
use services::Dataspace;
use services::rm::Attr;

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
}

/// What this component has in use.
pub fn used() -> Result<Used, String> {
    let (_, frames) = rt::hypercall::read_quota(rt::own().pd).map_err(|e| format!("read_quota: {e:?}"))?;
    Ok((rt::sel::CAPACITY as u64 - rt::sel::free_count(), frames, rt::memory_in_use()))
}

#[derive(Default)]
struct Session {
    signals: Vec<Held<Signal>>,
    shown: Vec<Attached>,
}

impl Shelf for Session {
    fn keep(&mut self, signal: Signal) {
        self.signals.push(Held::keep(signal));
    }

    fn show(&mut self, dataspace: Cap<dyn Dataspace>) -> Option<u64> {
        let attached = attach(dataspace, Attr::READ).ok()?;
        let first = attached.words().first()?.load(std::sync::atomic::Ordering::SeqCst);
        self.shown.push(attached);
        Some(first)
    }

    fn used(&mut self) -> Used {
        used().unwrap_or_default()
    }
}

struct Shelves;

impl Root for Shelves {
    type Interface = dyn Shelf;

    fn create(&mut self, at: Entrypoint, _: &Request) -> Result<Managed<dyn Shelf>, Refused> {
        at.manage(ShelfServer(Session::default())).map_err(|_| Refused::Denied)
    }
}

/// Serves until it is ended.
pub fn main() -> crate::Outcome {
    let at = Entrypoint::new(rt::thread::cpu(), 64 << 10).map_err(|e| format!("an entry point: {e:?}"))?;
    session::serve(at, Shelves).map_err(|e| format!("serve: {e}"))?;
    loop {
        std::thread::park();
    }
}
