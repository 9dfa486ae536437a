//! Sessions: asking one's parent for them, and serving them.
//!
//! A client [`open`]s a session and waits until it is there or refused; what it gets is a capability for a client of the
//! interface. A server [`serve`]s an interface at an entry point: there its [`Root`] makes an object for each session.
//!
//! The parent raises one signal for a component, and whoever looks asks what is new until there is nothing: news of sessions
//! go to a table where who waits for them finds them, what a server is to do is done at its entry point. As long as nothing
//! is served, a thread that waits looks itself, one at a time.
//!
//! Key types: [`Session`], [`Root`], [`Error`]. Neighbours: `services::parent` is the interface, `roottask/session` decides.

use crate::lock::{Gate, Lock};
use crate::rpc::{Context, Entrypoint, Held, Managed, Portal, raise};
use crate::{futex, hypercall, lock, tcb};
use abi::Status;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use parent::sel;
use rpc::{Bytes, Cap, Interface, Signal, Table, Text, Version};
pub use services::parent::{Amount, Request, Shortage};
use services::parent::{AnyObject, End, News, Notice, Refusal, Response};
use services::{Parent, ParentClient};

/// Why there is no session, or a call to the parent had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The parent refused at once.
    Refused(Refusal),
    /// The server did not want it, or none is left that could serve.
    Denied,
    /// The donation was too small for the server.
    Short(Shortage),
    /// The server has died, or the session was closed.
    Gone,
    /// The server has not answered in time; it is not waited for any more.
    Late,
    /// The server has another version of the interface.
    Incompatible {
        /// What we were built against.
        interface: &'static Table,
        /// The server's version.
        theirs: Version,
    },
    /// Label or arguments are too long.
    Long,
    /// There is no parent to ask, or it cannot be reached.
    Parent(rpc::Error),
    /// The kernel refused what is needed to wait.
    Kernel(Status),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Denied => f.write_str("the server did not want the session, or there is none"),
            Error::Short(Shortage::Ram) => f.write_str("the server wants more RAM for the session"),
            Error::Short(Shortage::Caps) => f.write_str("the server wants more capabilities for the session"),
            Error::Gone => f.write_str("the server has died"),
            Error::Late => f.write_str("the server has not answered in time"),
            Error::Incompatible { interface, theirs } => {
                let ours = interface.built.version;
                write!(f, "{}: the server has version {theirs}, this was built against {ours}", interface.name)?;
                if ours == *theirs { f.write_str(" with other methods") } else { Ok(()) }
            }
            Error::Long => f.write_str("the label or the arguments are too long"),
            Error::Parent(e) => write!(f, "the parent: {e}"),
            Error::Kernel(status) => write!(f, "the kernel refused what is needed: {status}"),
        }
    }
}

impl core::error::Error for Error {}

/// The parent, for the calling thread.
fn parent() -> ParentClient<Portal> {
    ParentClient::new(Portal::to(Cap::<dyn Parent>::from_sel(sel::sessions(tcb::my().cpu))))
}

/// What a call to the parent says.
fn said<T>(answer: Result<Result<T, Refusal>, rpc::Error>) -> Result<T, Error> {
    answer.map_err(Error::Parent)?.map_err(Error::Refused)
}

/// How a session of ours stands, as far as it is known.
enum Mine {
    /// Nothing has come yet.
    Asked,
    Ready(Cap<AnyObject>),
    /// Somebody has that.
    Open,
    Upgrading,
    Upgraded(bool),
    Ended(End),
}

struct State {
    mine: BTreeMap<u64, Mine>,
    /// Who waits for the end of a session of ours.
    watches: Vec<(u64, Signal)>,
    /// For the entry point.
    todo: VecDeque<Notice>,
    /// Who was asked for quota.
    granted: bool,
}

impl State {
    /// A session has ended.
    fn tell(&self, id: u64) {
        self.watches.iter().filter(|(of, _)| *of == id).for_each(|(_, signal)| _ = raise(*signal));
    }
}

static STATE: Lock<State> =
    Lock::new(State { mine: BTreeMap::new(), watches: Vec::new(), todo: VecDeque::new(), granted: false });
/// What is raised for us; 0: the parent has not been told.
static CONTEXT: AtomicU64 = AtomicU64::new(0);
/// The bell of the entry point that handles notices; 0: there is none.
static BELL: AtomicU64 = AtomicU64::new(0);
/// One thread at a time tells the parent what to raise.
static LISTEN: Lock<()> = Lock::new(());
/// Counts what has come to the table: who waits for something in it waits for this to change.
static CHANGES: AtomicU32 = AtomicU32::new(0);
/// A thread waits for the signal.
static LOOKING: AtomicBool = AtomicBool::new(false);
/// Semaphore of who waits for nobody else; 0: nobody has yet. It is never freed, as who ups it may be late.
static APART_SEM: AtomicU64 = AtomicU64::new(0);
/// The same while a thread waits there; 0: none does.
static APART: AtomicU64 = AtomicU64::new(0);
/// EC of the entry point that handles notices; 0: none.
static ATTENDING: AtomicU64 = AtomicU64::new(0);
/// Identifiers from here on are those of sessions that are opened here.
const OURS: u64 = 1 << 63;
static NEXT: AtomicU64 = AtomicU64::new(OURS);
/// Who is told what is not for this module.
static RELAY: Lock<Option<fn(Notice)>> = Lock::new(None);

pub(crate) fn gates() -> [&'static Gate; 6] {
    [STATE.gate(), LISTEN.gate(), ROOTS.gate(), SIGNAL.gate(), YIELDS.gate(), RELAY.gate()]
}

/// Something has come to the table: who waits for it by turns looks there.
fn turned() {
    CHANGES.fetch_add(1, Ordering::SeqCst);
    futex::wake_all(&CHANGES);
}

/// The same, also for who waits apart.
fn changed() {
    turned();
    match APART.load(Ordering::SeqCst) {
        0 => {}
        apart => _ = hypercall::sm_up(apart),
    }
}

/// Sees to it that the parent has a signal of ours to raise.
fn listen() -> Result<(), Error> {
    LISTEN.with(|()| {
        if CONTEXT.load(Ordering::Acquire) != 0 {
            return Ok(());
        }
        let context = lock::new_semaphore(0).map_err(Error::Kernel)?;
        // Only who waits for the context is to be woken.
        parent().heed(Signal { context, bell: context }).map_err(Error::Parent)?;
        CONTEXT.store(context, Ordering::Release);
        Ok(())
    })
}

/// Asks the parent what is new until there is nothing, and tells whoever waits for it.
fn look() {
    fetch();
    changed();
}

fn fetch() {
    while let Ok(Some(notice)) = parent().next() {
        match notice {
            Notice::Session(id, news) if id >= OURS => drop(STATE.with(|s| enter(s, id, news))),
            // That we can look is the answer.
            Notice::Heartbeat => _ = parent().alive(),
            Notice::Granted => {
                STATE.with(|s| s.granted = true);
                if let Some(relay) = RELAY.with(|relay| *relay) {
                    relay(notice);
                }
            }
            other => match RELAY.with(|relay| *relay) {
                Some(relay) => relay(other),
                None => STATE.with(|s| s.todo.push_back(other)),
            },
        }
    }
}

/// Returns what nobody wants any more: the session was closed.
fn enter(state: &mut State, id: u64, news: News) -> Option<Held<Cap<AnyObject>>> {
    match (state.mine.get_mut(&id), news) {
        (None, News::Ready(cap)) => return Some(Held::adopt(cap)),
        (None, _) => {}
        (Some(mine), News::Ready(cap)) => *mine = Mine::Ready(cap),
        (Some(mine), News::Upgraded) => *mine = Mine::Upgraded(true),
        (Some(mine), News::NotUpgraded) => *mine = Mine::Upgraded(false),
        (Some(mine), News::Ended(end)) => {
            *mine = Mine::Ended(end);
            state.tell(id);
        }
    }
    None
}

/// Waits until `find` finds something.
fn wait<R>(mut find: impl FnMut(&mut State) -> Option<R>) -> R {
    loop {
        if let Some(found) = wait_until(None, &mut find) {
            return found;
        }
    }
}

/// The same, at most until the TSC reaches that.
fn wait_until<R>(tsc: Option<u64>, mut find: impl FnMut(&mut State) -> Option<R>) -> Option<R> {
    loop {
        let seen = CHANGES.load(Ordering::SeqCst);
        if let Some(found) = STATE.with(&mut find) {
            return Some(found);
        }
        if tsc.is_some_and(|tsc| crate::time::tsc() >= tsc) {
            return None;
        }
        let attending = ATTENDING.load(Ordering::Acquire);
        let others = attending != 0 && attending != tcb::my().ec;
        if others || LOOKING.swap(true, Ordering::Acquire) {
            futex::wait_change(&CHANGES, seen, tsc);
            continue;
        }
        look();
        let found = STATE.with(&mut find);
        if found.is_none() {
            let _ = hypercall::sm_down(CONTEXT.load(Ordering::Acquire), true, tsc);
        }
        LOOKING.store(false, Ordering::Release);
        changed();
        if found.is_some() {
            remind();
            return found;
        }
    }
}

/// The same for a thread for which others may wait, such as whoever is about to print something: it looks itself, and waits
/// for the parent alone. One thread at a time.
fn wait_apart<R>(mut find: impl FnMut(&mut State) -> Option<R>) -> Result<R, Error> {
    if APART_SEM.load(Ordering::Relaxed) == 0 {
        APART_SEM.store(lock::new_semaphore(0).map_err(Error::Kernel)?, Ordering::Relaxed);
    }
    let own = APART_SEM.load(Ordering::Relaxed);
    APART.store(own, Ordering::SeqCst);
    // Who else waits for the parent is woken, too. Who changes that looks, and tells us by `changed`.
    let heed = |context| {
        LISTEN.with(|()| {
            let (theirs, bell) = (CONTEXT.load(Ordering::Acquire), BELL.load(Ordering::Acquire));
            let signal = match (theirs, bell) {
                (0, _) => Signal { context, bell: context },
                (theirs, 0) => Signal { context, bell: theirs },
                (_, bell) => Signal { context, bell },
            };
            parent().heed(signal).map_err(Error::Parent)
        })
    };
    let found = heed(own).map(|()| {
        loop {
            // Not `look`, which would wake ourselves.
            fetch();
            turned();
            remind();
            if let Some(found) = STATE.with(&mut find) {
                break found;
            }
            let _ = hypercall::sm_down(own, true, None);
        }
    });
    APART.store(0, Ordering::SeqCst);
    let theirs = CONTEXT.load(Ordering::Acquire);
    if theirs != 0 {
        let _ = heed(theirs);
    }
    found
}

/// What the entry point's thread has fetched while it waited here, and has to do, it does when it is done with this.
fn remind() {
    let (context, bell) = (CONTEXT.load(Ordering::Acquire), BELL.load(Ordering::Acquire));
    if bell != 0 && STATE.with(|s| !s.todo.is_empty()) {
        let _ = raise(Signal { context, bell });
    }
}

/// A session: a capability to its object at the server, until this value goes. Then it is closed, and what was donated comes
/// back.
pub struct Session<I: ?Sized> {
    id: u64,
    cap: Held<Cap<AnyObject>>,
    interface: PhantomData<fn(&I)>,
}

/// Opens a session of interface `I`, with what its table says that it costs. Waits until the server has answered, or the parent
/// has refused. On the CPU where the component started.
pub fn open<I: Interface + ?Sized>(label: &str, args: &[u8]) -> Result<Session<I>, Error> {
    open_with(label, args, Amount::of(I::TABLE.cost))
}

/// The same with a donation of one's own choice.
pub fn open_with<I: Interface + ?Sized>(label: &str, args: &[u8], donation: Amount) -> Result<Session<I>, Error> {
    listen()?;
    let id = ask::<I>(label, args, donation)?;
    opened(id, wait(|s| answered(s, id)))
}

/// As [`open`], for a server that may never answer: when the TSC reaches `tsc` the request is taken back, and what was donated
/// comes back, as the parent has it from the server.
pub fn open_until<I: Interface + ?Sized>(label: &str, args: &[u8], tsc: u64) -> Result<Session<I>, Error> {
    listen()?;
    let id = ask::<I>(label, args, Amount::of(I::TABLE.cost))?;
    match wait_until(Some(tsc), |s| answered(s, id)) {
        Some(answer) => opened(id, answer),
        None => {
            give_up(id);
            Err(Error::Late)
        }
    }
}

/// A session that nobody waits for any more.
fn give_up(id: u64) {
    let mine = STATE.with(|s| s.mine.remove(&id));
    if !matches!(mine, Some(Mine::Ended(_))) {
        let _ = parent().close(id);
    }
    // It has come after all.
    if let Some(Mine::Ready(cap)) = mine {
        drop(Held::adopt(cap));
    }
}

/// As [`open`], waiting for nobody but parent and server: not for what another thread of the component has to do.
pub(crate) fn open_apart<I: Interface + ?Sized>(label: &str, args: &[u8]) -> Result<Session<I>, Error> {
    let id = ask::<I>(label, args, Amount::of(I::TABLE.cost))?;
    opened(id, wait_apart(|s| answered(s, id))?)
}

/// Requests a session; its identifier.
fn ask<I: Interface + ?Sized>(label: &str, args: &[u8], donation: Amount) -> Result<u64, Error> {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let request = Request {
        id,
        service: I::TABLE.service().ok_or(Error::Long)?,
        label: Text::new(label).ok_or(Error::Long)?,
        built: I::TABLE.built,
        args: Bytes::new(args).ok_or(Error::Long)?,
        donation,
    };
    STATE.with(|s| s.mine.insert(id, Mine::Asked));
    let asked = said(parent().request(request)).inspect_err(|_| STATE.with(|s| _ = s.mine.remove(&id)));
    if asked == Err(Error::Refused(Refusal::TooMany)) {
        // The next one may find room: ends of sessions that nobody has fetched count.
        look();
    }
    asked.map(|()| id)
}

/// What has come of it.
fn answered(s: &mut State, id: u64) -> Option<Result<Cap<AnyObject>, End>> {
    match s.mine.get(&id) {
        Some(Mine::Ready(cap)) => {
            let cap = *cap;
            s.mine.insert(id, Mine::Open);
            Some(Ok(cap))
        }
        Some(Mine::Ended(_)) | None => Some(Err(ended(s, id))),
        _ => None,
    }
}

fn opened<I: Interface + ?Sized>(id: u64, answer: Result<Cap<AnyObject>, End>) -> Result<Session<I>, Error> {
    let cap = answer.map_err(|end| failed::<I>(end))?;
    Ok(Session { id, cap: Held::adopt(cap), interface: PhantomData })
}

/// How it ended; the table forgets it.
fn ended(state: &mut State, id: u64) -> End {
    match state.mine.remove(&id) {
        Some(Mine::Ended(end)) => end,
        _ => End::Gone,
    }
}

fn failed<I: Interface + ?Sized>(end: End) -> Error {
    match end {
        End::Denied => Error::Denied,
        End::Gone | End::Closed => Error::Gone,
        End::Short(shortage) => Error::Short(shortage),
        End::Incompatible(theirs) => Error::Incompatible { interface: I::TABLE, theirs },
    }
}

impl<I: Interface + ?Sized> Session<I> {
    /// The capability.
    pub fn cap(&self) -> Cap<I> {
        Cap::from_sel(self.cap.sel())
    }

    /// The port for a client of the interface.
    pub fn portal(&self) -> Portal {
        Portal::to(self.cap())
    }

    /// Donates more, and waits until the server has taken note of it.
    pub fn upgrade(&self, more: Amount) -> Result<(), Error> {
        let id = self.id;
        // Before it is asked for: the answer may be here at once.
        STATE.with(|s| _ = s.mine.insert(id, Mine::Upgrading));
        said(parent().upgrade(id, more)).inspect_err(|_| STATE.with(|s| _ = s.mine.insert(id, Mine::Open)))?;
        let answer = wait(|s| match s.mine.get(&id) {
            Some(Mine::Upgraded(done)) => {
                let done = *done;
                s.mine.insert(id, Mine::Open);
                Some(Ok(done))
            }
            Some(Mine::Ended(_)) | None => Some(Err(Error::Gone)),
            _ => None,
        });
        if answer? { Ok(()) } else { Err(Error::Denied) }
    }
}

/// Has a signal of ours raised when a session of ours ends, until this value goes.
#[derive(Debug)]
pub(crate) struct Watch {
    id: u64,
    signal: Signal,
}

impl Watch {
    /// `None`: nobody would see the end, as no entry point [attends](attend).
    pub(crate) fn new<I: ?Sized>(session: &Session<I>, signal: Signal) -> Option<Watch> {
        let attended = ATTENDING.load(Ordering::Acquire) != 0;
        attended.then(|| STATE.with(|s| s.watches.push((session.id, signal))));
        attended.then_some(Watch { id: session.id, signal })
    }

    /// Whether it has ended, as far as it is known.
    pub(crate) fn is_over(&self) -> bool {
        STATE.with(|s| matches!(s.mine.get(&self.id), None | Some(Mine::Ended(_))))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        STATE.with(|s| s.watches.retain(|(id, signal)| (*id, *signal) != (self.id, self.signal)));
    }
}

impl<I: ?Sized> Drop for Session<I> {
    fn drop(&mut self) {
        let mine = STATE.with(|s| {
            let mine = s.mine.remove(&self.id);
            s.tell(self.id);
            mine
        });
        // If it is over, the parent does not know it any more.
        if !matches!(mine, Some(Mine::Ended(_))) {
            let _ = parent().close(self.id);
        }
    }
}

impl<I: Interface + ?Sized> fmt::Debug for Session<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session<{}>({})", I::TABLE.name, self.id)
    }
}

/// Why a server creates no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not want to.
    Denied,
    /// It wants more for it.
    Short(Shortage),
}

/// What makes the objects of an interface, a session each. It is called at the entry point that it serves at, in turn with the
/// methods of the objects there.
pub trait Root: Send + 'static {
    /// The interface.
    type Interface: Interface + ?Sized;
    /// A client wants a session. Its version is served, and it has donated what the table says.
    fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<Self::Interface>, Refused>;
    /// A client has donated more to its session: so much all told.
    fn upgraded(&mut self, _id: u64, _donated: Amount) {}
    /// A session is over; its object is dissolved.
    fn closed(&mut self, _id: u64) {}
}

/// A root without its type.
trait Serving: Send {
    fn table(&self) -> &'static Table;
    fn create(&mut self, at: Entrypoint, request: &Request) -> Response;
    fn upgrade(&mut self, id: u64, donated: Amount) -> bool;
    fn close(&mut self, id: u64) -> bool;
}

struct Served<R: Root> {
    root: R,
    sessions: BTreeMap<u64, Managed<R::Interface>>,
}

impl<R: Root> Serving for Served<R> {
    fn table(&self) -> &'static Table {
        R::Interface::TABLE
    }

    fn create(&mut self, at: Entrypoint, request: &Request) -> Response {
        let table = self.table();
        let cost = Amount::of(table.cost);
        if table.admits(request.built).is_err() {
            return Response::Incompatible(table.built.version);
        }
        if request.donation.ram < cost.ram {
            return Response::Short(Shortage::Ram);
        }
        if request.donation.caps < cost.caps {
            return Response::Short(Shortage::Caps);
        }
        match self.root.create(at, request) {
            Ok(object) => {
                let cap = Cap::from_sel(object.cap().sel());
                self.sessions.insert(request.id, object);
                Response::Ready(cap)
            }
            Err(Refused::Denied) => Response::Denied,
            Err(Refused::Short(shortage)) => Response::Short(shortage),
        }
    }

    fn upgrade(&mut self, id: u64, donated: Amount) -> bool {
        let known = self.sessions.contains_key(&id);
        if known {
            self.root.upgraded(id, donated);
        }
        known
    }

    fn close(&mut self, id: u64) -> bool {
        let known = self.sessions.remove(&id).is_some();
        if known {
            self.root.closed(id);
        }
        known
    }
}

/// What is served, touched at the entry point only, and by who adds to it.
static ROOTS: Lock<Vec<Box<dyn Serving>>> = Lock::new(Vec::new());
/// Keeps the signal of the entry point that attends.
static SIGNAL: Lock<Option<Context>> = Lock::new(None);

/// Has notices of the parent handled at `at` from now on, heartbeats too, whether something is served there or not. Once, by a
/// thread on its CPU; once more does nothing.
pub fn attend(at: Entrypoint) -> Result<(), Error> {
    if ATTENDING.load(Ordering::Acquire) != 0 {
        return Ok(());
    }
    let context = at.context(move || handle(at)).map_err(Error::Kernel)?;
    let signal = context.signal();
    SIGNAL.with(|s| *s = Some(context));
    LISTEN.with(|()| {
        BELL.store(signal.bell, Ordering::Release);
        ATTENDING.store(at.inner().ec, Ordering::Release);
        let old = CONTEXT.swap(signal.context, Ordering::AcqRel);
        if old != 0 {
            // Who looks is to leave that to the entry point.
            let _ = hypercall::sm_up(old);
        }
        parent().heed(signal).map_err(Error::Parent)
    })
}

/// For who is a parent himself: what the parent says that is not about sessions opened here, which have identifiers from 2^63 on,
/// goes to `to`, at the entry point that [`attend`]s, or on a thread that waits for a session there. Nothing can be served by
/// [`serve`] then.
pub fn relay(to: fn(Notice)) {
    RELAY.with(|relay| *relay = Some(to));
}

/// Serves an interface: announces its service, and has `root` make an object at `at` for each session.
pub fn serve<R: Root>(at: Entrypoint, root: R) -> Result<(), Error> {
    let service = R::Interface::TABLE.service().ok_or(Error::Long)?;
    ROOTS.with(|roots| roots.push(Box::new(Served { root, sessions: BTreeMap::new() })));
    attend(at)?;
    said(parent().announce(service))
}

/// At the entry point: what the parent wants.
fn handle(at: Entrypoint) {
    look();
    while let Some(notice) = STATE.with(|s| s.todo.pop_front()) {
        // Taken out meanwhile, as a root may open sessions of its own.
        let mut roots = ROOTS.with(mem::take);
        let answer = answer(&mut roots, at, notice);
        ROOTS.with(|now| {
            roots.append(now);
            *now = roots;
        });
        if let Some((id, response)) = answer {
            // It may be over already.
            let _ = parent().respond(id, response);
        }
    }
}

fn answer(roots: &mut [Box<dyn Serving>], at: Entrypoint, notice: Notice) -> Option<(u64, Response)> {
    match notice {
        Notice::Create(request) => {
            let root = roots.iter_mut().find(|root| root.table().service() == Some(request.service));
            Some((request.id, root.map_or(Response::Denied, |root| root.create(at, &request))))
        }
        Notice::Upgrade(id, donated) => {
            let known = roots.iter_mut().any(|root| root.upgrade(id, donated));
            Some((id, if known { Response::Upgraded } else { Response::NotUpgraded }))
        }
        Notice::Close(id) => {
            let _ = roots.iter_mut().any(|root| root.close(id));
            Some((id, Response::Closed))
        }
        Notice::Yield(amount) => {
            // What is free is taken, also if there is nobody here who could free something.
            let mut yields = YIELDS.with(Option::take);
            if let Some(yields) = &mut yields {
                yields(amount);
            }
            YIELDS.with(|now| {
                if now.is_none() {
                    *now = yields;
                }
            });
            let _ = parent().yielded();
            None
        }
        _ => None,
    }
}

/// What frees quota when the parent asks for it.
type Yields = Box<dyn FnMut(Amount) + Send>;
static YIELDS: Lock<Option<Yields>> = Lock::new(None);

/// Has `free` free so much as the parent asks for, or what it can of it, at the entry point that [`attend`]s. The parent takes what
/// is free afterwards.
pub fn on_yield(free: impl FnMut(Amount) + Send + 'static) {
    let old = YIELDS.with(|now| now.replace(Box::new(free)));
    drop(old);
}

/// Asks the parent for more quota and waits until it has given it, perhaps for ever.
pub fn want(more: Amount) -> Result<(), Error> {
    listen()?;
    STATE.with(|s| s.granted = false);
    said(parent().want(more))?;
    wait(|s| mem::take(&mut s.granted).then_some(()));
    Ok(())
}

/// Tells the parent that the component has ended. `false`: there is no parent to tell.
pub(crate) fn exit(code: u64) -> bool {
    parent().exit(code).is_ok()
}
