//! What a parent does about sessions: requests, answers of servers, upgrades, closes.
//!
//! Methods of [`Turn`]; the phases are in `session`, who serves is found in `servers`, and the end of a session is in
//! `settle`.

use crate::bank::{Bank, Guarded};
use crate::books::{AccountId, BookError};
use crate::protocol::{Call, End, News, Notice, Refusal, Request, Response, SessionId};
use crate::quota::{Quota, Shortage};
use crate::session::{Event, Party, Phase, Session};
use crate::spec::Limits;
use crate::turn::{Effect, Turn};

impl From<BookError> for Refusal {
    fn from(error: BookError) -> Refusal {
        match error {
            BookError::Short(shortage) => Refusal::Short(shortage),
            BookError::Unknown | BookError::Unrelated | BookError::Unused => Refusal::Dead,
        }
    }
}

/// What is to be told to the server in this phase.
fn order(number: SessionId, session: &Session) -> Option<Notice> {
    match session.phase {
        Phase::CreateRequested => Some(Notice::Create(Request { id: number, ..session.there.clone() })),
        Phase::UpgradeRequested => Some(Notice::Upgrade(number, session.there.donation)),
        Phase::CloseRequested => Some(Notice::Close(number)),
        _ => None,
    }
}

impl<B: Bank + ?Sized> Turn<'_, B> {
    pub(crate) fn account(&self, party: Option<Party>) -> Option<AccountId> {
        match party {
            Some(Party::Child(index)) => self.parent.children.get(&index)?.account,
            _ => None,
        }
    }

    pub(crate) fn request(&mut self, client: Party, asked: Request) -> Result<(), Refusal> {
        let limits = match client {
            Party::Child(index) => self.parent.children.get(&index).ok_or(Refusal::Dead)?.spec.limits,
            Party::Above => self.parent.settings.above,
            Party::Own => Limits { sessions: usize::MAX, pending: usize::MAX },
        };
        if self.parent.number_of(client, asked.id).is_some() {
            return Err(Refusal::Twice);
        }
        let of_client = || self.parent.sessions.values().filter(|s| s.client == Some(client));
        if of_client().count() >= limits.sessions || of_client().filter(|s| s.phase.pending()).count() >= limits.pending
        {
            return Err(Refusal::TooMany);
        }
        let (server, there) = self.resolve(client, &asked).inspect_err(|&refusal| {
            if let Refusal::Short(_) = refusal
                && let Some(measure) = self.parent.measures.get_mut(&asked.service)
            {
                measure.refused();
            }
        })?;
        match client {
            // What is held for others is not there for its own.
            Party::Own => self.spare().lacks(asked.donation).map_or(Ok(()), |s| Err(Refusal::Short(s)))?,
            _ => self.move_donation(client, asked.donation, None, Quota::NONE)?,
        }
        let number = self.parent.number();
        let session = Session {
            client: Some(client),
            name: asked.id,
            asked,
            there,
            phase: Phase::Waiting,
            server: None,
            at_server: Quota::NONE,
            more: Quota::NONE,
            cap: None,
            news: None,
            tell_server: false,
            since: 0,
            blamed: false,
            revoked: false,
        };
        self.parent.sessions.insert(number, session);
        if let Some(server) = server {
            self.send(number, server);
        }
        Ok(())
    }

    /// From the client's account to this parent's, and on to the server's; all of it or nothing.
    fn move_donation(
        &mut self,
        client: Party,
        donation: Quota,
        server: Option<Party>,
        there: Quota,
    ) -> Result<(), BookError> {
        let own = self.parent.settings.account;
        let (from, to) = (self.account(Some(client)), self.account(server));
        let mut hops = Guarded::new(self.bank);
        if let Some(from) = from {
            hops.hop(from, own, donation)?;
        }
        if let Some(to) = to {
            hops.hop(own, to, there)?;
        }
        hops.commit();
        Ok(())
    }

    /// Has the server create a session that waits. If the donation does not reach it, the session goes on waiting.
    pub(crate) fn send(&mut self, number: SessionId, server: Party) {
        let own = self.parent.settings.account;
        let account = self.account(Some(server));
        let Some(session) = self.parent.sessions.get_mut(&number) else { return };
        let donation = session.there.donation;
        let moved = account.is_none_or(|account| self.bank.transfer(own, account, donation).is_ok());
        if let Some(phase) = session.phase.after(Event::Sent).filter(|_| moved) {
            session.phase = phase;
            session.server = Some(server);
            session.at_server = if server == Party::Own { Quota::NONE } else { donation };
            self.tell_server(number);
        }
    }

    pub(crate) fn respond(&mut self, server: Party, number: SessionId, response: Response) -> Result<(), Refusal> {
        let session = self.parent.sessions.get_mut(&number).ok_or(Refusal::Unknown)?;
        if session.server != Some(server) {
            return Err(Refusal::Unknown);
        }
        let event = match response {
            Response::Ready(cap) => {
                session.cap = session.cap.or(Some(cap));
                Event::Ready
            }
            Response::Denied => Event::End(End::Denied),
            Response::Short(shortage) => Event::End(End::Short(shortage)),
            Response::Incompatible(version) => Event::End(End::Incompatible(version)),
            Response::Upgraded => Event::Upgraded,
            Response::NotUpgraded => Event::NotUpgraded,
            Response::Closed => Event::End(End::Closed),
            Response::Gone => Event::End(End::Gone),
        };
        let service = session.asked.service;
        self.happen(number, event)?;
        if let (Response::Short(_), Some(measure)) = (response, self.parent.measures.get_mut(&service)) {
            measure.refused();
        }
        Ok(())
    }

    pub(crate) fn upgrade(&mut self, client: Party, name: SessionId, more: Quota) -> Result<(), Refusal> {
        let number = self.parent.number_of(client, name).ok_or(Refusal::Unknown)?;
        let session = self.parent.sessions.get(&number).ok_or(Refusal::Unknown)?;
        session.phase.after(Event::Upgrade).ok_or(Refusal::Phase)?;
        let (server, limit) = (session.server, Refusal::Short(Shortage::Ram));
        let asked = session.asked.donation.plus(more).ok_or(limit)?;
        let there = session.there.donation.plus(more).ok_or(limit)?;
        self.move_donation(client, more, server, more)?;
        let session = self.parent.sessions.get_mut(&number).ok_or(Refusal::Unknown)?;
        session.asked.donation = asked;
        session.there.donation = there;
        session.more = more;
        if server != Some(Party::Own) {
            session.at_server = session.at_server.plus(more).unwrap_or(session.at_server);
        }
        self.happen(number, Event::Upgrade)
    }

    /// The donation of a session from above has grown to this.
    pub(crate) fn upgrade_to(&mut self, name: SessionId, donation: Quota) {
        let session = self.parent.number_of(Party::Above, name).and_then(|number| self.parent.sessions.get(&number));
        let Some(session) = session.filter(|session| !session.phase.over()) else {
            // It is ending here, and who is above will be told so.
            return;
        };
        let more = donation.without(session.asked.donation);
        if self.upgrade(Party::Above, name, more).is_err() {
            self.up(Call::Respond(name, Response::NotUpgraded));
        }
    }

    /// An upgrade did not reach the server: it is the client's again, as far as the server has not spent it already.
    fn take_back_upgrade(&mut self, number: SessionId) {
        let own = self.parent.settings.account;
        let Some(session) = self.parent.sessions.get_mut(&number) else { return };
        let (client, server, more) = (session.client, session.server, std::mem::take(&mut session.more));
        let back = self.account(server).is_none_or(|account| self.bank.transfer(account, own, more).is_ok());
        let account = self.account(client);
        let returned = back && account.is_none_or(|account| self.bank.transfer(own, account, more).is_ok());
        let Some(session) = self.parent.sessions.get_mut(&number) else { return };
        if back {
            session.at_server = session.at_server.without(more);
            session.there.donation = session.there.donation.without(more);
        }
        if returned {
            // Else it comes back at the end, with the rest.
            session.asked.donation = session.asked.donation.without(more);
        }
    }

    pub(crate) fn close(&mut self, client: Party, name: SessionId) -> Result<(), Refusal> {
        let number = self.parent.number_of(client, name).ok_or(Refusal::Unknown)?;
        match self.parent.sessions.get(&number) {
            // It ended while the client was closing it.
            Some(session) if session.phase.over() => Ok(()),
            _ => self.happen(number, Event::Close),
        }
    }

    /// Enters an event, and does what follows from the phase that comes of it.
    pub(crate) fn happen(&mut self, number: SessionId, event: Event) -> Result<(), Refusal> {
        let now = self.now;
        let session = self.parent.sessions.get_mut(&number).ok_or(Refusal::Unknown)?;
        let before = session.phase;
        session.phase = match before.after(event).ok_or(Refusal::Phase)? {
            Phase::Settling(End::Closed) if session.revoked => Phase::Settling(End::Gone),
            phase => phase,
        };
        if session.phase == before {
            return Ok(());
        }
        let (service, donation) = (session.asked.service, session.asked.donation);
        match session.phase {
            Phase::Waiting => {
                session.server = None;
                session.tell_server = false;
            }
            Phase::CreateRequested | Phase::UpgradeRequested => self.tell_server(number),
            Phase::Available => {
                session.news = session.cap.map(News::Ready);
                self.parent.measures.entry(service).or_default().created(donation);
                self.tell_client(number);
            }
            Phase::HandedOut if event == Event::Upgraded => {
                session.more = Quota::NONE;
                session.news = Some(News::Upgraded);
                self.parent.measures.entry(service).or_default().upgraded(donation);
                self.tell_client(number);
            }
            Phase::HandedOut if event == Event::NotUpgraded => {
                session.news = Some(News::NotUpgraded);
                self.take_back_upgrade(number);
                self.tell_client(number);
            }
            Phase::HandedOut => {}
            Phase::CloseRequested => {
                session.since = now;
                session.news = None;
                self.tell_server(number);
            }
            Phase::Settling(_) => {
                session.since = now;
                // That it was ready is not true any more.
                session.news = None;
                self.settle(number);
            }
            Phase::Ended(end) => {
                session.asked.donation = Quota::NONE;
                session.news = Some(News::Ended(end));
                self.tell_client(number);
            }
        }
        Ok(())
    }

    fn tell_server(&mut self, number: SessionId) {
        let Some(session) = self.parent.sessions.get_mut(&number) else { return };
        let Some(notice) = order(number, session) else { return };
        match session.server {
            Some(Party::Child(index)) => {
                session.tell_server = true;
                self.signal(index);
            }
            Some(Party::Own) => self.push(Effect::Serve(notice)),
            Some(Party::Above) => {
                let more = session.more;
                self.up(match notice {
                    Notice::Create(request) => Call::Request(request),
                    Notice::Upgrade(id, _) => Call::Upgrade { id, more },
                    _ => Call::Close(number),
                });
            }
            None => {}
        }
    }

    fn tell_client(&mut self, number: SessionId) {
        let Some(session) = self.parent.sessions.get_mut(&number) else { return };
        let (name, ended) = (session.name, matches!(session.phase, Phase::Ended(_)));
        match session.client {
            Some(Party::Child(index)) => return self.signal(index),
            Some(party) => {
                let Some(news) = session.news.take() else { return };
                if session.phase == Phase::Available {
                    session.phase = Phase::HandedOut;
                }
                match party {
                    Party::Own => self.push(Effect::News(name, news)),
                    _ => self.up(Call::Respond(name, Response::from(news))),
                }
            }
            None => {}
        }
        if ended {
            self.parent.sessions.remove(&number);
        }
    }

    /// What a party has not fetched of its sessions.
    pub(crate) fn next_of_sessions(&mut self, party: Party) -> Option<Notice> {
        for (&number, session) in &mut self.parent.sessions {
            if session.client == Some(party)
                && let Some(news) = session.news.take()
            {
                let (name, ended) = (session.name, matches!(news, News::Ended(_)));
                session.phase = session.phase.after(Event::Taken).unwrap_or(session.phase);
                if ended {
                    self.parent.sessions.remove(&number);
                }
                return Some(Notice::Session(name, news));
            }
            if session.server == Some(party)
                && std::mem::take(&mut session.tell_server)
                && let Some(notice) = order(number, session)
            {
                return Some(notice);
            }
        }
        None
    }

    pub(crate) fn numbers(&self, which: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        self.parent.sessions.iter().filter(|(_, s)| which(s)).map(|(&number, _)| number).collect()
    }
}
