//! A parent as each of its children has it: what comes in messages, for whoever decides; and the capabilities of sessions,
//! kept as long as these last.
//!
//! Key types: [`Desk`], the object; [`Keeper`], who decides and does what follows; [`Keeps`], the capabilities.

use crate::protocol::{Call, News, Notice, Refusal, SessionId};
use crate::session::Party;
use crate::turn::{Life, Parent};
use crate::wire::{quota, service};
use rpc::{Cap, Signal, Text};
use services::parent::{self as wire, AnyObject, MAX_NAME};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Capabilities of sessions: what keeps each, by what its parent calls it.
#[derive(Debug)]
pub struct Keeps<T>(BTreeMap<SessionId, Arc<T>>);

impl<T> Default for Keeps<T> {
    fn default() -> Keeps<T> {
        Keeps(BTreeMap::new())
    }
}

impl<T> Keeps<T> {
    /// The parent's own service, or its parent, has handed this over.
    pub fn keep(&mut self, id: SessionId, kept: Arc<T>) {
        self.0.insert(id, kept);
    }

    /// A child hands over what it has made: kept if it serves that session, and once.
    pub fn hand_over(&mut self, parent: &Parent, server: Life, id: SessionId, kept: Arc<T>) {
        let server_party = Some(Party::Child(server.child));
        let theirs = parent.session(id).is_some_and(|s| s.server == server_party && s.cap.is_none());
        let alive = parent.children().any(|(child, c)| child == server.child && c.life == server.number);
        if theirs && alive {
            self.0.entry(id).or_insert(kept);
        }
    }

    /// What is kept of the session that a client calls so.
    pub fn of(&self, parent: &Parent, client: Party, name: SessionId) -> Option<Arc<T>> {
        self.0.get(&parent.number_of(client, name)?).cloned()
    }

    /// A session is over.
    pub fn remove(&mut self, id: SessionId) -> Option<Arc<T>> {
        self.0.remove(&id)
    }

    /// What no session keeps any more: to be dropped when no lock is held.
    pub fn tidy(&mut self, parent: &Parent) -> Vec<Arc<T>> {
        let gone: Vec<SessionId> = self.0.keys().copied().filter(|&id| parent.session(id).is_none()).collect();
        gone.into_iter().filter_map(|id| self.0.remove(&id)).collect()
    }
}

/// Who decides what a child asks of its parent, and does what follows.
pub trait Keeper: Send {
    /// What keeps a capability.
    type Kept: Send + Sync;
    /// Decides about a call, and does what follows.
    fn call(&mut self, from: Life, call: Call) -> Result<Option<Notice>, Refusal>;
    /// A server hands over the capability of a session: to be kept before anybody learns of it.
    fn hand_over(&mut self, server: Life, id: SessionId, cap: Cap<AnyObject>);
    /// What keeps the capability of the session that a client calls so.
    fn kept(&mut self, client: Life, name: SessionId) -> Option<Arc<Self::Kept>>;
    /// What is to be raised for a child from now on.
    fn heed(&mut self, life: Life, signal: Signal);
    /// A child has ended.
    fn exit(&mut self, life: Life, code: u64);
}

/// The parent as one life of a child has it.
pub struct Desk<K: Keeper> {
    keeper: K,
    life: Life,
    /// Keeps the capability of the last answer until there is another call: the answer is on its way.
    last: Option<Arc<K::Kept>>,
}

impl<K: Keeper> Desk<K> {
    /// For that life.
    pub fn new(keeper: K, life: Life) -> Desk<K> {
        Desk { keeper, life, last: None }
    }

    fn call(&mut self, call: Call) -> Result<(), wire::Refusal> {
        self.keeper.call(self.life, call).map(drop).map_err(Into::into)
    }
}

impl<K: Keeper> services::Parent for Desk<K> {
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
        // The last answer has arrived; so an object that nobody wants any more goes now, with all that it holds.
        self.last = None;
        self.call(Call::Close(id))
    }

    fn respond(&mut self, id: u64, response: wire::Response) -> Result<(), wire::Refusal> {
        if let wire::Response::Ready(cap) = response {
            self.keeper.hand_over(self.life, id, cap);
        }
        self.call(Call::Respond(id, response.into()))
    }

    fn next(&mut self) -> Option<wire::Notice> {
        let notice = self.keeper.call(self.life, Call::Next).ok()??;
        self.last = match notice {
            Notice::Session(id, News::Ready(_)) => self.keeper.kept(self.life, id),
            _ => None,
        };
        Some(notice.into())
    }

    fn heed(&mut self, signal: Signal) {
        self.keeper.heed(self.life, signal);
    }

    fn exit(&mut self, code: u64) {
        self.keeper.exit(self.life, code);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Books, Label, Limits, Quota, Request, Response, Restart, Routes, Rule, Settings, Spec, Target};
    use parent::Name;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn quota(pages: u64) -> Quota {
        Quota::new(pages << 12, pages).unwrap()
    }

    /// A parent with these children: a server, another one, and a client of the first.
    fn house() -> (Parent, Books) {
        let (books, account) = Books::new(quota(1000));
        let limits = Limits { sessions: 4, pending: 4 };
        let (cost, own, exports) = (Quota::NONE, Vec::new(), Routes::default());
        let mut parent = Parent::new(Settings { account, cost, patience: 100, own, exports, above: limits });
        let mut books = books;
        for (child, provides) in [("a", vec![name("gpu")]), ("b", vec![]), ("c", vec![])] {
            parent.turn(0, &mut books).add(Spec {
                name: name(child),
                quota: quota(100),
                most: quota(100),
                provides,
                routes: Routes(vec![Rule::to(name("gpu"), Target::Child(name("a")))]),
                limits,
                heartbeat: None,
                restart: Restart { tries: 1, first: 0, longest: 0, calm: 1000, after_exit: true },
            });
        }
        (parent, books)
    }

    fn life(parent: &Parent, child: &str) -> Life {
        let (child, c) = parent.child(&name(child)).unwrap();
        Life { child, number: c.life }
    }

    #[test]
    fn what_is_handed_over_is_the_servers_once_and_as_long_as_the_session() {
        let (mut parent, mut books) = house();
        let [a, b, c] = ["a", "b", "c"].map(|child| life(&parent, child));
        parent.turn(1, &mut books).call(a, Call::Announce(name("gpu"))).unwrap();
        let request = Request {
            id: 7,
            service: name("gpu"),
            label: Label::new("x").unwrap(),
            args: crate::Args::new(1, &[]).unwrap(),
            donation: quota(1),
        };
        parent.turn(2, &mut books).call(c, Call::Request(request)).unwrap();
        let Ok(Some(Notice::Create(there))) = parent.turn(3, &mut books).call(a, Call::Next) else { panic!() };
        let mut keeps = Keeps::default();
        keeps.hand_over(&parent, b, there.id, Arc::new("b's"));
        keeps.hand_over(&parent, Life { number: a.number + 99, ..a }, there.id, Arc::new("another life's"));
        keeps.hand_over(&parent, a, there.id + 1, Arc::new("of no session"));
        assert_eq!(keeps.of(&parent, Party::Child(c.child), 7), None);
        keeps.hand_over(&parent, a, there.id, Arc::new("first"));
        keeps.hand_over(&parent, a, there.id, Arc::new("second"));
        assert_eq!(keeps.of(&parent, Party::Child(c.child), 7).as_deref(), Some(&"first"));
        assert_eq!(keeps.of(&parent, Party::Child(a.child), 7), None, "who has the session");
        assert!(keeps.tidy(&parent).is_empty());
        let ready = Call::Respond(there.id, Response::Ready(crate::Cap(1)));
        parent.turn(4, &mut books).call(a, ready).unwrap();
        keeps.hand_over(&parent, a, there.id, Arc::new("third"));
        assert_eq!(keeps.of(&parent, Party::Child(c.child), 7).as_deref(), Some(&"first"));
        parent.turn(5, &mut books).died(a, crate::Cause::Fault);
        assert!(keeps.tidy(&parent).is_empty(), "the client has not fetched its end");
        parent.turn(6, &mut books).call(c, Call::Next).unwrap();
        assert_eq!(keeps.tidy(&parent), [Arc::new("first")]);
        assert_eq!(keeps.remove(there.id), None);
    }
}
