//! The virtual kernel: components that live and die, signals that come late, calls, accounts; and what must hold after
//! each step.

use crate::scripts::{Deed, Script};
use crate::tree::{self, LIMITS, MS, Program, quota};
use rtlogic::Mixer;
use session::{
    Account, AccountId, Args, Bank, BookError, Books, Call, Cap, Cause, Closed, Effect, Label, Life, News, Notice,
    Parent, Party, Quota, Refusal, Request, Response, Shortage, Time,
};
use std::collections::{BTreeMap, BTreeSet};

/// Long enough for all that is to come back to be back: several patiences, delays and heartbeats.
pub const LONG: Time = 3000 * MS;

/// Whether a component of this name has sessions of its own.
fn is_client(text: &str) -> bool {
    text.starts_with("cli") || text.starts_with("liar")
}

/// Numbers that can be repeated.
#[derive(Debug, Clone)]
pub struct Rng(Mixer);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0.next()
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The books behind transfers that fail now and then, as calls to core may. What was just done can be undone.
struct Flaky<'a> {
    books: &'a mut Books,
    rng: &'a mut Rng,
    done: Option<(AccountId, AccountId)>,
    /// One of so many; 0: none.
    fails: u64,
}

impl Bank for Flaky<'_> {
    fn account(&self, account: AccountId) -> Result<Account, BookError> {
        Bank::account(self.books, account)
    }

    fn transfer(&mut self, from: AccountId, to: AccountId, quota: Quota) -> Result<(), BookError> {
        if self.fails > 0 && self.done != Some((to, from)) && self.rng.one_in(self.fails) {
            return Err(BookError::Short(Shortage::Ram));
        }
        self.done = Some((from, to));
        self.books.transfer(from, to, quota)
    }

    fn open(&mut self, reference: AccountId, quota: Quota) -> Result<AccountId, BookError> {
        self.books.open(reference, quota)
    }

    fn close(&mut self, account: AccountId) -> Result<Closed, BookError> {
        self.books.close(account)
    }

    fn grant(&mut self, to: AccountId, quota: Quota) -> Result<(), BookError> {
        self.books.grant(to, quota)
    }

    fn reclaim(&mut self, from: AccountId, quota: Quota) -> Result<(), BookError> {
        self.books.reclaim(from, quota)
    }
}

enum Mind {
    Parent(Box<Parent>),
    Script(Script),
}

/// A component that lives.
struct Node {
    name: String,
    /// Node of its parent, and what that calls it.
    parent: Option<(usize, Life)>,
    account: AccountId,
    mind: Mind,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A signal arrives.
    Wake(usize),
    /// A component does something, a parent looks at the clock.
    Act(usize),
    /// One of core's own services answers.
    Own(u64, bool),
}

/// What has happened in a run, so that a test can tell that it tested something.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub events: BTreeMap<String, u64>,
}

impl Seen {
    fn note(&mut self, what: impl Into<String>) {
        *self.events.entry(what.into()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Seen) {
        for (what, times) in &other.events {
            *self.events.entry(what.clone()).or_default() += times;
        }
    }

    /// A simulation in which nothing happens proves nothing: each of these did, in all runs together.
    pub fn check(&self) {
        for what in [
            "Close",
            "Create",
            "Denied",
            "Ended(Closed",
            "Ended(Denied",
            "Ended(Gone",
            "Ended(Short(Caps",
            "Ended(Short(Ram",
            "Granted",
            "Heartbeat",
            "NotProvided",
            "NotUpgraded",
            "Phase",
            "Ready(Cap",
            "Short",
            "TooMany",
            "Twice",
            "Unknown",
            "Upgrade",
            "Upgraded",
            "Yield",
            "keeps",
            "own Ended",
            "own Ready",
            "runs",
            "refused above",
            "stalls",
            "start",
            "stop Asked",
            "stop Exit",
            "stop Fault",
            "stop Heartbeat",
            "stop Owes",
        ] {
            assert!(self.events.contains_key(what), "no `{what}` in {:#?}", self.events);
        }
    }
}

pub struct World {
    rng: Rng,
    now: Time,
    total: Quota,
    books: Books,
    nodes: BTreeMap<usize, Node>,
    next_node: usize,
    next_tag: u64,
    queue: BTreeSet<(Time, u64, Happening)>,
    next_event: u64,
    peaceful: bool,
    clients_left: bool,
    fails: u64,
    /// The session that root itself asked for last, until it hears of its end.
    own: Option<u64>,
    pub seen: Seen,
    pub trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> World {
        World::made(seed, false)
    }

    /// Without liars and failing transfers.
    pub fn peaceful(seed: u64) -> World {
        World::made(seed, true)
    }

    fn made(seed: u64, peaceful: bool) -> World {
        let total = quota(3000, 3000);
        let (books, account) = Books::new(total);
        let mut world = World {
            rng: Rng(Mixer::new(seed)),
            now: 0,
            total,
            books,
            nodes: BTreeMap::new(),
            next_node: 0,
            next_tag: 0,
            queue: BTreeSet::new(),
            next_event: 0,
            peaceful,
            clients_left: false,
            fails: if peaceful { 0 } else { 40 },
            own: None,
            seen: Seen::default(),
            trace: Vec::new(),
        };
        world.create("root", None, account);
        world
    }

    fn create(&mut self, text: &str, parent: Option<(usize, Life)>, account: AccountId) {
        let id = self.next_node;
        self.next_node += 1;
        let mind = match if text == "root" { Program::Parent } else { tree::program(text) } {
            Program::Parent => Mind::Parent(Box::new(Parent::new(tree::settings(text, account)))),
            Program::Script(script) => Mind::Script(script),
        };
        self.nodes.insert(id, Node { name: text.into(), parent, account, mind });
        self.later(10, Happening::Act(id));
        if matches!(self.nodes[&id].mind, Mind::Parent(_)) {
            let left = |spec: &session::Spec| self.clients_left && is_client(spec.name.as_str());
            for spec in tree::children(text, self.peaceful).into_iter().filter(|spec| !left(spec)).collect::<Vec<_>>() {
                self.turn(id, |turn| turn.add(spec));
            }
        }
    }

    fn later(&mut self, most_ms: u64, what: Happening) {
        let at = self.now + 1 + self.rng.below(most_ms * MS);
        self.next_event += 1;
        self.queue.insert((at, self.next_event, what));
    }

    /// Has a parent do something, and does what follows.
    fn turn<R>(&mut self, id: usize, f: impl FnOnce(&mut session::Turn<'_, dyn Bank + '_>) -> R) -> Option<R> {
        let Some(Node { mind: Mind::Parent(parent), .. }) = self.nodes.get_mut(&id) else { return None };
        let mut bank = Flaky { books: &mut self.books, rng: &mut self.rng, done: None, fails: self.fails };
        let bank: &mut dyn Bank = &mut bank;
        let mut turn = parent.turn(self.now, bank);
        let result = f(&mut turn);
        for effect in turn.effects() {
            self.apply(id, effect);
        }
        Some(result)
    }

    fn apply(&mut self, id: usize, effect: Effect) {
        assert!(self.nodes.contains_key(&id), "a dead parent has effects");
        match effect {
            Effect::Start(life, account) => {
                let text = self.child_name(id, life.child).expect("it has a name");
                self.seen.note("start");
                self.create(&text, Some((id, life)), account);
            }
            Effect::Stop(life, cause) => {
                self.seen.note(format!("stop {cause:?}").split('(').next().unwrap());
                let child = self.node_of(id, life).expect("only what lives is stopped");
                self.bury(child);
            }
            Effect::Signal(life) => {
                let child = self.node_of(id, life).expect("only what lives is signalled");
                self.later(20, Happening::Wake(child));
            }
            Effect::Serve(notice) => self.serve(id, notice),
            Effect::News(number, news) => {
                assert_eq!((id, Some(number)), (0, self.own), "only root has asked for a session, and for this one");
                self.seen.note(format!("own {news:?}").split('(').next().unwrap());
                if let News::Ended(_) = news {
                    self.own = None;
                }
            }
            Effect::Up(call) => {
                if let Err(refusal) = self.call(id, call.clone()) {
                    self.seen.note("refused above");
                    self.turn(id, |turn| turn.refused(call, refusal));
                }
            }
            Effect::Log(label, text) => {
                self.seen.note(text.split([' ', ':', ',']).next().unwrap());
                self.trace.push(format!("{label}: {text}"));
            }
        }
    }

    /// Services of a parent's own: core's `own`. Others deny it, as nobody routes to them.
    fn serve(&mut self, id: usize, notice: Notice) {
        assert_eq!(id, 0, "only core has services of its own here");
        match notice {
            Notice::Create(request) => self.later(5, Happening::Own(request.id, false)),
            Notice::Close(id) => self.later(5, Happening::Own(id, true)),
            Notice::Upgrade(number, _) => {
                let done = self.turn(0, |turn| turn.served(number, Response::Upgraded));
                assert_eq!(done, Some(Ok(())));
            }
            other => panic!("{other:?} for core's own service"),
        }
    }

    fn child_name(&self, id: usize, index: usize) -> Option<String> {
        let Mind::Parent(parent) = &self.nodes.get(&id)?.mind else { return None };
        parent.children().find(|(i, _)| *i == index).map(|(_, child)| child.spec.name.as_str().to_string())
    }

    fn node_of(&self, parent: usize, life: Life) -> Option<usize> {
        self.nodes.iter().find(|(_, node)| node.parent == Some((parent, life))).map(|(&id, _)| id)
    }

    /// A component is no more, nor what is below it.
    fn bury(&mut self, id: usize) {
        self.nodes.remove(&id);
        let below: Vec<usize> =
            self.nodes.iter().filter(|(_, n)| n.parent.is_some_and(|(p, _)| p == id)).map(|(&i, _)| i).collect();
        below.into_iter().for_each(|child| self.bury(child));
    }

    /// A component calls its parent.
    fn call(&mut self, id: usize, call: Call) -> Result<Option<Notice>, Refusal> {
        let Some((parent, life)) = self.nodes.get(&id).ok_or(Refusal::Dead)?.parent else {
            return Err(Refusal::Denied);
        };
        self.trace.push(format!("{} {} {call:?}", self.now, self.nodes[&id].name));
        let result = self.turn(parent, |turn| turn.call(life, call)).expect("a parent outlives its children");
        if let Err(refusal) = result {
            self.seen.note(format!("{refusal:?}").split('(').next().unwrap());
        }
        result
    }

    fn wake(&mut self, id: usize) {
        while let Ok(Some(notice)) = self.call(id, Call::Next) {
            self.seen.note(format!("{notice:?}").split([' ', '(', ',']).next().unwrap());
            if let Notice::Session(_, news) = &notice {
                self.seen.note(format!("{news:?}").trim_end_matches(|c: char| !c.is_alphabetic()));
            }
            match self.nodes.get_mut(&id).map(|node| &mut node.mind) {
                Some(Mind::Script(script)) => {
                    let deeds = script.hear(&mut self.rng, notice);
                    self.perform(id, deeds);
                }
                Some(Mind::Parent(_)) => drop(self.turn(id, |turn| turn.notice(notice))),
                None => return,
            }
        }
    }

    fn act(&mut self, id: usize) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let provides = node.parent.map_or(vec![], |(parent, life)| self.provides(parent, life.child));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match &mut node.mind {
            Mind::Parent(_) => {
                self.turn(id, |turn| turn.tick());
                if id == 0 {
                    self.ask();
                }
            }
            Mind::Script(script) => {
                self.next_tag += 1;
                let deeds = script.act(&mut self.rng, &provides, self.next_tag);
                self.perform(id, deeds);
            }
        }
        self.later(20, Happening::Act(id));
    }

    /// Root asks for a session itself, of one of its children, or shuts the one that it has.
    fn ask(&mut self) {
        if let Some(number) = self.own {
            if self.clients_left || self.rng.one_in(20) {
                // It may be closing already.
                let _ = self.turn(0, |turn| turn.shut(number));
            }
            return;
        }
        if self.clients_left {
            return;
        }
        self.next_tag += 1;
        let number = self.next_tag;
        let service = tree::name(tree::SERVICES[self.rng.below(tree::SERVICES.len() as u64) as usize]);
        let donation = quota(self.rng.below(5), self.rng.below(5));
        let label = Label::new("tag 0").expect("a label");
        let request = Request { id: number, service, label, args: Args::default(), donation };
        self.own = Some(number);
        if self.turn(0, |turn| turn.open(request)) != Some(Ok(())) {
            self.own = None;
        }
    }

    fn provides(&self, parent: usize, index: usize) -> Vec<session::Name> {
        let Mind::Parent(parent) = &self.nodes[&parent].mind else { return vec![] };
        parent.children().find(|(i, _)| *i == index).map_or(vec![], |(_, child)| child.spec.provides.clone())
    }

    fn perform(&mut self, id: usize, deeds: Vec<Deed>) {
        for deed in deeds {
            let Some(account) = self.nodes.get(&id).map(|node| node.account) else { return };
            match deed {
                Deed::Call(call) => {
                    let result = self.call(id, call.clone());
                    if let (Err(refusal), Some(script)) = (result, self.script(id)) {
                        script.refused(&call, refusal);
                    }
                }
                Deed::Spend(amount) => {
                    let made = self.books.spend(account, amount).is_ok();
                    let want = self.script(id).and_then(|script| script.spent(amount, made));
                    if let Some(call) = want {
                        let _ = self.call(id, call);
                    }
                }
                Deed::Release(amount) => {
                    let used = self.books.account(account).expect("it lives").used;
                    self.books.release(account, amount.least(used)).expect("it is used");
                }
            }
        }
    }

    fn script(&mut self, id: usize) -> Option<&mut Script> {
        match &mut self.nodes.get_mut(&id)?.mind {
            Mind::Script(script) => Some(script),
            Mind::Parent(_) => None,
        }
    }

    fn step(&mut self) {
        let (at, _, what) = self.queue.pop_first().expect("root always acts");
        self.now = at;
        self.trace.push(format!("{at} {what:?}"));
        match what {
            Happening::Wake(id) => self.wake(id),
            Happening::Act(id) => self.act(id),
            Happening::Own(number, close) => {
                let response = if close { Response::Closed } else { Response::Ready(Cap(number)) };
                let _ = self.turn(0, |turn| turn.served(number, response));
            }
        }
        self.check();
    }

    /// So many steps, with or without kills and changes of the configuration.
    pub fn run(&mut self, steps: u64, storms: bool) {
        for _ in 0..steps {
            self.step();
            if storms && self.rng.one_in(25) {
                self.kill_one();
            }
            if storms && self.rng.one_in(40) {
                self.reconfigure();
            }
        }
    }

    /// So much time.
    pub fn run_for(&mut self, time: Time, storms: bool) {
        let end = self.now + time;
        while self.queue.first().is_some_and(|(at, ..)| *at < end) {
            self.run(1, storms);
        }
    }

    fn kill_one(&mut self) {
        let victims: Vec<usize> = self.nodes.keys().copied().filter(|&id| id != 0).collect();
        if victims.is_empty() {
            return;
        }
        let victim = victims[self.rng.below(victims.len() as u64) as usize];
        self.kill(victim, Cause::Fault);
    }

    fn kill(&mut self, victim: usize, cause: Cause) {
        let (parent, life) = self.nodes[&victim].parent.expect("root is not killed");
        self.trace.push(format!("{} kill {}", self.now, self.nodes[&victim].name));
        self.turn(parent, |turn| turn.died(life, cause));
        assert!(!self.nodes.contains_key(&victim), "it is dead");
        self.check();
    }

    pub fn kill_named(&mut self, text: &str, cause: Cause) {
        let id = self.nodes.iter().find(|(_, node)| node.name == text).map(|(&id, _)| id).expect(text);
        self.kill(id, cause);
    }

    /// Goes on until a component runs again, which must not take long.
    pub fn run_until_runs(&mut self, text: &str) {
        let end = self.now + LONG;
        while !self.nodes.values().any(|node| node.name == text) {
            assert!(self.now < end, "{text} is started again");
            self.run(1, false);
        }
    }

    /// A manager changes something.
    fn reconfigure(&mut self) {
        let parents: Vec<usize> =
            self.nodes.iter().filter(|(_, n)| matches!(n.mind, Mind::Parent(_))).map(|(&id, _)| id).collect();
        let id = parents[self.rng.below(parents.len() as u64) as usize];
        let Mind::Parent(parent) = &self.nodes[&id].mind else { return };
        let children: Vec<usize> = parent.children().map(|(index, _)| index).collect();
        let index = children[self.rng.below(children.len() as u64) as usize];
        let spec = parent.children().find(|(i, _)| *i == index).unwrap().1.spec.clone();
        let size = quota(1 + self.rng.below(150), 1 + self.rng.below(150));
        let (what, turned) = (self.rng.below(5), self.rng.one_in(2));
        self.turn(id, |turn| match what {
            0 => turn.restart(index),
            1 if spec.name.as_str().starts_with("init") => {}
            1 => turn.set_quota(index, size),
            2 => {
                let mut routes = spec.routes;
                if turned {
                    routes.0.reverse();
                }
                turn.reroute(index, routes);
            }
            3 => turn.replace(index, spec),
            _ => {
                turn.remove(index);
                assert!(turn.add(spec).is_some());
            }
        });
        self.check();
    }

    /// Clients ask for nothing any more.
    pub fn quiet(&mut self) {
        for node in self.nodes.values_mut() {
            if let Mind::Script(script) = &mut node.mind {
                script.quiet = true;
            }
        }
    }

    /// Pure clients, and liars that are clients only, are removed by their parents.
    pub fn clients_leave(&mut self) {
        self.fails = 0;
        self.clients_left = true;
        self.leave(is_client);
    }

    fn leave(&mut self, who: impl Fn(&str) -> bool) {
        let ids: Vec<usize> = self.nodes.keys().copied().collect();
        for id in ids {
            let Some(Node { mind: Mind::Parent(parent), .. }) = self.nodes.get(&id) else { continue };
            let gone = |(i, child): (usize, &session::Child)| who(child.spec.name.as_str()).then_some(i);
            let gone: Vec<usize> = parent.children().filter_map(gone).collect();
            for index in gone {
                self.turn(id, |turn| turn.remove(index));
                self.check();
            }
        }
    }

    /// Without clients no session is left, also where a server kept what it was donated.
    pub fn check_all_returned(&self) {
        for node in self.nodes.values() {
            if let Mind::Parent(parent) = &node.mind {
                assert_eq!(parent.sessions().collect::<Vec<_>>(), [], "{}", node.name);
            }
        }
        for node in self.nodes.values() {
            if let Mind::Script(script) = &node.mind {
                assert!(script.served.is_empty() || !script.honest(), "{} serves nobody", node.name);
            }
        }
    }

    /// Of all requests something has come.
    pub fn check_answered(&self) {
        for node in self.nodes.values() {
            if let Mind::Script(script) = &node.mind {
                assert_eq!(script.unanswered(), 0, "{}", node.name);
            }
        }
    }

    /// All components are removed: all is root's again.
    pub fn all_leave(&mut self) {
        self.fails = 0;
        self.leave(|_| true);
        assert_eq!(self.nodes.len(), 1);
        assert_eq!(self.books_now(), (1, self.total));
        let root = self.nodes[&0].account;
        assert_eq!(self.books.account(root).unwrap().limit, self.total);
        // What core's own services have still to close.
        self.run_for(LONG, false);
        let Mind::Parent(parent) = &self.nodes[&0].mind else { panic!("root is a parent") };
        assert_eq!(parent.sessions().collect::<Vec<_>>(), []);
    }

    /// Number of accounts, and what all of them may use.
    pub fn books_now(&self) -> (usize, Quota) {
        let sum = self.books.accounts().fold(Quota::NONE, |sum, (_, account)| sum.plus(account.limit).unwrap());
        (self.books.accounts().count(), sum)
    }

    /// What must hold at any time.
    fn check(&self) {
        let (accounts, sum) = self.books_now();
        assert_eq!(sum, self.total, "the books add up");
        assert_eq!(accounts, self.nodes.len(), "each account has a component, and each component one account");
        self.books.accounts().for_each(|(_, account)| assert_eq!(account.limit.lacks(account.used), None));
        for (&id, node) in &self.nodes {
            assert!(self.books.account(node.account).is_ok(), "{}", node.name);
            if let Mind::Parent(parent) = &node.mind {
                self.check_parent(id, parent);
            }
        }
        let mut tags = BTreeSet::new();
        for node in self.nodes.values() {
            let Mind::Script(script) = &node.mind else { continue };
            for served in script.served.values().filter(|_| script.honest()) {
                let tag = served.label.rsplit(" -> ").next().unwrap();
                assert!(tag == "tag 0" || tags.insert(tag), "{} is at two servers", served.label);
            }
        }
    }

    fn check_parent(&self, id: usize, parent: &Parent) {
        let sessions: Vec<_> = parent.sessions().collect();
        let sum = |amounts: &mut dyn Iterator<Item = Quota>| amounts.fold(Quota::NONE, |a, b| a.plus(b).unwrap());
        for (index, child) in parent.children() {
            let party = Some(Party::Child(index));
            let mine = || sessions.iter().filter(|s| s.client == party);
            assert!(mine().count() <= LIMITS.sessions);
            assert!(mine().filter(|s| s.phase.pending()).count() <= LIMITS.pending);
            let node = self.node_of(id, Life { child: index, number: child.life });
            assert_eq!(child.runs(), node.is_some(), "{}", child.spec.name);
            let Some(node) = node else {
                assert!(mine().next().is_none(), "sessions of the dead have no client");
                continue;
            };
            let account = self.nodes[&node].account;
            assert_eq!(child.account, Some(account));
            // All that is below the child: what it was granted, and what it was donated, less what it donated.
            let below = self.limit_below(account);
            let granted = self.books.account(account).unwrap().granted;
            let got = sum(&mut sessions.iter().filter(|s| s.server == party).map(|s| s.at_server));
            let gave = sum(&mut mine().map(|s| s.donation));
            assert_eq!(below.plus(gave), granted.plus(got), "{} at {}", child.spec.name, self.nodes[&id].name);
        }
    }

    fn limit_below(&self, top: AccountId) -> Quota {
        let mut below = BTreeSet::from([top]);
        let mut sum = Quota::NONE;
        for (id, account) in self.books.accounts() {
            if id == top || account.reference.is_some_and(|r| below.contains(&r)) {
                below.insert(id);
                sum = sum.plus(account.limit).unwrap();
            }
        }
        sum
    }
}
