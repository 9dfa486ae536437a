//! Sessions of service `journal`: what is kept, for whoever reads it.

use log_collector_logic::Collector;
use rpc::{Signal, Text};
use rt::rpc::{Entrypoint, Held, Managed, raise};
use rt::session::{Refused, Request, Root};
use services::journal::Line;
use services::{Journal, JournalServer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is collected, and who is told of more.
#[derive(Clone)]
pub struct Journals(Arc<Shared>);

struct Shared {
    collector: Mutex<Collector>,
    /// What is raised, by session.
    told: Mutex<BTreeMap<u64, Held<Signal>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journals {
    /// Those of that collector.
    pub fn new(collector: Collector) -> Journals {
        Journals(Arc::new(Shared { collector: Mutex::new(collector), told: Mutex::default() }))
    }

    /// Not to be kept while a line is printed, which may wait: readers would wait, too.
    pub fn collector(&self) -> MutexGuard<'_, Collector> {
        lock(&self.0.collector)
    }

    /// Tells readers that there are new lines.
    pub fn tell(&self) {
        for signal in lock(&self.0.told).values() {
            // Whoever is gone does not hear it.
            let _ = raise(**signal);
        }
    }
}

/// A reader.
struct Session {
    journals: Journals,
    id: u64,
}

impl Journal for Session {
    fn line(&mut self, from: u64) -> Option<Line> {
        let line = self.journals.collector().line_from(from)?;
        // Both are no longer than what the interface has for them: labels are those of sessions, lines are cut.
        let (label, text) = (Text::new(&line.label)?, Text::new(&line.text)?);
        Some(Line { number: line.number, us: line.us, label, text })
    }

    fn next(&mut self) -> u64 {
        self.journals.collector().next_number()
    }

    fn heed(&mut self, signal: Signal) {
        lock(&self.journals.0.told).insert(self.id, Held::keep(signal));
    }
}

impl Root for Journals {
    type Interface = dyn Journal;

    fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<dyn Journal>, Refused> {
        let session = Session { journals: self.clone(), id: request.id };
        at.manage(JournalServer(session)).map_err(|_| Refused::Denied)
    }

    fn closed(&mut self, id: u64) {
        lock(&self.0.told).remove(&id);
    }
}
