//! A parent: its children, its sessions, its account, and how it is told of what happens.
//!
//! Key types: [`Parent`], [`Turn`], [`Effect`]. What a turn does about sessions is in `requests` and
//! `settle`, about starts and ends in `lives`, about quota that is asked for in `grants`.

use crate::Time;
use crate::bank::Bank;
use crate::books::{AccountId, Peak};
use crate::measure::Measure;
use crate::protocol::{Call, Cap, News, Notice, Refusal, Request, Response, SessionId};
use crate::quota::Quota;
use crate::session::{Party, Phase, Session};
use crate::spec::{Settings, Spec};
use parent::Name;
use std::collections::BTreeMap;

/// A life of a child. What comes late from one that has ended is told from what its successor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// The child, by the number that it was added under.
    pub child: usize,
    /// Which life: never the same for two lives at one parent.
    pub number: u64,
}

/// Why a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It said so.
    Exit(u64),
    /// It was stopped because of an exception.
    Fault,
    /// It did not answer heartbeats.
    Heartbeat,
    /// It kept what others had donated, beyond the parent's patience.
    Owes,
    /// It could not be started, or not by who does that.
    NotStarted,
    /// Its parent wanted it: another configuration, another version.
    Asked,
}

/// Whether a child runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// It is to be started then, or when there is quota for it.
    Due(Time),
    /// It stays down.
    Ended(Cause),
}

/// What a parent does to the world, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start a child, on this account.
    Start(Life, AccountId),
    /// The child's account is closed: nothing of it may be left.
    Stop(Life, Cause),
    /// There is something to fetch for it with [`Call::Next`].
    Signal(Life),
    /// Something for the parent's own services.
    Serve(Notice),
    /// News of a session that the parent itself has asked for, by [`Turn::open`].
    News(SessionId, News),
    /// A call to the parent's parent, to be made before the parent is told anything else. If that refuses it,
    /// [`Turn::refused`].
    Up(Call),
    /// A line of the log, and the child that it is about.
    Log(Name, String),
}

/// A child as it stands.
#[derive(Debug)]
pub struct Child {
    /// As it was told.
    pub spec: Spec,
    /// Whether it runs.
    pub state: State,
    /// Its latest life.
    pub life: u64,
    /// Its account, while it runs.
    pub account: Option<AccountId>,
    /// What it can serve now.
    pub announced: Vec<Name>,
    /// The largest figures of its past lives.
    pub peak: Peak,
    /// Failures since its last calm life.
    pub failures: u32,
    /// What it did wrong in this life.
    pub complaints: u64,
    /// What it asked for and has not got.
    pub want: Option<Quota>,
    /// What it is to give back.
    pub yields: Quota,
    /// What of that a sibling waits for: it was granted beyond what it starts with.
    pub lent: Quota,
    /// Whether the log has it that the child waits for quota.
    pub(crate) said: bool,
    /// Whether the log has it that the child runs low.
    pub(crate) warned: bool,
    pub(crate) started_at: Time,
    pub(crate) beat_at: Time,
    pub(crate) unanswered: u32,
    pub(crate) tell_beat: bool,
    pub(crate) tell_granted: bool,
    pub(crate) tell_yield: bool,
}

impl Child {
    pub(crate) fn new(spec: Spec, state: State) -> Child {
        Child {
            spec,
            state,
            life: 0,
            account: None,
            announced: Vec::new(),
            peak: Peak::default(),
            failures: 0,
            complaints: 0,
            want: None,
            yields: Quota::NONE,
            lent: Quota::NONE,
            said: false,
            warned: false,
            started_at: 0,
            beat_at: 0,
            unanswered: 0,
            tell_beat: false,
            tell_granted: false,
            tell_yield: false,
        }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.state == State::Running
    }
}

/// A session as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// What the parent calls it, and the server, too.
    pub number: SessionId,
    /// Who has it; `None` when the client has died.
    pub client: Option<Party>,
    /// Who serves it, if that is known.
    pub server: Option<Party>,
    /// Where it stands.
    pub phase: Phase,
    /// What the client has donated and not got back.
    pub donation: Quota,
    /// How much of that the server has.
    pub at_server: Quota,
    /// What the server has handed over.
    pub cap: Option<Cap>,
}

fn view(number: SessionId, s: &Session) -> SessionView {
    SessionView {
        number,
        client: s.client,
        server: s.server,
        phase: s.phase,
        donation: s.asked.donation,
        at_server: s.at_server,
        cap: s.cap,
    }
}

/// A parent.
#[derive(Debug)]
pub struct Parent {
    pub(crate) settings: Settings,
    pub(crate) children: BTreeMap<usize, Child>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) measures: BTreeMap<Name, Measure>,
    /// Numbers of children, lives and sessions are never used again.
    numbers: u64,
}

impl Parent {
    /// A parent without children.
    pub fn new(settings: Settings) -> Parent {
        let (children, sessions, measures) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Parent { settings, children, sessions, measures, numbers: 0 }
    }

    /// Something has happened, at this time.
    pub fn turn<'a, B: Bank + ?Sized>(&'a mut self, now: Time, bank: &'a mut B) -> Turn<'a, B> {
        Turn { parent: self, bank, now, effects: Vec::new() }
    }

    /// The children, in the order in which they were added.
    pub fn children(&self) -> impl Iterator<Item = (usize, &Child)> {
        self.children.iter().map(|(&index, child)| (index, child))
    }

    /// The child of a name.
    pub fn child(&self, name: &Name) -> Option<(usize, &Child)> {
        self.children().find(|(_, child)| child.spec.name == *name)
    }

    /// All sessions that it keeps.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> {
        self.sessions.iter().map(|(&number, session)| view(number, session))
    }

    /// The session of a number.
    pub fn session(&self, number: SessionId) -> Option<SessionView> {
        self.sessions.get(&number).map(|session| view(number, session))
    }

    /// What the server of a session was asked for, or will be.
    pub fn request_of(&self, number: SessionId) -> Option<&Request> {
        self.sessions.get(&number).map(|session| &session.there)
    }

    /// The number of what a client calls so.
    pub fn number_of(&self, client: Party, name: SessionId) -> Option<SessionId> {
        self.sessions.iter().find(|(_, s)| s.client == Some(client) && s.name == name).map(|(&number, _)| number)
    }

    /// When [`Turn::tick`] has something to do next, or has had: heartbeats, starts, sessions that are not over in time.
    /// `None`: not before something happens.
    pub fn next_tick(&self) -> Option<Time> {
        let of_child = |child: &Child| match child.state {
            State::Running => child.spec.heartbeat.map(|_| child.beat_at),
            State::Due(at) => Some(at),
            State::Ended(_) => None,
        };
        let of_session = |s: &Session| match s.phase {
            Phase::CloseRequested => Some(s.since.saturating_add(self.settings.patience)),
            Phase::Settling(_) => Some(s.since),
            _ => None,
        };
        let sessions = self.sessions.values().filter_map(of_session);
        self.children.values().filter_map(of_child).chain(sessions).min()
    }

    /// What sessions of each service needed.
    pub fn measures(&self) -> &BTreeMap<Name, Measure> {
        &self.measures
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// What a parent does about one thing that happened. All methods may be called in any order; nothing that a child or a
/// server says is trusted.
pub struct Turn<'a, B: Bank + ?Sized> {
    pub(crate) parent: &'a mut Parent,
    pub(crate) bank: &'a mut B,
    pub(crate) now: Time,
    effects: Vec<Effect>,
}

impl<B: Bank + ?Sized> Turn<'_, B> {
    /// What is to be done.
    pub fn effects(self) -> Vec<Effect> {
        self.effects
    }

    /// A child calls. The answer is for the child; only [`Call::Next`] has a notice in it, if there is one.
    pub fn call(&mut self, from: Life, call: Call) -> Result<Option<Notice>, Refusal> {
        if !self.lives(from) {
            return Err(Refusal::Dead);
        }
        let (child, client) = (from.child, Party::Child(from.child));
        let result = match call {
            Call::Next => return Ok(self.next(child)),
            Call::Announce(service) => self.announce(child, service),
            Call::Request(request) => self.request(client, request),
            Call::Upgrade { id, more } => self.upgrade(client, id, more),
            Call::Close(id) => self.close(client, id),
            Call::Respond(id, response) => self.respond(client, id, response),
            Call::Want(quota) => self.want(child, quota),
            Call::Yielded => self.yielded(child),
            Call::Alive => self.alive(child),
            Call::Exit(code) => self.end(child, Cause::Exit(code)),
        };
        if let Err(refusal) = result {
            self.complain(child, format!("refused: {refusal}"));
        }
        result.map(|()| None)
    }

    /// The kernel, or core, has stopped a child.
    pub fn died(&mut self, life: Life, cause: Cause) {
        if self.lives(life) {
            let _ = self.end(life.child, cause);
        }
    }

    /// A service of its own has done something about a session.
    pub fn served(&mut self, id: SessionId, response: Response) -> Result<(), Refusal> {
        self.respond(Party::Own, id, response)
    }

    /// The parent itself wants a session, of the first child that provides the service, and pays for it. It ends in
    /// [`Effect::News`], if it is not refused at once; the label arrives as it is.
    pub fn open(&mut self, request: Request) -> Result<(), Refusal> {
        self.request(Party::Own, request)
    }

    /// It does not want a session of its own any more.
    pub fn shut(&mut self, id: SessionId) -> Result<(), Refusal> {
        self.close(Party::Own, id)
    }

    /// A notice that it fetched from its parent.
    pub fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Session(id, news) => {
                // The session may have ended here meanwhile.
                let _ = self.respond(Party::Above, id, news.into());
            }
            Notice::Create(request) => {
                let id = request.id;
                if let Err(refusal) = self.request(Party::Above, request) {
                    let response = match refusal {
                        Refusal::Short(shortage) => Response::Short(shortage),
                        _ => Response::Denied,
                    };
                    self.up(Call::Respond(id, response));
                }
            }
            Notice::Upgrade(id, donation) => self.upgrade_to(id, donation),
            Notice::Close(id) => {
                if self.close(Party::Above, id) == Err(Refusal::Unknown) {
                    self.up(Call::Respond(id, Response::Closed));
                }
            }
            Notice::Granted => self.tick(),
            Notice::Yield(_) => self.up(Call::Yielded),
            Notice::Heartbeat => self.up(Call::Alive),
        }
    }

    /// Its parent has refused a call that was an effect.
    pub fn refused(&mut self, call: Call, refusal: Refusal) {
        let _ = match (call, refusal) {
            (Call::Request(request), Refusal::Short(shortage)) => {
                self.respond(Party::Above, request.id, Response::Short(shortage))
            }
            (Call::Request(request), _) => self.respond(Party::Above, request.id, Response::Denied),
            (Call::Close(id), _) => self.respond(Party::Above, id, Response::Closed),
            (Call::Upgrade { id, .. }, _) => self.respond(Party::Above, id, Response::NotUpgraded),
            _ => Ok(()),
        };
    }

    /// Time has passed. To be called every now and then, and when quota has come from elsewhere.
    pub fn tick(&mut self) {
        self.beat();
        self.force_closes();
        self.settle_all();
        self.stop_debtors();
        self.start_due();
        self.find_servers();
        self.grant_all();
        self.warn_all();
    }

    /// The next thing that a child is to be told.
    fn next(&mut self, index: usize) -> Option<Notice> {
        let child = self.parent.children.get_mut(&index)?;
        if std::mem::take(&mut child.tell_beat) {
            return Some(Notice::Heartbeat);
        }
        if std::mem::take(&mut child.tell_granted) {
            return Some(Notice::Granted);
        }
        if std::mem::take(&mut child.tell_yield) {
            return Some(Notice::Yield(child.yields));
        }
        self.next_of_sessions(Party::Child(index))
    }

    fn lives(&self, life: Life) -> bool {
        self.parent.children.get(&life.child).is_some_and(|child| child.runs() && child.life == life.number)
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn up(&mut self, call: Call) {
        self.push(Effect::Up(call));
    }

    /// Signals a child, if it runs, once a turn.
    pub(crate) fn signal(&mut self, child: usize) {
        if let Some(number) = self.parent.children.get(&child).filter(|child| child.runs()).map(|child| child.life) {
            let signal = Effect::Signal(Life { child, number });
            if !self.effects.contains(&signal) {
                self.push(signal);
            }
        }
    }

    pub(crate) fn log(&mut self, child: usize, text: String) {
        if let Some(name) = self.parent.children.get(&child).map(|child| child.spec.name) {
            self.push(Effect::Log(name, text));
        }
    }

    /// A line about what a child does wrong: for the first time, the second, the fourth, and so on, so that who does it
    /// without end does not fill the log.
    pub(crate) fn complain(&mut self, index: usize, text: String) {
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        child.complaints = child.complaints.saturating_add(1);
        if child.complaints.is_power_of_two() {
            let text = format!("{text} (complaint {} of this life)", child.complaints);
            self.log(index, text);
        }
    }

    /// What is free on its account and not there for a session: what it can give.
    pub(crate) fn spare(&self) -> Quota {
        let held = |s: &Session| s.asked.donation.without(s.at_server);
        let held = self.parent.sessions.values().fold(Quota::NONE, |sum, s| sum.plus(held(s)).unwrap_or(sum));
        self.bank.free(self.parent.settings.account).without(held)
    }
}
