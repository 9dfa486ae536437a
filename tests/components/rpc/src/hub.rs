//! The hub and what lives beside it, at the parent.
//!
//! Key types: [`Served`], all of it; [`Desk`], the hub itself.

use crate::{Outcome, done, equal};
use abi::Sel;
use rpc::{Cap, Error, Signal, Text};
use rpc_test::{Count, Door, DoorServer, Hub, HubServer, Mill, System, Tally, TallyClient, TallyServer};
use rt::Semaphore;
use rt::rpc::{Context, Entrypoint, Held, Managed, Portal};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The check with which the client reports that it was told of the dissolved door.
pub const TOLD: &str = "callers_of_what_is_dissolved_are_told";

/// What a tally finds here.
pub struct Here(Arc<OnceLock<Cap<dyn Tally>>>);

impl System for Here {
    type Kept = Held<Signal>;
    fn keep(&mut self, signal: Signal) -> Held<Signal> {
        Held::keep(signal)
    }
    fn raise(&mut self, signal: &Held<Signal>) {
        // Whoever wanted to know may have gone.
        let _ = rt::rpc::raise(**signal);
    }
    fn is_own(&self, cap: Cap<dyn Tally>) -> bool {
        self.0.get() == Some(&cap)
    }
}

/// A tally at that entry point.
pub fn tally(ep: Entrypoint) -> Managed<dyn Tally> {
    let own = Arc::new(OnceLock::new());
    let managed = ep.manage(TallyServer(Count::new(Here(own.clone())))).expect("a tally");
    own.get_or_init(|| managed.cap());
    managed
}

/// A door that opens when it is told to.
pub struct Gate {
    /// Upped when somebody is inside.
    pub inside: Arc<Semaphore>,
    /// Lets them out.
    pub open: Arc<Semaphore>,
    /// Set when it is gone.
    pub dropped: Arc<AtomicBool>,
}

impl Door for Gate {
    fn enter(&mut self) {
        self.inside.up();
        self.open.down();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

/// What a server has announced.
type Theirs = (Held<Cap<dyn Tally>>, Held<Cap<dyn Door>>);

/// What all sides look at.
#[derive(Default)]
struct Shared {
    passed: AtomicU64,
    failed: AtomicU64,
    handled: AtomicU64,
    /// A method runs in which no handler may.
    busy: AtomicBool,
    told: AtomicBool,
    theirs: Mutex<Option<Theirs>>,
}

impl Shared {
    fn report(&self, check: &str, why: Option<&str>) {
        let (count, text) = match why {
            None => (&self.passed, "ok".into()),
            Some(why) => (&self.failed, format!("FAILED: {why}")),
        };
        count.fetch_add(1, Ordering::SeqCst);
        println!("test rpc_{check} ... {text}");
    }
}

/// The hub.
struct Desk {
    shared: Arc<Shared>,
    tally: Cap<dyn Tally>,
    door: Cap<dyn Door>,
    open: Arc<Semaphore>,
    announced: Arc<Semaphore>,
    signal: Arc<OnceLock<Signal>>,
    kept: Vec<Held<Cap<dyn Tally>>>,
    mill: Managed<dyn Mill>,
}

impl Hub for Desk {
    fn tally(&mut self) -> Option<Cap<dyn Tally>> {
        Some(self.tally)
    }

    fn door(&mut self) -> Option<Cap<dyn Door>> {
        Some(self.door)
    }

    fn announce(&mut self, tally: Cap<dyn Tally>, door: Cap<dyn Door>) {
        *self.shared.theirs.lock().expect("no panic") = Some((Held::keep(tally), Held::keep(door)));
        self.announced.up();
    }

    fn signal(&mut self) -> Option<Signal> {
        self.signal.get().copied()
    }

    fn handled(&mut self) -> u64 {
        self.shared.handled.load(Ordering::SeqCst)
    }

    fn busy(&mut self, ms: u64) {
        self.shared.busy.store(true, Ordering::SeqCst);
        // Looks at the clock and does not sleep: a handler that could run now would.
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end {}
        self.shared.busy.store(false, Ordering::SeqCst);
    }

    fn keep(&mut self, tally: Cap<dyn Tally>) -> u64 {
        self.kept.push(Held::keep(tally));
        tally.sel()
    }

    fn forget(&mut self) -> u64 {
        self.kept.clear();
        rt::sel::free_count()
    }

    fn report(&mut self, check: Text<64>, why: Option<Text<200>>) {
        if check.as_str() == TOLD {
            self.shared.told.store(true, Ordering::SeqCst);
            self.open.up();
        }
        self.shared.report(check.as_str(), why.as_ref().map(Text::as_str));
    }

    fn call_back(&mut self, tally: Cap<dyn Tally>, n: u64) -> Option<u64> {
        TallyClient::new(Portal::to(tally)).add(n, 0).ok()
    }

    fn cpu(&mut self) -> u16 {
        rt::thread::cpu()
    }

    fn mill(&mut self) -> Option<Cap<dyn Mill>> {
        Some(self.mill.cap())
    }
}

/// The hub, a tally, a door, and a signal.
pub struct Served {
    shared: Arc<Shared>,
    hub: Managed<dyn Hub>,
    tally: Managed<dyn Tally>,
    door: Mutex<Option<Managed<dyn Door>>>,
    dropped: Arc<AtomicBool>,
    /// Somebody has knocked at the door.
    pub inside: Arc<Semaphore>,
    /// A server has announced itself.
    pub announced: Arc<Semaphore>,
    _context: Context,
}

impl Served {
    /// All of it; the door is at an entry point of its own, as whoever is inside holds that.
    pub fn new(ep: Entrypoint, door_ep: Entrypoint) -> Served {
        let semaphore = || Arc::new(Semaphore::new(0));
        let (shared, dropped) = (Arc::<Shared>::default(), Arc::<AtomicBool>::default());
        let (inside, open, announced, signal) = (semaphore(), semaphore(), semaphore(), Arc::new(OnceLock::new()));
        let gate = Gate { inside: inside.clone(), open: open.clone(), dropped: dropped.clone() };
        let (tally, door) = (tally(ep), door_ep.manage(DoorServer(gate)).expect("a door"));
        let state = shared.clone();
        let handler = move || {
            if state.busy.load(Ordering::SeqCst) {
                state.report("handlers_wait_for_methods", Some("a handler ran in the midst of a method"));
            }
            state.handled.fetch_add(1, Ordering::SeqCst);
        };
        let context = ep.context(handler).expect("a context");
        signal.get_or_init(|| context.signal());
        let desk = Desk {
            shared: shared.clone(),
            tally: tally.cap(),
            door: door.cap(),
            open,
            announced: announced.clone(),
            signal,
            kept: Vec::new(),
            mill: crate::mill::mill(ep),
        };
        let hub = ep.manage(HubServer(desk)).expect("a hub");
        let door = Mutex::new(Some(door));
        Served { shared, hub, tally, door, dropped, inside, announced, _context: context }
    }

    /// The hub's selector.
    pub fn sel(&self) -> Sel {
        self.hub.cap().sel()
    }

    /// A check of the parent.
    pub fn report(&self, check: &str, outcome: Outcome) {
        self.shared.report(check, outcome.err().as_deref());
    }

    /// How many checks passed and failed.
    pub fn results(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::SeqCst), self.shared.failed.load(Ordering::SeqCst))
    }

    /// Dissolves the door.
    pub fn dissolve_door(&self) {
        drop(self.door.lock().expect("no panic").take());
    }

    /// Whether the object behind the door is gone.
    pub fn door_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Whether the client has reported that the door is gone.
    pub fn client_was_told(&self) -> bool {
        self.shared.told.load(Ordering::SeqCst)
    }

    /// Our tally.
    pub fn our_tally(&self) -> Cap<dyn Tally> {
        self.tally.cap()
    }

    /// That of the server.
    pub fn their_tally(&self) -> Result<Cap<dyn Tally>, String> {
        self.shared.theirs.lock().expect("no panic").as_ref().map(|t| *t.0).ok_or("nobody is there".into())
    }

    /// That of the server.
    pub fn their_door(&self) -> Result<Cap<dyn Door>, String> {
        self.shared.theirs.lock().expect("no panic").as_ref().map(|t| *t.1).ok_or("nobody is there".into())
    }
}

/// A door whose visitors bring up a tally at its own entry point, call it, and take the door down.
struct Trap {
    ep: Entrypoint,
    own: Arc<Mutex<Option<Managed<dyn Door>>>>,
    outcome: Arc<Mutex<Outcome>>,
    dropped: Arc<AtomicBool>,
}

impl Door for Trap {
    fn enter(&mut self) {
        let other = tally(self.ep);
        let called = TallyClient::new(Portal::to(other.cap())).add(1, 1);
        drop(other);
        drop(self.own.lock().expect("no panic").take());
        let alive = !self.dropped.load(Ordering::SeqCst);
        let all = equal("a call of itself", called, Err(Error::Gone)).and(equal("alive in its method", alive, true));
        *self.outcome.lock().expect("no panic") = all;
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

/// What the thread of an entry point does to its own objects.
pub fn nested(ep: Entrypoint) -> Outcome {
    let (own, dropped) = (Arc::new(Mutex::new(None)), Arc::<AtomicBool>::default());
    let outcome = Arc::new(Mutex::new(Err("nobody came".into())));
    let trap = Trap { ep, own: own.clone(), outcome: outcome.clone(), dropped: dropped.clone() };
    let door = done("a door", ep.manage(DoorServer(trap)))?;
    let cap = door.cap();
    *own.lock().map_err(|_| "poisoned")? = Some(door);
    let client = rpc_test::DoorClient::new(Portal::to(cap));
    equal("who was inside", client.enter(), Err(Error::Gone))?;
    // Nobody pays for the rest of the method until somebody calls, and what is handled then drops the object.
    drop(tally(ep));
    outcome.lock().map_err(|_| "poisoned")?.clone()?;
    equal("dropped", dropped.load(Ordering::SeqCst), true)?;
    equal("after that", client.enter(), Err(Error::Gone))
}
