//! One parent with its books, told step by step what happens.

use session::*;

/// A millisecond.
pub const MS: Time = 1_000_000;
/// What the parent has.
pub const TOTAL: Quota = quota(1000, 1000);

pub const fn quota(pages: u64, caps: u64) -> Quota {
    match Quota::new(pages * 4096, caps) {
        Some(quota) => quota,
        None => Quota::NONE,
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect(text)
}

/// A child with 100 pages and capabilities, which may ask for as many more.
pub fn spec(text: &str, provides: &[&str], routes: &[(&str, Target)]) -> Spec {
    Spec {
        name: name(text),
        quota: quota(100, 100),
        most: quota(200, 200),
        provides: provides.iter().map(|service| name(service)).collect(),
        routes: Routes(routes.iter().map(|(service, target)| Rule::to(name(service), *target)).collect()),
        limits: Limits { sessions: 4, pending: 2 },
        heartbeat: None,
        restart: Restart { tries: 3, first: 10 * MS, longest: 30 * MS, calm: 1000 * MS, after_exit: false },
    }
}

pub struct House {
    pub parent: Parent,
    pub books: Books,
    pub own: AccountId,
    pub now: Time,
    pub log: Vec<String>,
    /// Effects that are neither lines nor signals nor starts.
    pub done: Vec<Effect>,
    lives: Vec<(Name, Life)>,
}

impl House {
    pub fn new(change: impl FnOnce(&mut Settings)) -> House {
        let (books, own) = Books::new(TOTAL);
        let mut settings = Settings {
            account: own,
            cost: quota(1, 1),
            patience: 100 * MS,
            own: vec![name("rom")],
            exports: Routes::default(),
            above: Limits { sessions: 10, pending: 10 },
        };
        change(&mut settings);
        let parent = Parent::new(settings);
        House { parent, books, own, now: 0, log: vec![], done: vec![], lives: vec![] }
    }

    /// A client `shell` and a server `console` of `log`; requests for `rom` are served by the parent, and for `net`
    /// above.
    pub fn usual() -> House {
        let mut house = House::new(|_| {});
        house.add(spec("console", &["log"], &[]));
        let routes = [("log", Target::Child(name("console"))), ("rom", Target::Own), ("net", Target::Parent)];
        house.add(spec("shell", &[], &routes));
        house
    }

    pub fn turn<R>(&mut self, f: impl FnOnce(&mut Turn<'_, Books>) -> R) -> R {
        let mut turn = self.parent.turn(self.now, &mut self.books);
        let result = f(&mut turn);
        for effect in turn.effects() {
            match effect {
                Effect::Start(life, _) => {
                    let (_, child) = self.parent.children().find(|(i, _)| *i == life.child).unwrap();
                    self.lives.retain(|(name, _)| *name != child.spec.name);
                    self.lives.push((child.spec.name, life));
                }
                Effect::Log(name, text) => self.log.push(format!("{name}: {text}")),
                Effect::Signal(_) => {}
                other => self.done.push(other),
            }
        }
        result
    }

    pub fn add(&mut self, spec: Spec) -> usize {
        self.turn(|turn| turn.add(spec)).expect("the name is new")
    }

    /// The latest life of a child.
    pub fn life(&self, text: &str) -> Life {
        self.lives.iter().find(|(n, _)| *n == name(text)).expect(text).1
    }

    pub fn call(&mut self, from: &str, call: Call) -> Result<Option<Notice>, Refusal> {
        let life = self.life(from);
        self.turn(|turn| turn.call(life, call))
    }

    pub fn request(&mut self, from: &str, id: SessionId, service: &str, donation: Quota) -> Result<(), Refusal> {
        self.call(from, Call::Request(request(id, service, donation))).map(drop)
    }

    /// What a child has not fetched.
    pub fn hears(&mut self, text: &str) -> Vec<Notice> {
        std::iter::from_fn(|| self.call(text, Call::Next).expect("it lives")).collect()
    }

    /// Fetches an order of the server and does as told.
    pub fn obey(&mut self, server: &str) -> SessionId {
        let (id, response) = match &self.hears(server)[..] {
            [Notice::Create(request)] => (request.id, Response::Ready(Cap(request.id))),
            [Notice::Upgrade(id, _)] => (*id, Response::Upgraded),
            [Notice::Close(id)] => (*id, Response::Closed),
            other => panic!("{other:?}"),
        };
        assert_eq!(self.call(server, Call::Respond(id, response)), Ok(None));
        id
    }

    /// A session of `shell` at `console`, used. Returns what the server calls it.
    pub fn open(&mut self, id: SessionId, donation: Quota) -> SessionId {
        self.call("console", Call::Announce(name("log"))).unwrap();
        self.request("shell", id, "log", donation).unwrap();
        let number = self.obey("console");
        assert_eq!(self.hears("shell"), [Notice::Session(id, News::Ready(Cap(number)))]);
        number
    }

    pub fn tick(&mut self, later: Time) {
        self.now += later;
        self.turn(|turn| turn.tick());
    }

    pub fn child(&self, text: &str) -> &Child {
        self.parent.child(&name(text)).expect(text).1
    }

    /// What a child may use.
    pub fn limit(&self, text: &str) -> Quota {
        self.books.account(self.child(text).account.expect("it runs")).unwrap().limit
    }

    pub fn spend(&mut self, text: &str, quota: Quota) {
        let account = self.child(text).account.expect("it runs");
        self.books.spend(account, quota).expect("it is free");
    }

    pub fn release(&mut self, text: &str, quota: Quota) {
        let account = self.child(text).account.expect("it runs");
        self.books.release(account, quota).expect("it is used");
    }

    pub fn phase(&self, number: SessionId) -> Option<Phase> {
        self.parent.sessions().find(|s| s.number == number).map(|s| s.phase)
    }

    /// Whether a line of the log has this in it.
    pub fn said(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }
}

pub fn request(id: SessionId, service: &str, donation: Quota) -> Request {
    let label = Label::new("x").unwrap();
    Request { id, service: name(service), label, args: Args::default(), donation }
}

pub fn ended(id: SessionId, end: End) -> Vec<Notice> {
    vec![Notice::Session(id, News::Ended(end))]
}
