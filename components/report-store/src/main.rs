//! Wiring of the report store: the sessions of services `report` and `rom`.

use ::session::Label;
use report_store_logic::{Changed, Config, Limit, ReaderId, Store, StoreError, WriterId};
use rpc::{Bytes, Cap, Signal};
use rt::dataspace::Private;
use rt::roms::{Donations, Shown};
use rt::rpc::{Entrypoint, Held, Managed, raise};
use rt::session::{self, Amount, Refused, Request, Root};
use services::report::{PART, ReportError};
use services::{Dataspace, Report, ReportServer, Rom, RomServer};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stack of the entry point, in bytes.
const STACK: usize = 64 << 10;

/// All of it. Everything happens at one entry point, so nobody waits for the lock.
struct State {
    store: Store<Private>,
    /// What is raised for readers.
    signals: BTreeMap<ReaderId, Held<Signal>>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&self, changed: Changed) {
        for signal in changed.iter().filter_map(|id| self.signals.get(id)) {
            // Who does not live any more needs none.
            let _ = raise(**signal);
        }
    }
}

/// Says why a session is denied.
fn denied(request: &Request, why: impl Display) -> Refused {
    println!("{} is denied: {why}", request.label.as_str());
    Refused::Denied
}

fn label(request: &Request) -> Result<Label, Refused> {
    Label::new(request.label.as_str()).map_err(|e| denied(request, e))
}

/// A session of a component that reports.
struct Reporter {
    shared: Shared,
    id: WriterId,
}

impl Report for Reporter {
    fn append(&mut self, part: Bytes<PART>) -> Result<(), ReportError> {
        let appended = self.shared.state().store.append(self.id, part.as_slice());
        appended.map_err(|e| {
            println!("{e}");
            let unpaid = matches!(e, StoreError::Long { limit: Limit::Donation, .. });
            if unpaid { ReportError::Unpaid } else { ReportError::TooLong }
        })
    }

    fn submit(&mut self) {
        let mut state = self.shared.state();
        if let Ok(changed) = state.store.submit(self.id) {
            state.tell(changed);
        }
    }

    fn discard(&mut self) {
        // There is such a session: this one.
        let _ = self.shared.state().store.discard(self.id);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let changed = state.store.close_report(self.id);
        state.tell(changed);
    }
}

/// Makes sessions of components that report.
struct Reports {
    shared: Shared,
    writers: BTreeMap<u64, WriterId>,
}

impl Root for Reports {
    type Interface = dyn Report;

    fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<dyn Report>, Refused> {
        let opened = self.shared.state().store.open_report(&label(request)?, request.donation.ram);
        let id = opened.map_err(|e| denied(request, e))?;
        // From here on it is closed when this goes.
        let reporter = Reporter { shared: self.shared.clone(), id };
        let object = at.manage(ReportServer(reporter)).map_err(|e| denied(request, format!("no object: {e:?}")))?;
        self.writers.insert(request.id, id);
        Ok(object)
    }

    fn upgraded(&mut self, id: u64, donated: Amount) {
        let Some(&writer) = self.writers.get(&id) else { return };
        if let Err(e) = self.shared.state().store.pay(writer, donated.ram) {
            println!("{e}");
        }
    }

    fn closed(&mut self, id: u64) {
        self.writers.remove(&id);
    }
}

/// A session of a component that reads.
struct Reader {
    shared: Shared,
    id: ReaderId,
    shown: Shown,
}

impl Reader {
    /// What it reads now, for `f`.
    fn with<R>(&mut self, f: impl FnOnce(&mut Shown, &[u8]) -> R) -> Result<R, StoreError> {
        let state = self.shared.state();
        Ok(f(&mut self.shown, state.store.content(self.id)?))
    }
}

impl Rom for Reader {
    fn dataspace(&mut self) -> Option<Cap<dyn Dataspace>> {
        let show = |shown: &mut Shown, content: &[u8]| {
            shown.dataspace(content.len() as u64, |to| {
                to.put(content);
                true
            })
        };
        self.with(show).ok()?.inspect_err(|e| println!("a copy of a report: {e}")).ok()?
    }

    fn size(&mut self) -> u64 {
        self.with(|shown, content| shown.size(content.len() as u64)).unwrap_or(0)
    }

    fn sigh(&mut self, signal: Signal) {
        let old = self.shared.state().signals.insert(self.id, Held::keep(signal));
        drop(old);
    }

    fn update(&mut self) -> bool {
        let update = |shown: &mut Shown, content: &[u8]| {
            shown.update(content.len() as u64, |to| {
                to.put(content);
                true
            })
        };
        self.with(update).unwrap_or(false)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.store.close_rom(self.id);
        let signal = state.signals.remove(&self.id);
        drop(state);
        drop(signal);
    }
}

/// Makes sessions of components that read.
struct Roms {
    shared: Shared,
    donations: Donations,
}

impl Root for Roms {
    type Interface = dyn Rom;

    fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<dyn Rom>, Refused> {
        let opened = self.shared.state().store.open_rom(&label(request)?);
        let id = opened.map_err(|e| denied(request, e))?;
        let reader = Reader { shared: self.shared.clone(), id, shown: self.donations.open(request) };
        at.manage(RomServer(reader)).map_err(|e| {
            self.donations.closed(request.id);
            denied(request, format!("no object: {e:?}"))
        })
    }

    fn upgraded(&mut self, id: u64, donated: Amount) {
        self.donations.upgraded(id, donated);
    }

    fn closed(&mut self, id: u64) {
        self.donations.closed(id);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let config = Config::parse(rt::rom(parent::CONFIG_ROM).unwrap_or_default())?;
    let memory = |len| Private::new(len).inspect_err(|e| println!("memory for reports: {e}")).ok();
    let shared = Shared(Arc::new(Mutex::new(State { store: Store::new(config, memory), signals: BTreeMap::new() })));
    let at = Entrypoint::new(rt::thread::cpu(), STACK).map_err(|e| format!("the kernel refused a thread: {e:?}"))?;
    session::serve(at, Reports { shared: shared.clone(), writers: BTreeMap::new() })?;
    session::serve(at, Roms { shared, donations: Donations::default() })?;
    loop {
        std::thread::park();
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
