//! Who serves echoes.

use crate::echo::{Echo, EchoServer};
use rpc::{Bytes, Text};
use rt::rpc::{Entrypoint, Managed};
use rt::session::{self, Amount, Refused, Request, Root};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A session; by itself one that nobody has opened.
#[derive(Default)]
pub struct Session {
    label: Text<255>,
    args: Bytes<112>,
    count: u64,
    donated: Arc<AtomicU64>,
}

impl Echo for Session {
    fn label(&mut self) -> Text<255> {
        self.label
    }

    fn args(&mut self) -> Bytes<112> {
        self.args
    }

    fn add(&mut self, n: u64) -> u64 {
        self.count = self.count.wrapping_add(n);
        self.count
    }

    fn donated(&mut self) -> u64 {
        self.donated.load(Ordering::Relaxed)
    }

    fn end(&mut self, code: u64) {
        rt::exit(code)
    }

    fn crash(&mut self) {
        recurse(std::hint::black_box(u64::MAX));
    }

    fn hang(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

#[derive(Default)]
struct Echoes {
    donated: BTreeMap<u64, Arc<AtomicU64>>,
}

impl Root for Echoes {
    type Interface = dyn Echo;

    fn create(&mut self, at: Entrypoint, r: &Request) -> Result<Managed<dyn Echo>, Refused> {
        if r.label.as_str().ends_with("unwanted") {
            return Err(Refused::Denied);
        }
        let donated = Arc::new(AtomicU64::new(r.donation.ram));
        let session = Session { label: r.label, args: r.args, count: 0, donated: donated.clone() };
        let object = at.manage(EchoServer(session)).map_err(|_| Refused::Denied)?;
        self.donated.insert(r.id, donated);
        Ok(object)
    }

    fn upgraded(&mut self, id: u64, donated: Amount) {
        if let Some(d) = self.donated.get(&id) {
            d.store(donated.ram, Ordering::Relaxed);
        }
    }

    fn closed(&mut self, id: u64) {
        self.donated.remove(&id);
    }
}

/// Serves until it is ended.
pub fn main() -> crate::Outcome {
    let at = Entrypoint::new(rt::thread::cpu(), 64 << 10).map_err(|e| format!("an entry point: {e:?}"))?;
    session::serve(at, Echoes::default()).map_err(|e| format!("serve: {e}"))?;
    loop {
        std::thread::park();
    }
}

/// Recurses until the stack is used up.
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[usize::try_from(depth % 64).unwrap_or(0)] }
}
