//! The root task as a parent: what `session::Parent` decides, done.
//!
//! A component reaches its parent through an object of an entry point on each CPU where it has threads ([`Desk`]). What it
//! asks is decided under one lock, in bounded time; what follows is done after the lock is let go of. Signals are raised and
//! the root task's own services create and close sessions at once; starts, stops and lines of the log are the supervisor's.
//!
//! Key types: [`Hub`], [`Member`], a life of a component as its parent knows it. Neighbours: `own` has the services.

use crate::helpers::Helpers;
use crate::own::{Kept, Own};
use crate::shared::{Order, Running, Shared};
use crate::timer::now;
use abi::{Sel, Status};
use core_task_logic::ticks::Ticks;
use policy::End;
use rpc::{Cap, Signal, Text};
use rt::rpc::{Entrypoint, Held, Managed, raise};
use services::parent::{self as wire, AnyObject, MAX_NAME, Notice as Told, Response as Answer};
use services::{Parent, ParentServer};
use session::wire::{quota, service};
use session::{
    Account, AccountId, BookError, Books, Call, Effect, Life, Limits, News, Notice, Party, Quota, Refusal, Response,
    SessionId, Settings, Spec, State, Time, Turn,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stack of an entry point.
const STACK: usize = 64 << 10;
/// How long a server may take to close a session, and may owe a donation.
const PATIENCE: Time = 2_000_000_000;
/// Nothing is looked at more often, and nothing that was noticed late waits for longer.
const TICKS: (Time, Time) = (50_000_000, 1_000_000_000);

/// A life of a component.
pub struct Member {
    /// Which.
    pub life: Life,
    /// Its index in the system file.
    pub index: usize,
    /// CPU of its first thread, where the objects of its sessions with the root task live.
    pub cpu: u16,
    /// Requests that our own services have denied.
    denied: AtomicU32,
    signal: Mutex<Option<Arc<Held<Signal>>>>,
    desks: Mutex<Vec<Managed<dyn Parent>>>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.life.fmt(f)
    }
}

/// What is decided about, behind one lock.
struct Decided {
    books: Books,
    parent: session::Parent,
    /// What keeps the capabilities of sessions: made by the root task, or handed over by servers.
    kept: BTreeMap<SessionId, Arc<Kept>>,
    ticks: Ticks,
}

impl Decided {
    fn account(&self, life: Life) -> Option<AccountId> {
        let (_, child) = self.parent.children().find(|(child, c)| *child == life.child && c.life == life.number)?;
        child.account
    }
}

/// The parent of all components.
pub struct Hub {
    decided: Mutex<Decided>,
    /// By the numbers of lives.
    members: Mutex<BTreeMap<u64, Arc<Member>>>,
    points: Mutex<BTreeMap<u16, Entrypoint>>,
    own: Own,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// One without children, over so much of both currencies. It lives as long as the root task.
    pub fn new(total: Quota, own: Own, shared: Arc<Shared>) -> &'static Hub {
        let (books, account) = Books::new(total);
        let settings = Settings {
            account,
            cost: Quota::NONE,
            patience: PATIENCE,
            own: own.services(),
            exports: session::Routes::default(),
            above: Limits { sessions: 0, pending: 0 },
        };
        let ticks = Ticks::new(TICKS.0, TICKS.1);
        let decided = Decided { books, parent: session::Parent::new(settings), kept: BTreeMap::new(), ticks };
        Box::leak(Box::new(Hub {
            decided: Mutex::new(decided),
            members: Mutex::default(),
            points: Mutex::default(),
            own,
            shared,
        }))
    }

    /// A new child; it is started if there is quota for it. `None`: there is one of that name.
    pub fn add(&'static self, spec: Spec) -> Option<usize> {
        self.turn(|turn| turn.add(spec))
    }

    /// What is known of all children, their accounts and sessions.
    pub fn look<R>(&self, f: impl FnOnce(&session::Parent, &Books) -> R) -> R {
        let decided = lock(&self.decided);
        f(&decided.parent, &decided.books)
    }

    /// The component that has that life, if it runs.
    pub fn running(&self, life: u64) -> Option<Arc<Running>> {
        let index = lock(&self.members).get(&life)?.index;
        self.shared.component(index).filter(|c| c.member.life.number == life)
    }

    /// How a child stands.
    pub fn state(&self, child: usize) -> Option<State> {
        let decided = lock(&self.decided);
        decided.parent.children().find(|(index, _)| *index == child).map(|(_, child)| child.state)
    }

    /// A life begins: its account, which is charged with what is mapped, and what its parent knows it by.
    pub fn open(&'static self, life: Life, index: usize, cpu: u16, mapped: Quota) -> Arc<Member> {
        let (signal, desks) = Default::default();
        let member = Arc::new(Member { life, index, cpu, denied: AtomicU32::new(0), signal, desks });
        lock(&self.members).insert(life.number, Arc::clone(&member));
        let mut decided = lock(&self.decided);
        let account = decided.parent.children().find(|(child, _)| *child == life.child).and_then(|(_, c)| c.account);
        if let Some(account) = account {
            // It was opened with more than that a moment ago.
            let _ = decided.books.fix(account, mapped);
        }
        member
    }

    /// A life is over: nobody reaches its parent through it any more.
    pub fn close(&'static self, life: Life) {
        let member = lock(&self.members).remove(&life.number);
        if let Some(member) = member {
            let (desks, signal) = (std::mem::take(&mut *lock(&member.desks)), lock(&member.signal).take());
            drop((desks, signal));
        }
        self.tidy();
    }

    /// The parent of that life as an object for its threads on `cpu`.
    pub fn desk(&'static self, member: &Arc<Member>, cpu: u16, helpers: &Helpers) -> Result<Sel, Status> {
        let desk = Desk { hub: self, member: Arc::clone(member), last: None };
        let managed = self.point(cpu, helpers)?.manage(ParentServer(desk))?;
        let sel = managed.cap().sel();
        lock(&member.desks).push(managed);
        Ok(sel)
    }

    /// The entry point on `cpu`.
    pub fn point(&self, cpu: u16, helpers: &Helpers) -> Result<Entrypoint, Status> {
        let mut points = lock(&self.points);
        if let Some(&point) = points.get(&cpu) {
            return Ok(point);
        }
        let point = Entrypoint::new(cpu, STACK)?;
        helpers.start(cpu, move || _ = point.settle())?;
        Ok(*points.entry(cpu).or_insert(point))
    }

    /// Something has happened: decides, and does what follows.
    pub fn turn<R>(&'static self, f: impl FnOnce(&mut Turn<'_, Books>) -> R) -> R {
        let (result, effects) = self.decide(f);
        self.perform(effects);
        result
    }

    fn decide<R>(&self, f: impl FnOnce(&mut Turn<'_, Books>) -> R) -> (R, Vec<Effect>) {
        let (decided, first) = self.weigh(Ticks::stir, f);
        if first {
            self.shared.wake();
        }
        decided
    }

    /// The same, with what it is for the ticks.
    fn weigh<R, T>(
        &self,
        tick: impl FnOnce(&mut Ticks, Time) -> T,
        f: impl FnOnce(&mut Turn<'_, Books>) -> R,
    ) -> ((R, Vec<Effect>), T) {
        let (mut decided, now) = (lock(&self.decided), now());
        let Decided { books, parent, ticks, .. } = &mut *decided;
        let ticked = tick(ticks, now);
        let mut turn = parent.turn(now, books);
        let result = f(&mut turn);
        let effects = turn.effects();
        drop(decided);
        ((result, effects), ticked)
    }

    /// Our own services have denied a component something: the log has the first, the second, the fourth, and so on.
    pub fn complain(&self, client: &Member, what: std::fmt::Arguments<'_>) {
        let count = client.denied.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let Some(name) = self.name_of(client.life).filter(|_| count.is_power_of_two()) else { return };
        self.shared.order(vec![Order::Line(format!("component `{name}`: {what} (denial {count} of this life)"))]);
    }

    fn name_of(&self, life: Life) -> Option<parent::Name> {
        self.look(|parent, _| parent.children().find(|(child, _)| *child == life.child).map(|(_, c)| c.spec.name))
    }

    /// The root task's own services.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// The account of a life.
    pub fn account(&self, life: Life) -> Option<Account> {
        let decided = lock(&self.decided);
        decided.books.account(decided.account(life)?).ok().copied()
    }

    /// The account of a life uses so much more.
    pub fn spend(&self, life: Life, quota: Quota) -> Result<(), BookError> {
        let mut decided = lock(&self.decided);
        let account = decided.account(life).ok_or(BookError::Unknown)?;
        decided.books.spend(account, quota)
    }

    /// The account of a life uses so much less, if it is not closed.
    pub fn release(&self, life: Life, quota: Quota) {
        let mut decided = lock(&self.decided);
        if let Some(account) = decided.account(life) {
            let _ = decided.books.release(account, quota);
        }
    }

    /// When the supervisor is to look at the clock again; `None`: not before something has happened.
    pub fn next_tick(&self) -> Option<Time> {
        let decided = lock(&self.decided);
        decided.ticks.next(decided.parent.next_tick())
    }

    /// Time has passed.
    pub fn tick(&'static self) {
        let (((), effects), ()) = self.weigh(Ticks::begin, |turn| turn.tick());
        self.perform(effects);
        self.tidy();
    }

    /// What no session keeps any more goes; after the lock, as it may be an object.
    fn tidy(&self) {
        let mut decided = lock(&self.decided);
        let Decided { parent, kept, .. } = &mut *decided;
        let gone: Vec<SessionId> = kept.keys().copied().filter(|&id| parent.session(id).is_none()).collect();
        let gone: Vec<_> = gone.into_iter().filter_map(|id| kept.remove(&id)).collect();
        drop(decided);
        drop(gone);
    }

    fn perform(&'static self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        let mut orders = Vec::new();
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Signal(life) => self.signal(life),
                Effect::Serve(notice) => effects.extend(self.serve(notice)),
                // The root task has asked for no session.
                Effect::News(..) => {}
                // Nobody is above.
                Effect::Up(call) => effects.extend(self.decide(|turn| turn.refused(call, Refusal::Denied)).1),
                Effect::Stop(life, cause) => orders.push(Order::Stop(life, cause)),
                Effect::Log(name, text) => orders.push(Order::Line(format!("component `{name}`: {text}"))),
                Effect::Start(life, _) => orders.push(Order::Start(life)),
            }
        }
        self.shared.order(orders);
    }

    /// Tells a component that there is something new.
    fn signal(&self, life: Life) {
        let member = lock(&self.members).get(&life.number).cloned();
        let signal = member.and_then(|member| lock(&member.signal).clone());
        if let Some(signal) = signal {
            // Nobody is there to hear it: then it does not matter.
            let _ = raise(**signal);
        }
    }

    /// A session of our own services.
    fn serve(&'static self, notice: Notice) -> Vec<Effect> {
        let (id, response) = match notice {
            Notice::Create(request) => {
                let id = request.id;
                let created =
                    self.client(id).and_then(|client| self.own.create(&request, self.home(&client)?, &client, self));
                match created.unwrap_or(Err(Response::Denied)) {
                    Ok(kept) => {
                        let cap = session::Cap(kept.cap().sel());
                        lock(&self.decided).kept.insert(id, Arc::new(kept));
                        (id, Response::Ready(cap))
                    }
                    Err(response) => (id, response),
                }
            }
            Notice::Upgrade(id, _) => (id, Response::Upgraded),
            Notice::Close(id) => {
                let kept = lock(&self.decided).kept.remove(&id);
                drop(kept);
                (id, Response::Closed)
            }
            _ => return Vec::new(),
        };
        self.decide(|turn| turn.served(id, response)).1
    }

    /// Where objects for a client live: its threads reach them without help.
    fn home(&self, client: &Member) -> Option<Entrypoint> {
        lock(&self.points).get(&client.cpu).copied()
    }

    /// Whose session that is.
    fn client(&self, id: SessionId) -> Option<Arc<Member>> {
        let decided = lock(&self.decided);
        let Some(Party::Child(child)) = decided.parent.session(id)?.client else { return None };
        let number = decided.parent.children().find(|(index, _)| *index == child)?.1.life;
        drop(decided);
        lock(&self.members).get(&number).cloned()
    }
}

/// The parent as one component has it on one CPU.
struct Desk {
    hub: &'static Hub,
    member: Arc<Member>,
    /// Keeps the capability of the last answer until there is another call: the answer is on its way.
    last: Option<Arc<Kept>>,
}

impl Desk {
    fn call(&mut self, call: Call) -> Result<(), wire::Refusal> {
        let life = self.member.life;
        self.hub.turn(|turn| turn.call(life, call)).map(drop).map_err(Into::into)
    }
}

impl Parent for Desk {
    fn announce(&mut self, name: Text<MAX_NAME>) -> Result<(), wire::Refusal> {
        self.call(Call::Announce(service(&name)?))
    }

    fn request(&mut self, request: wire::Request) -> Result<(), wire::Refusal> {
        self.call(Call::Request(request.try_into()?))
    }

    fn upgrade(&mut self, id: u64, more: wire::Amount) -> Result<(), wire::Refusal> {
        self.call(Call::Upgrade { id, more: quota(more)? })
    }

    fn close(&mut self, id: u64) -> Result<(), wire::Refusal> {
        self.call(Call::Close(id))
    }

    fn respond(&mut self, id: u64, response: Answer) -> Result<(), wire::Refusal> {
        // Kept before anybody learns of it.
        if let Answer::Ready(cap) = response {
            self.hub.hand_over(self.member.life, id, cap);
        }
        self.call(Call::Respond(id, response.into()))
    }

    fn next(&mut self) -> Option<Told> {
        let life = self.member.life;
        let notice = self.hub.turn(|turn| turn.call(life, Call::Next)).ok()??;
        self.last = match notice {
            Notice::Session(id, News::Ready(_)) => self.hub.kept_for(&self.member, id),
            _ => None,
        };
        Some(notice.into())
    }

    fn heed(&mut self, signal: Signal) {
        let held = Arc::new(Held::keep(signal));
        let old = lock(&self.member.signal).replace(held);
        drop(old);
        // What was new before there was a signal.
        self.hub.signal(self.member.life);
    }

    fn exit(&mut self, code: u64) {
        self.hub.shared.end_life(&self.member, End::Exit(code));
    }

    fn want(&mut self, more: wire::Amount) -> Result<(), wire::Refusal> {
        self.call(Call::Want(quota(more)?))
    }

    fn yielded(&mut self) -> Result<(), wire::Refusal> {
        self.call(Call::Yielded)
    }

    fn alive(&mut self) -> Result<(), wire::Refusal> {
        self.call(Call::Alive)
    }
}

impl Hub {
    /// A server hands a capability over: it is kept if it may, once, and as long as the session lasts.
    fn hand_over(&self, server: Life, id: SessionId, cap: Cap<AnyObject>) {
        let held = Arc::new(Kept::Handed(Held::keep(cap)));
        let mut decided = lock(&self.decided);
        let Decided { parent, kept, .. } = &mut *decided;
        let theirs =
            parent.session(id).is_some_and(|s| s.server == Some(Party::Child(server.child)) && s.cap.is_none());
        let alive = parent.children().any(|(child, c)| child == server.child && c.life == server.number);
        if theirs && alive {
            kept.entry(id).or_insert(held);
        }
    }

    fn kept_for(&self, client: &Member, name: SessionId) -> Option<Arc<Kept>> {
        let decided = lock(&self.decided);
        let number = decided.parent.number_of(Party::Child(client.life.child), name)?;
        decided.kept.get(&number).cloned()
    }
}
