//! The root task as a parent: what `session::Parent` decides, done.
//!
//! A component reaches its parent through an object of an entry point on each CPU where it has threads (`session::Desk`). What it
//! asks is decided under one lock, in bounded time; what follows is done after the lock is let go of. Signals are raised and
//! the root task's own services create and close sessions at once; starts, stops and lines of the log are the supervisor's.
//!
//! Children of components have other parents; of them the hub has the accounts only (`office`).
//!
//! Key types: [`Hub`], [`Member`], a life of a component. Neighbours: `own` has the services.

use crate::helpers::Helpers;
use crate::log::LOG_LABEL;
use crate::office::Brood;
use crate::own::{Kept, Own};
use crate::shared::{Order, Running, Shared};
use crate::timer::now;
use abi::{Sel, Status};
use core_task_logic::census;
use core_task_logic::ticks::Ticks;
use parent::SERVICE_LOG;
use policy::End;
use rpc::{Bytes, Cap, Interface, Signal, Text};
use rt::rpc::{Entrypoint, Held, Managed, raise};
use services::parent::{self as wire, AnyObject};
use services::{Children, Parent, ParentServer};
use session::{
    Account, AccountId, BookError, Books, Call, Desk, Effect, Keeper, Keeps, Life, Limits, News, Notice, Party, Quota,
    Refusal, Response, SessionId, Settings, Spec, State, Time, Turn,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stack of an entry point.
const STACK: usize = 64 << 10;
/// How long a server may take to close a session, and may owe a donation.
const PATIENCE: Time = 2_000_000_000;
/// Nothing is looked at more often, and nothing that was noticed late waits for longer.
const TICKS: (Time, Time) = (50_000_000, 1_000_000_000);

/// Whose child a component is.
pub enum Kin {
    /// The root task's.
    Own(Life),
    /// Another component's.
    Other {
        /// What service `trace` calls the component of which it is a child.
        of: u32,
        /// Its account.
        account: AccountId,
        /// What it has as its parent.
        parent: Held<Cap<dyn Parent>>,
    },
}

/// A life of a component.
pub struct Member {
    /// Which.
    pub kin: Kin,
    /// Its number: that in the system file, or a higher one.
    pub index: usize,
    /// CPU of its first thread, where the objects of its sessions with the root task live.
    pub cpu: u16,
    /// Requests that our own services have denied.
    denied: AtomicU32,
    /// Its children.
    pub brood: Brood,
    signal: Mutex<Option<Arc<Held<Signal>>>>,
    desks: Mutex<Vec<Managed<dyn Parent>>>,
    children: Mutex<Option<Managed<dyn Children>>>,
}

impl Member {
    /// One that has nothing yet.
    pub fn new(kin: Kin, index: usize, cpu: u16) -> Arc<Member> {
        let (denied, brood, signal, desks, children) = Default::default();
        Arc::new(Member { kin, index, cpu, denied, brood, signal, desks, children })
    }

    /// What service `trace` calls it.
    pub fn traced(&self) -> u32 {
        match self.kin {
            Kin::Own(life) => u32::try_from(life.child).unwrap_or(u32::MAX),
            Kin::Other { .. } => census::number(self.index),
        }
    }

    /// Keeps the object through which it has children.
    pub fn raise(&self, children: Managed<dyn Children>) {
        *lock(&self.children) = Some(children);
    }

    /// Its life is over: it reaches nobody through what it had here.
    pub fn part(&self) {
        let (desks, children) = (std::mem::take(&mut *lock(&self.desks)), lock(&self.children).take());
        let signal = lock(&self.signal).take();
        self.brood.forget();
        drop((desks, children, signal));
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kin {
            Kin::Own(life) => life.fmt(f),
            Kin::Other { account, .. } => account.fmt(f),
        }
    }
}

/// What is decided about, behind one lock.
struct Decided {
    books: Books,
    parent: session::Parent,
    /// What keeps the capabilities of sessions: made by the root task, or handed over by servers.
    kept: Keeps<Kept>,
    ticks: Ticks,
}

impl Decided {
    fn account(&self, member: &Member) -> Option<AccountId> {
        let life = match &member.kin {
            Kin::Own(life) => life,
            Kin::Other { account, .. } => return Some(*account),
        };
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
    /// Sessions that the root task has asked for.
    asked: AtomicU64,
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
        let decided = Decided { books, parent: session::Parent::new(settings), kept: Keeps::default(), ticks };
        Box::leak(Box::new(Hub {
            decided: Mutex::new(decided),
            members: Mutex::default(),
            points: Mutex::default(),
            own,
            shared,
            asked: AtomicU64::new(0),
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
        self.shared.component(index).filter(|c| matches!(c.member.kin, Kin::Own(own) if own.number == life))
    }

    /// The child of a component that service `trace` calls so, or the first behind it.
    pub fn offspring(&self, from: u32) -> Option<Arc<Running>> {
        self.shared.offspring(census::index(from))
    }

    /// The label of a component, if that life of it runs.
    pub fn label(&self, member: &Member) -> Option<String> {
        let running = self.shared.component(member.index).filter(|c| std::ptr::eq(&*c.member, member))?;
        Some(running.label.clone())
    }

    /// A server of logs has given up what that component had written and nobody has read.
    pub fn unread(&self, label: String, text: String) {
        self.shared.order(vec![Order::Unread(label, text)]);
    }

    /// How a child stands.
    pub fn state(&self, child: usize) -> Option<State> {
        let decided = lock(&self.decided);
        decided.parent.children().find(|(index, _)| *index == child).map(|(_, child)| child.state)
    }

    /// A life begins: its account, which is charged with what is mapped, and what its parent knows it by.
    pub fn open(&'static self, life: Life, index: usize, cpu: u16, mapped: Quota) -> Arc<Member> {
        let member = Member::new(Kin::Own(life), index, cpu);
        lock(&self.members).insert(life.number, Arc::clone(&member));
        // It was opened with more than that a moment ago.
        let _ = self.fix(&member, mapped);
        member
    }

    /// A life is over: nobody reaches its parent through it any more.
    pub fn close(&'static self, life: Life) {
        let member = lock(&self.members).remove(&life.number);
        if let Some(member) = member {
            member.part();
        }
        self.tidy();
    }

    /// The parent of that life as an object for its threads on `cpu`.
    pub fn desk(&'static self, member: &Arc<Member>, cpu: u16, helpers: &Helpers) -> Result<Sel, Status> {
        let life = match &member.kin {
            Kin::Own(life) => *life,
            // On whatever CPU that is: it is called by couriers from the others.
            Kin::Other { parent, .. } => return Ok(parent.sel()),
        };
        let desk = Desk::new(Clerk { hub: self, member: Arc::clone(member) }, life);
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
        // Those of others ask their own parents.
        let Kin::Own(life) = client.kin else { return };
        let Some(name) = self.name_of(life).filter(|_| count.is_power_of_two()) else { return };
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
    pub fn account(&self, life: &Member) -> Option<Account> {
        let decided = lock(&self.decided);
        decided.books.account(decided.account(life)?).ok().copied()
    }

    /// The books, for a life with that account; `None`: it is closed.
    pub fn books<R>(&self, life: &Member, f: impl FnOnce(&mut Books, AccountId) -> R) -> Option<R> {
        let mut decided = lock(&self.decided);
        let account = decided.account(life)?;
        decided.books.account(account).ok()?;
        Some(f(&mut decided.books, account))
    }

    /// The account of a life uses so much more, from its beginning to its end.
    pub fn fix(&self, life: &Member, quota: Quota) -> Result<(), BookError> {
        self.books(life, |books, account| books.fix(account, quota)).unwrap_or(Err(BookError::Unknown))
    }

    /// The account of a life uses so much more.
    pub fn spend(&self, life: &Member, quota: Quota) -> Result<(), BookError> {
        self.books(life, |books, account| books.spend(account, quota)).unwrap_or(Err(BookError::Unknown))
    }

    /// The account of a life uses so much less, if it is not closed.
    pub fn release(&self, life: &Member, quota: Quota) {
        let _ = self.books(life, |books, account| books.release(account, quota));
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
        let gone = kept.tidy(parent);
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
                Effect::News(id, news) => orders.extend(self.news(id, news)),
                // Nobody is above.
                Effect::Up(call) => effects.extend(self.decide(|turn| turn.refused(call, Refusal::Denied)).1),
                Effect::Stop(life, cause) => orders.push(Order::Stop(life, cause)),
                Effect::Log(name, text) => orders.push(Order::Line(format!("component `{name}`: {text}"))),
                Effect::Start(life, _) => orders.push(Order::Start(life)),
            }
        }
        self.shared.order(orders);
    }

    /// The root task itself wants a session with the first component that provides the log, in place of the one that it had.
    /// `false`: there is none, or never will be.
    pub fn ask_log(&'static self) -> bool {
        let before = self.asked.fetch_add(1, Ordering::Relaxed);
        let id = before + 1;
        // Mostly it is over.
        let _ = self.turn(|turn| turn.shut(before));
        let table = <dyn services::Log as Interface>::TABLE;
        let request = wire::Request {
            id,
            service: Text::new(SERVICE_LOG).unwrap_or_default(),
            label: Text::new(LOG_LABEL).unwrap_or_default(),
            built: table.built,
            args: Bytes::default(),
            donation: wire::Amount::of(table.cost),
        };
        session::Request::try_from(request).is_ok_and(|request| self.turn(|turn| turn.open(request)).is_ok())
    }

    /// News of that session; what comes of one before does not matter.
    fn news(&self, id: SessionId, news: News) -> Option<Order> {
        if id != self.asked.load(Ordering::Relaxed) {
            return None;
        }
        match news {
            News::Ready(_) => {
                let decided = lock(&self.decided);
                decided.kept.of(&decided.parent, Party::Own, id).map(Order::Log)
            }
            News::Ended(end) => Some(Order::NoLog(end)),
            News::Upgraded | News::NotUpgraded => None,
        }
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
                        lock(&self.decided).kept.keep(id, Arc::new(kept));
                        (id, Response::Ready(cap))
                    }
                    Err(response) => (id, response),
                }
            }
            Notice::Upgrade(id, _) => (id, Response::Upgraded),
            Notice::Close(id) => {
                let kept = lock(&self.decided).kept.remove(id);
                if let Some(kept) = kept {
                    kept.end();
                }
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

/// Decides for one component.
struct Clerk {
    hub: &'static Hub,
    member: Arc<Member>,
}

impl Keeper for Clerk {
    type Kept = Kept;

    fn call(&mut self, from: Life, call: Call) -> Result<Option<Notice>, Refusal> {
        self.hub.turn(|turn| turn.call(from, call))
    }

    fn hand_over(&mut self, server: Life, id: SessionId, cap: Cap<AnyObject>) {
        let held = Arc::new(Kept::Handed(Held::keep(cap)));
        let mut decided = lock(&self.hub.decided);
        let Decided { parent, kept, .. } = &mut *decided;
        kept.hand_over(parent, server, id, held);
    }

    fn kept(&mut self, client: Life, name: SessionId) -> Option<Arc<Kept>> {
        let decided = lock(&self.hub.decided);
        decided.kept.of(&decided.parent, Party::Child(client.child), name)
    }

    fn heed(&mut self, life: Life, signal: Signal) {
        let old = lock(&self.member.signal).replace(Arc::new(Held::keep(signal)));
        drop(old);
        // What was new before there was a signal.
        self.hub.signal(life);
    }

    fn exit(&mut self, _: Life, code: u64) {
        self.hub.shared.end_life(&self.member, End::Exit(code));
    }
}
