//! The mill: work as futures at the entry point that the mill lives at.

use rpc::Signal;
use rpc_test::{Mill, MillError, MillServer};
use rt::rpc::{Entrypoint, Held, Listener, MAX_CONTEXTS, Managed, Task, raise};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Shared with the work.
#[derive(Default)]
struct Meter {
    ground: AtomicU64,
    working: AtomicU32,
}

/// Some work, which counts as long as it is there.
struct Work(Arc<Meter>);

impl Work {
    fn new(meter: &Arc<Meter>) -> Work {
        meter.working.fetch_add(1, Ordering::SeqCst);
        Work(meter.clone())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Wheel {
    ep: Entrypoint,
    wind: Arc<Listener>,
    /// Raised for each work by the one that looks at `wind`.
    shafts: Vec<Weak<Listener>>,
    turner: Option<Task>,
    meter: Arc<Meter>,
    work: Vec<Task>,
}

impl Wheel {
    /// The future that passes on what turns the wheel to all that is at work.
    fn turn(&mut self) -> Result<(), MillError> {
        let (wind, shafts) = (self.wind.clone(), self.shafts.clone());
        let turner = async move {
            loop {
                wind.raised().await;
                shafts.iter().filter_map(Weak::upgrade).for_each(|s| _ = raise(s.signal()));
            }
        };
        // The old one first: there may be no room for two.
        self.turner = None;
        self.turner = Some(self.ep.spawn(turner).map_err(|_| MillError::Busy)?);
        Ok(())
    }
}

impl Mill for Wheel {
    fn grind(&mut self, turns: u32, done: Signal) -> Result<(), MillError> {
        let shaft = Arc::new(self.ep.listen().map_err(|_| MillError::Busy)?);
        self.shafts.retain(|s| s.strong_count() > 0);
        self.shafts.push(Arc::downgrade(&shaft));
        let (work, done) = (Work::new(&self.meter), Held::keep(done));
        let future = async move {
            for _ in 0..turns {
                shaft.raised().await;
                work.0.ground.fetch_add(1, Ordering::SeqCst);
            }
            drop((shaft, work));
            let _ = raise(*done);
        };
        self.work.push(self.ep.spawn(future).map_err(|_| MillError::Busy)?);
        self.turn()
    }

    fn wind(&mut self) -> Option<Signal> {
        Some(self.wind.signal())
    }

    fn ground(&mut self) -> (u64, u32) {
        (self.meter.ground.load(Ordering::SeqCst), self.meter.working.load(Ordering::SeqCst))
    }

    fn halt(&mut self) {
        self.work.clear();
    }
}

/// More work than there can be: each has a signal context.
pub const TOO_MUCH: usize = MAX_CONTEXTS;

/// A mill at that entry point.
pub fn mill(ep: Entrypoint) -> Managed<dyn Mill> {
    let wind = Arc::new(ep.listen().expect("a context"));
    let wheel = Wheel { ep, wind, shafts: Vec::new(), turner: None, meter: Arc::default(), work: Vec::new() };
    ep.manage(MillServer(wheel)).expect("a mill")
}
