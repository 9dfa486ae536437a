//! Scripted components: clients, servers that answer at once or late or keep what they were given, and liars.
//!
//! A script is told of notices and acts now and then; what it does are calls and entries in its account.

use crate::tree::{COST, SERVICES, name, quota};
use crate::world::Rng;
use session::{Args, Call, Cap, End, Label, News, Notice, Quota, Refusal, Request, Response, SessionId, Shortage};
use std::collections::BTreeMap;

/// What a script wants to do, in order.
#[derive(Debug, Clone)]
pub enum Deed {
    Call(Call),
    Spend(Quota),
    Release(Quota),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Client,
    /// Answers one of so many requests late.
    Server(u64),
    /// Answers, but keeps all that it was donated.
    Hog,
    Liar,
}

/// A session as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mine {
    Asked,
    Open,
    Upgrading,
    Closing,
}

/// A session as its server knows it.
#[derive(Debug, Clone)]
pub struct Served {
    pub label: String,
    donation: Quota,
    spent: Quota,
}

#[derive(Debug, Clone)]
pub struct Script {
    kind: Kind,
    next_id: SessionId,
    mine: BTreeMap<SessionId, Mine>,
    pub served: BTreeMap<SessionId, Served>,
    late: Vec<Call>,
    spent: Quota,
    wants: bool,
    pub quiet: bool,
}

impl Script {
    fn new(kind: Kind) -> Script {
        Script {
            kind,
            next_id: 0,
            mine: BTreeMap::new(),
            served: BTreeMap::new(),
            late: Vec::new(),
            spent: Quota::NONE,
            wants: false,
            quiet: false,
        }
    }

    pub fn client() -> Script {
        Script::new(Kind::Client)
    }

    pub fn server(late: u64) -> Script {
        Script::new(Kind::Server(late))
    }

    pub fn hog() -> Script {
        Script::new(Kind::Hog)
    }

    pub fn liar() -> Script {
        Script::new(Kind::Liar)
    }

    pub fn honest(&self) -> bool {
        matches!(self.kind, Kind::Client | Kind::Server(_))
    }

    /// Requests that nobody has answered.
    pub fn unanswered(&self) -> usize {
        self.mine.values().filter(|mine| **mine != Mine::Open).count()
    }

    /// What it does of its own accord.
    pub fn act(&mut self, rng: &mut Rng, provides: &[session::Name], tag: u64) -> Vec<Deed> {
        let mut deeds: Vec<Deed> = provides.iter().map(|service| Deed::Call(Call::Announce(*service))).collect();
        deeds.extend(self.late.drain(..).map(Deed::Call));
        match self.kind {
            Kind::Client if !self.quiet => self.use_sessions(rng, tag, &mut deeds),
            Kind::Liar => self.lie(rng, &mut deeds),
            _ => {}
        }
        deeds
    }

    fn use_sessions(&mut self, rng: &mut Rng, tag: u64, deeds: &mut Vec<Deed>) {
        let some = quota(rng.below(4), rng.below(4));
        let open: Vec<SessionId> = self.mine.iter().filter(|(_, m)| **m == Mine::Open).map(|(&id, _)| id).collect();
        match rng.below(8) {
            0..=3 => {
                self.next_id += 1;
                let service = name(SERVICES[rng.below(SERVICES.len() as u64) as usize]);
                let donation = if rng.one_in(16) {
                    Quota::NONE
                } else {
                    quota(2, 2).plus(COST).and_then(|q| q.plus(some)).unwrap()
                };
                let label = Label::new(&format!("tag {tag}")).unwrap();
                let request = Request { id: self.next_id, service, label, args: Args::default(), donation };
                self.mine.insert(self.next_id, Mine::Asked);
                deeds.push(Deed::Call(Call::Request(request)));
            }
            4 if !open.is_empty() => {
                let id = open[rng.below(open.len() as u64) as usize];
                self.mine.insert(id, Mine::Upgrading);
                deeds.push(Deed::Call(Call::Upgrade { id, more: some }));
            }
            5 if !self.mine.is_empty() => {
                let (&id, mine) = self.mine.iter().nth(rng.below(self.mine.len() as u64) as usize).unwrap();
                if *mine != Mine::Closing {
                    self.mine.insert(id, Mine::Closing);
                    deeds.push(Deed::Call(Call::Close(id)));
                }
            }
            6 => deeds.push(Deed::Spend(quota(rng.below(30), rng.below(30)))),
            _ if !self.spent.is_none() => {
                deeds.push(Deed::Release(self.spent));
                self.spent = Quota::NONE;
            }
            _ => {}
        }
    }

    /// Whatever could be wrong.
    fn lie(&mut self, rng: &mut Rng, deeds: &mut Vec<Deed>) {
        let id = rng.below(40);
        let more = quota(rng.below(200), rng.below(200));
        for _ in 0..rng.below(6) {
            let responses = [
                Response::Ready(Cap(99)),
                Response::Denied,
                Response::Short(Shortage::Caps),
                Response::Incompatible(7),
                Response::Upgraded,
                Response::NotUpgraded,
                Response::Closed,
                Response::Gone,
            ];
            let service = name(SERVICES[rng.below(SERVICES.len() as u64) as usize]);
            let label = Label::new("lie -> tag 0").unwrap();
            let donation = quota(rng.below(4), rng.below(4));
            let call = match rng.below(10) {
                0 => Call::Announce(service),
                1 => Call::Upgrade { id: rng.below(6), more },
                2 => Call::Close(rng.below(6)),
                3 | 4 => Call::Respond(rng.below(400), responses[rng.below(7) as usize]),
                5 if rng.one_in(8) => Call::Exit(rng.below(2)),
                6 => Call::Want(more),
                7 => Call::Yielded,
                // The same name again and again, and without end.
                8 => Call::Request(Request { id, service, label, args: Args::default(), donation: more }),
                _ => Call::Request(Request { id: rng.below(1 << 40), service, label, args: Args::default(), donation }),
            };
            deeds.push(Deed::Call(call));
        }
    }

    /// What it does about a notice.
    pub fn hear(&mut self, rng: &mut Rng, notice: Notice) -> Vec<Deed> {
        match notice {
            Notice::Heartbeat if self.kind == Kind::Liar => vec![],
            Notice::Heartbeat => vec![Deed::Call(Call::Alive)],
            Notice::Granted => {
                self.wants = false;
                vec![]
            }
            Notice::Yield(_) => {
                let spent = std::mem::take(&mut self.spent);
                vec![Deed::Release(spent), Deed::Call(Call::Yielded)]
            }
            Notice::Session(id, news) => {
                self.news(id, news);
                vec![]
            }
            Notice::Create(request) => self.create(rng, request),
            Notice::Upgrade(id, donation) => {
                if let Some(served) = self.served.get_mut(&id) {
                    assert_eq!(served.donation.lacks(Quota::NONE), None);
                    assert!(donation.lacks(served.donation).is_none(), "an upgrade takes nothing away");
                    served.donation = donation;
                }
                self.answer(rng, id, Response::Upgraded)
            }
            Notice::Close(id) => {
                let spent = self.served.remove(&id).map_or(Quota::NONE, |served| served.spent);
                let mut deeds = self.answer(rng, id, Response::Closed);
                if self.kind != Kind::Hog {
                    deeds.insert(0, Deed::Release(spent));
                }
                deeds
            }
        }
    }

    /// What an honest client may be told in each state.
    fn news(&mut self, id: SessionId, news: News) {
        if self.kind != Kind::Client {
            return;
        }
        let mine =
            *self.mine.get(&id).unwrap_or_else(|| panic!("news of {id}, which was never asked for or has ended"));
        match news {
            News::Ready(_) => {
                assert_eq!(mine, Mine::Asked, "ready once");
                self.mine.insert(id, Mine::Open);
            }
            News::Upgraded | News::NotUpgraded => {
                assert_eq!(mine, Mine::Upgrading, "upgraded once");
                self.mine.insert(id, Mine::Open);
            }
            News::Ended(end) => {
                let fits = match end {
                    End::Denied | End::Short(_) | End::Incompatible(_) => matches!(mine, Mine::Asked | Mine::Closing),
                    End::Closed => mine == Mine::Closing,
                    End::Gone => true,
                };
                assert!(fits, "{mine:?} ended with {end:?}");
                self.mine.remove(&id);
            }
        }
    }

    fn create(&mut self, rng: &mut Rng, request: Request) -> Vec<Deed> {
        let Request { id, donation, label, .. } = request;
        let (spent, response) = match (self.kind, rng.below(16)) {
            (Kind::Hog, _) => (donation, Response::Ready(Cap(id))),
            (_, 0) => (Quota::NONE, Response::Denied),
            (_, 1) => (Quota::NONE, Response::Short(Shortage::Ram)),
            (_, 2..8) => (donation, Response::Ready(Cap(id))),
            _ => (Quota::NONE, Response::Ready(Cap(id))),
        };
        let mut deeds = vec![Deed::Spend(spent)];
        if matches!(response, Response::Ready(_)) {
            let label = label.as_str().to_string();
            assert!(self.served.insert(id, Served { label, donation, spent }).is_none(), "created twice");
        }
        deeds.extend(self.answer(rng, id, response));
        deeds
    }

    fn answer(&mut self, rng: &mut Rng, id: SessionId, response: Response) -> Vec<Deed> {
        let call = Call::Respond(id, response);
        match self.kind {
            Kind::Server(late) if rng.one_in(late) => {
                self.late.push(call);
                vec![]
            }
            // Twice, or never.
            Kind::Liar if rng.one_in(2) => vec![Deed::Call(call.clone()), Deed::Call(call)],
            Kind::Liar if rng.one_in(4) => vec![],
            _ => vec![Deed::Call(call)],
        }
    }

    /// What it does about an entry in its account that was made, or was not.
    pub fn spent(&mut self, amount: Quota, made: bool) -> Option<Call> {
        if self.kind != Kind::Client {
            assert!(made || !self.honest(), "an honest server can spend a donation");
            return None;
        }
        if made {
            self.spent = self.spent.plus(amount).unwrap();
            return None;
        }
        (!std::mem::replace(&mut self.wants, true)).then_some(Call::Want(amount))
    }

    /// What it makes of a refusal. An honest component sees only those that honest ones can see.
    pub fn refused(&mut self, call: &Call, refusal: Refusal) {
        if !self.honest() || refusal == Refusal::Dead {
            return;
        }
        match (call, refusal) {
            (Call::Request(request), Refusal::Denied | Refusal::TooMany | Refusal::Short(_)) => {
                self.mine.remove(&request.id);
            }
            // The session ended meanwhile; or it is poor.
            (Call::Upgrade { id, .. }, Refusal::Phase | Refusal::Short(_)) => {
                self.mine.insert(*id, Mine::Open);
            }
            // The parent has closed it without waiting, or the client has died.
            (Call::Respond(..), Refusal::Unknown | Refusal::Phase) => {}
            _ => panic!("{call:?}: {refusal}"),
        }
    }
}
