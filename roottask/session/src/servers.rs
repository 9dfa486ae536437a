//! Which server a parent finds for a request: by routes, by what children have announced and may still announce.
//!
//! Methods of [`Turn`]; what becomes of the request is in `requests`.

use crate::bank::Bank;
use crate::protocol::{Call, End, Refusal, Request};
use crate::route::{Routes, Rule, Target};
use crate::session::{Event, Party, Phase, Session};
use crate::turn::{State, Turn};
use parent::Name;

impl<B: Bank + ?Sized> Turn<'_, B> {
    /// Where a request goes, and as what. Without a server: it may yet announce itself.
    pub(crate) fn resolve(&self, client: Party, asked: &Request) -> Result<(Option<Party>, Request), Refusal> {
        let settings = &self.parent.settings;
        let (routes, name) = match client {
            Party::Child(index) => {
                let spec = &self.parent.children.get(&index).ok_or(Refusal::Dead)?.spec;
                (&spec.routes, Some(spec.name))
            }
            Party::Above => (&settings.exports, None),
            Party::Own => return Ok((self.provider(client, &asked.service, None)?, asked.clone())),
        };
        let rule = routes.find(&asked.service, &asked.label).ok_or(Refusal::Denied)?;
        let server = match rule.target {
            Target::Own if settings.own.contains(&asked.service) => Some(Party::Own),
            Target::Parent if client != Party::Above => Some(Party::Above),
            Target::Child(child) => self.provider(client, &asked.service, Some(child))?,
            Target::AnyChild => self.provider(client, &asked.service, None)?,
            Target::Deny | Target::Own | Target::Parent => return Err(Refusal::Denied),
        };
        let changed = match name {
            Some(name) => rule.rewrite(&name, &asked.label, &asked.args),
            None => rule.export(&asked.label, &asked.args),
        };
        let (label, args) = changed.map_err(|_| Refusal::Denied)?;
        let donation = asked.donation.minus(settings.cost).map_err(Refusal::Short)?;
        Ok((server, Request { label, args, donation, ..asked.clone() }))
    }

    /// The first child, but for the client, that provides the service and is not down for good. `None` if it is not
    /// ready.
    fn provider(&self, client: Party, service: &Name, wanted: Option<Name>) -> Result<Option<Party>, Refusal> {
        let (index, child) = self
            .parent
            .children()
            .filter(|(index, child)| client != Party::Child(*index) && !matches!(child.state, State::Ended(_)))
            .find(|(_, child)| {
                wanted.is_none_or(|name| child.spec.name == name) && child.spec.provides.contains(service)
            })
            .ok_or(Refusal::Denied)?;
        Ok(child.announced.contains(service).then_some(Party::Child(index)))
    }

    pub(crate) fn announce(&mut self, index: usize, service: Name) -> Result<(), Refusal> {
        let child = self.parent.children.get_mut(&index).ok_or(Refusal::Dead)?;
        if !child.spec.provides.contains(&service) {
            return Err(Refusal::NotProvided);
        }
        if child.announced.contains(&service) {
            return Ok(());
        }
        child.announced.push(service);
        self.tell_above(index, service);
        self.find_servers();
        Ok(())
    }

    /// Announces what a child has announced to who is above, if that may ask for it.
    fn tell_above(&mut self, index: usize, service: Name) {
        let Some(name) = self.parent.children.get(&index).map(|child| child.spec.name) else { return };
        let to_it = |rule: &Rule| {
            let here = rule.target == Target::AnyChild || rule.target == Target::Child(name);
            here && rule.service.is_none_or(|exported| exported == service)
        };
        if self.parent.settings.exports.0.iter().any(to_it) {
            self.up(Call::Announce(service));
        }
    }

    /// Sends on what waits and need not any more; denies what waits in vain.
    pub(crate) fn find_servers(&mut self) {
        for number in self.numbers(|s| s.phase == Phase::Waiting) {
            let Some((client, asked)) =
                self.parent.sessions.get(&number).and_then(|s| Some((s.client?, s.asked.clone())))
            else {
                continue;
            };
            match self.resolve(client, &asked) {
                Ok((Some(server), there)) => {
                    if let Some(session) = self.parent.sessions.get_mut(&number) {
                        session.there = there;
                    }
                    self.send(number, server);
                }
                Ok((None, _)) => {}
                Err(_) => drop(self.happen(number, Event::End(End::Denied))),
            }
        }
    }

    /// Other ways for requests from above. Open sessions that are elsewhere by them are closed.
    pub fn export(&mut self, routes: Routes) {
        self.parent.settings.exports = routes;
        let known: Vec<(usize, Name)> =
            self.parent.children().flat_map(|(index, c)| c.announced.iter().map(move |&s| (index, s))).collect();
        known.into_iter().for_each(|(index, service)| self.tell_above(index, service));
        self.close_astray();
        self.find_servers();
    }

    /// Closes the sessions that would be elsewhere by the routes as they are now.
    pub(crate) fn close_astray(&mut self) {
        let stays = |s: &Session| {
            let Some(client) = s.client else { return true };
            s.phase == Phase::Waiting
                || s.phase.over()
                || self.resolve(client, &s.asked).is_ok_and(|(server, there)| {
                    server == s.server && (&there.label, &there.args) == (&s.there.label, &s.there.args)
                })
        };
        for number in self.numbers(|s| !stays(s)) {
            if let Some(session) = self.parent.sessions.get_mut(&number).filter(|s| s.phase != Phase::CloseRequested) {
                session.revoked = true;
                let _ = self.happen(number, Event::Close);
            }
        }
    }
}
