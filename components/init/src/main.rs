//! Wiring of init: what `House` decides, done.
//!
//! All is decided and done at one entry point: what children ask there, what the parent and core tell, what is due, and another
//! configuration. The first thread waits for that, a second one until something is due.
#![forbid(unsafe_code)]
extern crate rt;

mod books;
mod reporter;
mod source;

use ::session::wire::amount;
use ::session::{
    AccountId, Call, Cause, Desk, Effect, Keeper, Keeps, Life, News, Notice, Party, Refusal, Response, SessionId,
    Shortage, Time, Turn,
};
use books::{Books, core};
use init_logic::{House, Remote};
use rpc::{Bytes, Cap, Signal, Text};
use rt::Semaphore;
use rt::rpc::{Context, Entrypoint, Held, Managed, Portal, raise};
use rt::session;
use services::children::{How, PART};
use services::parent::{self as wire, AnyObject, Notice as Told};
use services::{Parent, ParentClient, ParentServer, Rom};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Stack of the entry point, in bytes: configurations are read there.
const STACK: usize = 256 << 10;
/// Stack of the thread that watches the clock, in bytes.
const SMALL: usize = 32 << 10;
/// What is due is not looked at more often, in ns.
const TICK: Time = 20_000_000;
/// What the configuration asks for and could not be done is tried again after so long, in ns.
const AGAIN: Time = 1_000_000_000;

type Kept = Held<Cap<AnyObject>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Time {
    rt::time::ns_from_tsc(rt::time::tsc())
}

fn above() -> ParentClient<Portal> {
    ParentClient::new(Portal::to(Cap::<dyn Parent>::from_sel(parent::sel::sessions(rt::thread::cpu()))))
}

/// A life of a child.
struct Living {
    life: Life,
    name: String,
    /// What core calls it.
    number: u64,
    /// What it has as its parent, until it ends.
    #[expect(dead_code, reason = "it is dissolved when this goes")]
    desk: Managed<dyn Parent>,
    signal: Option<Arc<Held<Signal>>>,
}

struct State {
    house: House,
    bank: Remote<Books>,
    keeps: Keeps<Kept>,
    /// By the numbers of lives.
    living: BTreeMap<u64, Living>,
    /// When the configuration is looked at again.
    again: Time,
}

struct Init {
    at: Entrypoint,
    state: Mutex<State>,
    /// What the parent has told.
    told: Mutex<VecDeque<Told>>,
    /// A configuration that is to be followed.
    text: Mutex<Option<String>>,
    /// Wakes who watches to look at what is due next.
    stirred: Semaphore,
    /// Wakes who reports.
    changed: Semaphore,
    /// Somebody does.
    reports: AtomicBool,
    contexts: Mutex<Vec<Context>>,
}

/// It is as long as the program.
static INIT: OnceLock<Init> = OnceLock::new();
/// Raised when the parent has told something, and when there is a configuration.
static SIGNALS: OnceLock<[Signal; 2]> = OnceLock::new();

impl Init {
    fn turn<R>(&'static self, f: impl FnOnce(&mut Turn<'_, Remote<Books>>) -> R) -> R {
        let (result, effects) = self.decide(f);
        self.perform(effects);
        result
    }

    fn decide<R>(&self, f: impl FnOnce(&mut Turn<'_, Remote<Books>>) -> R) -> (R, Vec<Effect>) {
        let mut state = lock(&self.state);
        let State { house, bank, .. } = &mut *state;
        house.turn(now(), bank, f)
    }

    fn perform(&'static self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Start(life, account) => {
                    if let Err(why) = self.start(life, account) {
                        let name = self.name(life.child);
                        println!("component `{name}`: not started: {why}");
                        effects.extend(self.decide(|turn| turn.died(life, Cause::NotStarted)).1);
                    }
                }
                Effect::Stop(life, cause) => {
                    let gone = lock(&self.state).living.remove(&life.number);
                    if let Some(gone) = gone {
                        let _ = core().stop(gone.number);
                        if cause == Cause::Asked {
                            println!("component `{}`: stopped, as the configuration says", gone.name);
                        }
                    }
                }
                Effect::Signal(life) => self.signal(life),
                // Init asks its children for nothing.
                Effect::News(..) => {}
                Effect::Serve(notice) => effects.extend(self.serve(notice)),
                Effect::Up(call) => {
                    if let Err(refusal) = up(&call) {
                        effects.extend(self.decide(|turn| turn.refused(call, refusal)).1);
                    }
                }
                Effect::Log(name, text) => println!("component `{name}`: {text}"),
            }
        }
        let mut state = lock(&self.state);
        let State { house, keeps, .. } = &mut *state;
        let gone = keeps.tidy(house.parent());
        let leaves = house.leaves();
        drop(state);
        drop(gone);
        if let Some(code) = leaves {
            std::process::exit(i32::try_from(code).unwrap_or(i32::MAX));
        }
        self.stirred.up();
        self.changed.up();
    }

    fn name(&self, child: usize) -> String {
        let state = lock(&self.state);
        let found = state.house.parent().children().find(|(index, _)| *index == child);
        found.map_or_else(String::new, |(_, c)| c.spec.name.to_string())
    }

    fn start(&'static self, life: Life, account: AccountId) -> Result<(), Box<dyn Error>> {
        let text = lock(&self.state).house.describe(life.child)?;
        for part in text.as_bytes().chunks(PART) {
            let part = Bytes::new(part).ok_or("a part too long")?;
            core().describe(part)?.map_err(|e| format!("its description: {e:?}"))?;
        }
        let desk = self.at.manage(ParentServer(Desk::new(Clerk(self), life))).map_err(|e| format!("{e:?}"))?;
        let number = core().start(account.number(), desk.cap())?.map_err(|e| format!("{e:?}"))?;
        let name = self.name(life.child);
        lock(&self.state).living.insert(life.number, Living { life, name, number, desk, signal: None });
        Ok(())
    }

    fn signal(&self, life: Life) {
        let signal = lock(&self.state).living.get(&life.number).and_then(|living| living.signal.clone());
        if let Some(signal) = signal {
            // Nobody is there to hear it: then it does not matter.
            let _ = raise(**signal);
        }
    }

    /// Init serves nothing itself.
    fn serve(&self, notice: Notice) -> Vec<Effect> {
        let (id, response) = match notice {
            Notice::Create(request) => (request.id, Response::Denied),
            Notice::Upgrade(id, _) => (id, Response::NotUpgraded),
            Notice::Close(id) => (id, Response::Closed),
            _ => return Vec::new(),
        };
        self.decide(|turn| turn.served(id, response)).1
    }

    /// What the parent has told.
    fn hear(&'static self) {
        loop {
            let Some(told) = lock(&self.told).pop_front() else { return };
            match told {
                Told::Session(id, wire::News::Ready(cap)) => {
                    lock(&self.state).keeps.keep(id, Arc::new(Held::adopt(cap)));
                    self.turn(|turn| turn.notice(Notice::Session(id, News::Ready(::session::Cap(cap.sel())))));
                }
                Told::Session(id, news) => {
                    let news = match news {
                        wire::News::Upgraded => News::Upgraded,
                        wire::News::Ended(end) => News::Ended(end.into()),
                        _ => News::NotUpgraded,
                    };
                    self.turn(|turn| turn.notice(Notice::Session(id, news)));
                }
                Told::Create(request) => {
                    let id = request.id;
                    match request.try_into() {
                        Ok(request) => self.turn(|turn| turn.notice(Notice::Create(request))),
                        Err(_) => _ = above().respond(id, wire::Response::Denied),
                    }
                }
                Told::Upgrade(id, amount) => {
                    if let Ok(quota) = ::session::wire::quota(amount) {
                        self.turn(|turn| turn.notice(Notice::Upgrade(id, quota)));
                    }
                }
                Told::Close(id) => self.turn(|turn| turn.notice(Notice::Close(id))),
                Told::Yield(amount) => {
                    if let Ok(quota) = ::session::wire::quota(amount) {
                        self.turn(|turn| turn.notice(Notice::Yield(quota)));
                    }
                }
                Told::Granted => self.turn(|turn| turn.notice(Notice::Granted)),
                // That it could be fetched was answered already.
                Told::Heartbeat => {}
            }
        }
    }

    /// What core has told of ends.
    fn bury(&'static self) {
        while let Ok(Some(ended)) = core().ended() {
            let life = {
                let state = lock(&self.state);
                state.living.values().find(|living| living.number == ended.child).map(|living| living.life)
            };
            let cause = match ended.how {
                How::Exit => Cause::Exit(ended.code),
                How::Fault => Cause::Fault,
                How::NotStarted => Cause::NotStarted,
            };
            if let Some(life) = life {
                self.turn(|turn| turn.died(life, cause));
            }
        }
    }

    /// Time has passed.
    fn tick(&'static self) {
        self.turn(|turn| turn.tick());
        let mut state = lock(&self.state);
        let State { house, bank, again, .. } = &mut *state;
        if now() < *again {
            return;
        }
        *again = now().saturating_add(AGAIN);
        let effects = house.follow(now(), bank);
        drop(state);
        if !effects.is_empty() {
            self.perform(effects);
        }
    }

    /// There is another configuration.
    fn renew(&self, text: &str) -> Result<(), Box<dyn Error>> {
        *lock(&self.text) = Some(text.into());
        let [_, renewed] = SIGNALS.get().ok_or("no signals")?;
        Ok(raise(*renewed)?)
    }

    /// One that cannot be read changes nothing.
    fn configure(&'static self) {
        let Some(text) = lock(&self.text).take() else { return };
        let config = match init::Config::of_init(&text) {
            Ok(config) => config,
            Err(defects) => return defects.iter().for_each(|defect| println!("config: {defect}")),
        };
        config.all_defects().iter().for_each(|defect| println!("config: {defect}"));
        let mut state = lock(&self.state);
        let State { house, bank, again, .. } = &mut *state;
        *again = now().saturating_add(AGAIN);
        let effects = house.configure(config, now(), bank);
        let reports = house.config().report.is_some();
        drop(state);
        self.perform(effects);
        if reports && !self.reports.swap(true, Ordering::Relaxed) {
            let init = INIT.get();
            let started = std::thread::Builder::new().spawn(move || init.map(reporter::report));
            started.map(drop).unwrap_or_else(|e| println!("no report of the state: {e}"));
        }
    }

    /// When something is due next.
    fn due(&self) -> Time {
        let state = lock(&self.state);
        let next = state.house.parent().next_tick().unwrap_or(Time::MAX).min(state.again);
        next.max(now().saturating_add(TICK))
    }
}

/// A call to the parent for somebody below.
fn up(call: &Call) -> Result<(), Refusal> {
    let name = |name: &parent::Name| Text::new(name.as_str()).unwrap_or_default();
    let answer = match call {
        Call::Announce(service) => above().announce(name(service)),
        Call::Request(request) => above().request(request.into()),
        Call::Upgrade { id, more } => above().upgrade(*id, amount(*more)),
        Call::Close(id) => above().close(*id),
        Call::Respond(id, response) => above().respond(*id, (*response).into()),
        Call::Yielded => above().yielded(),
        // What children say of themselves goes no further.
        _ => return Ok(()),
    };
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(wire::Refusal::ShortRam)) => Err(Refusal::Short(Shortage::Ram)),
        Ok(Err(wire::Refusal::ShortCaps)) => Err(Refusal::Short(Shortage::Caps)),
        Ok(Err(_)) | Err(_) => Err(Refusal::Denied),
    }
}

/// Decides for a child.
struct Clerk(&'static Init);

impl Keeper for Clerk {
    type Kept = Kept;

    fn call(&mut self, from: Life, call: Call) -> Result<Option<Notice>, Refusal> {
        self.0.turn(|turn| turn.call(from, call))
    }

    fn hand_over(&mut self, server: Life, id: SessionId, cap: Cap<AnyObject>) {
        let held = Arc::new(Held::keep(cap));
        let mut state = lock(&self.0.state);
        let State { house, keeps, .. } = &mut *state;
        keeps.hand_over(house.parent(), server, id, held);
    }

    fn kept(&mut self, client: Life, name: SessionId) -> Option<Arc<Kept>> {
        let state = lock(&self.0.state);
        state.keeps.of(state.house.parent(), Party::Child(client.child), name)
    }

    fn heed(&mut self, life: Life, signal: Signal) {
        let held = Arc::new(Held::keep(signal));
        let mut state = lock(&self.0.state);
        let old = state.living.get_mut(&life.number).and_then(|living| living.signal.replace(held));
        drop(state);
        drop(old);
        // What was new before there was a signal.
        self.0.signal(life);
    }

    fn exit(&mut self, life: Life, code: u64) {
        let _ = self.0.turn(|turn| turn.call(life, Call::Exit(code)));
    }
}

fn heard(notice: Told) {
    if let (Some(init), Some([heard, _])) = (INIT.get(), SIGNALS.get()) {
        lock(&init.told).push_back(notice);
        let _ = raise(*heard);
    }
}

/// Raises `due` when something is.
fn watch(init: &'static Init, due: Signal) {
    loop {
        init.stirred.down_until(rt::time::tsc_from_ns(init.due()));
        if init.due() <= now().saturating_add(TICK) && raise(due).is_err() {
            return;
        }
    }
}

fn kernel(status: abi::Status) -> String {
    format!("the kernel refused a thread or a signal: {status}")
}

fn run() -> Result<(), Box<dyn Error>> {
    let own = AccountId::from_number(core().own().map_err(|e| format!("core has nothing for children of ours: {e}"))?);
    let at = Entrypoint::new(rt::thread::cpu(), STACK).map_err(kernel)?;
    let (house, bank) = (House::new(own), Remote::new(Books, own));
    let (keeps, living) = Default::default();
    let state = Mutex::new(State { house, bank, keeps, living, again: 0 });
    let (told, contexts, text, reports) = Default::default();
    let init = INIT.get_or_init(|| Init {
        at,
        state,
        told,
        text,
        stirred: Semaphore::new(0),
        changed: Semaphore::new(0),
        reports,
        contexts,
    });
    let context = |handler: fn(&'static Init)| at.context(move || handler(init)).map_err(kernel);
    let all = [Init::hear, Init::bury, Init::tick, Init::configure].map(context);
    let all: Vec<Context> = all.into_iter().collect::<Result<_, _>>()?;
    let signals: Vec<Signal> = all.iter().map(Context::signal).collect();
    let [heard_signal, ended, due, renewed] = signals[..] else { return Err("four signals".into()) };
    lock(&init.contexts).extend(all);
    SIGNALS.get_or_init(|| [heard_signal, renewed]);
    session::relay(heard);
    session::attend(at)?;
    core().heed(ended)?;
    let small = std::thread::Builder::new().stack_size(SMALL);
    small.spawn(move || watch(init, due))?;
    if let Some(text) = rt::rom(parent::CONFIG_ROM) {
        init.renew(std::str::from_utf8(text)?)?;
        loop {
            std::thread::park();
        }
    }
    let rom = session::open::<dyn Rom>(parent::CONFIG_ROM, &[]);
    source::follow(
        init,
        rom.map_err(|e| format!("no configuration: no key `config`, and no session with service `rom`: {e}"))?,
    )
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            e.to_string().lines().for_each(|line| println!("{line}"));
            ExitCode::FAILURE
        }
    }
}
