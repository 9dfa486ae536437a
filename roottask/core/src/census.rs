//! What the books say of components and sessions, as service `trace` tells it.
//!
//! Key functions: [`component`], [`offspring`], [`session`]. A component's number is that of the child, or, of children of
//! components, one of their own; the root task is none.

use parent::Name;
use rpc::Text;
use services::pd::Account;
use services::trace::{Client, Component, NO_PARENT, State};
use session::{ARROW, Books, Party, Quota, SessionId};

/// The child with that number or the first behind it, its CPU time and kernel memory not filled in.
pub fn component(parent: &session::Parent, books: &Books, from: u32) -> Option<Component> {
    let (number, child) = parent.children().find(|(number, _)| *number >= from as usize)?;
    let id = u32::try_from(number).ok()?;
    let account = child.account.and_then(|account| books.account(account).ok());
    let sessions = parent.sessions().filter(|s| s.client == Some(Party::Child(number))).count();
    Some(Component {
        id,
        parent: NO_PARENT,
        name: name(&child.spec.name),
        state: match child.state {
            session::State::Running => State::Running,
            session::State::Due(_) => State::Ended,
            session::State::Ended(_) => State::Down,
        },
        life: child.life,
        cpu_ns: 0,
        ram: figures(account, Quota::ram),
        caps: figures(account, Quota::caps),
        kmem: NOTHING,
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
    })
}

fn figures(account: Option<&session::Account>, part: impl Fn(Quota) -> u64) -> Account {
    account.map_or(NOTHING, |a| Account { limit: part(a.limit), used: part(a.used), peak: part(a.peak.used) })
}

/// Numbers from here on are those of children of components.
const OTHERS: u32 = 1 << 31;

/// The number of a child of a component, by what the root task calls it.
pub fn number(index: usize) -> u32 {
    u32::try_from(index)
        .ok()
        .and_then(|index| index.checked_add(OTHERS))
        .filter(|&id| id != NO_PARENT)
        .unwrap_or(NO_PARENT - 1)
}

/// The first that can have that number or one behind it, by what the root task calls it.
pub fn index(from: u32) -> usize {
    from.saturating_sub(OTHERS) as usize
}

/// A child of a component, which runs, its CPU time and kernel memory not filled in. Of its sessions its parent knows.
pub fn offspring(index: usize, parent: u32, label: &str, account: Option<&session::Account>) -> Component {
    Component {
        id: number(index),
        parent,
        name: Text::new(label.rsplit(ARROW).next().unwrap_or(label)).unwrap_or_default(),
        state: State::Running,
        // Each life has a number of its own.
        life: index as u64,
        cpu_ns: 0,
        ram: figures(account, Quota::ram),
        caps: figures(account, Quota::caps),
        kmem: NOTHING,
        sessions: 0,
    }
}

/// What somebody has who has nothing.
pub const NOTHING: Account = Account { limit: 0, used: 0, peak: 0 };

/// Of a child's sessions the one with that number or the first behind it.
pub fn session(parent: &session::Parent, component: u32, from: SessionId) -> Option<Client> {
    let client = Some(Party::Child(component as usize));
    let view = parent.sessions().find(|s| s.client == client && s.number >= from)?;
    let asked = parent.request_of(view.number)?;
    let server = match view.server {
        Some(Party::Child(child)) => u32::try_from(child).unwrap_or(NO_PARENT),
        _ => NO_PARENT,
    };
    Some(Client {
        id: view.number,
        service: name(&asked.service),
        label: Text::new(asked.label.as_str()).unwrap_or_default(),
        server,
        ram: view.donation.ram(),
        caps: view.donation.caps(),
    })
}

fn name(of: &Name) -> Text<{ services::trace::NAME_LEN }> {
    Text::new(of.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use services::trace::State;
    use session::*;

    fn quota(pages: u64, caps: u64) -> Quota {
        Quota::new(pages << 12, caps).unwrap()
    }

    fn spec(text: &str) -> Spec {
        let to_own = Rule { target: Target::Own, ..rule() };
        Spec {
            name: Name::new(text).unwrap(),
            quota: quota(100, 50),
            most: quota(100, 50),
            provides: vec![],
            routes: Routes(vec![to_own]),
            limits: Limits { sessions: 4, pending: 4 },
            heartbeat: None,
            restart: Restart { tries: 3, first: 10, longest: 30, calm: 1000, after_exit: true },
        }
    }

    fn rule() -> Rule {
        Rule { service: None, labels: Labels::Any, target: Target::Own, rewrite: Rewrite::default() }
    }

    /// Two children that run, of whom the second has a timer; the first has ended once.
    fn system() -> (Parent, Books, Vec<u32>) {
        let (mut books, account) = Books::new(quota(1000, 1000));
        let limits = Limits { sessions: 4, pending: 4 };
        let timer = Name::new("timer").unwrap();
        let (cost, exports) = (Quota::NONE, Routes::default());
        let settings = Settings { account, cost, patience: 100, own: vec![timer], exports, above: limits };
        let mut parent = Parent::new(settings);
        let ids = ["a", "b"].map(|text| parent.turn(0, &mut books).add(spec(text)).unwrap());
        let life = |parent: &Parent, child| {
            let number = parent.children().find(|(c, _)| *c == child).unwrap().1.life;
            Life { child, number }
        };
        let (first, second) = (life(&parent, ids[0]), life(&parent, ids[1]));
        parent.turn(1, &mut books).died(first, Cause::Fault);
        let request =
            Request { id: 7, service: timer, label: Label::new("tick").unwrap(), donation: quota(2, 3), ..request() };
        parent.turn(2, &mut books).call(second, Call::Request(request)).unwrap();
        (parent, books, ids.map(|id| id as u32).into())
    }

    fn request() -> Request {
        services::parent::Request {
            id: 0,
            service: Text::new("x").unwrap(),
            label: Text::default(),
            built: <dyn services::Timer as rpc::Interface>::TABLE.built,
            args: rpc::Bytes::default(),
            donation: services::parent::Amount { ram: 0, caps: 0 },
        }
        .try_into()
        .unwrap()
    }

    #[test]
    fn components_are_as_the_books_have_them() {
        let (parent, books, ids) = system();
        let all: Vec<_> = ids.iter().map(|&id| component(&parent, &books, id).unwrap()).collect();
        assert_eq!(component(&parent, &books, 0).as_ref(), Some(&all[0]));
        assert_eq!(component(&parent, &books, ids[0] + 1).as_ref(), Some(&all[1]));
        assert_eq!(component(&parent, &books, ids[1] + 1), None);
        let [a, b] = &all[..] else { panic!("{all:?}") };
        assert_eq!((a.name.as_str(), a.state, a.sessions), ("a", State::Ended, 0));
        assert_eq!((a.ram, b.name.as_str(), b.state, b.sessions), (NOTHING, "b", State::Running, 1));
        // What it donated is not its own while the session lasts.
        assert_eq!((b.ram.limit, b.ram.used, b.caps.limit), (98 << 12, 0, 47));
        assert!(a.life != b.life && a.parent == NO_PARENT);
    }

    #[test]
    fn children_of_components_have_numbers_behind_all_others() {
        let (parent, books, ids) = system();
        let account = parent.children().find_map(|(_, child)| books.account(child.account?).ok());
        let c = offspring(7, ids[1], "b -> inner", account);
        assert_eq!((c.name.as_str(), c.parent, c.state, c.life), ("inner", ids[1], State::Running, 7));
        assert_eq!((c.ram.limit, c.caps.limit), (account.unwrap().limit.ram(), account.unwrap().limit.caps()));
        assert!(c.id > ids[1] && component(&parent, &books, c.id).is_none());
        assert_eq!((index(c.id), index(c.id + 1), index(0)), (7, 8, 0));
        let nested = offspring(8, c.id, "b -> inner -> a", None);
        assert!(nested.id > c.id && nested.parent == c.id && nested.ram == NOTHING);
        assert!(number(usize::MAX) < NO_PARENT);
    }

    #[test]
    fn sessions_have_the_label_that_their_server_knows() {
        let (parent, _, ids) = system();
        let s = session(&parent, ids[1], 0).unwrap();
        assert_eq!((s.service.as_str(), s.label.as_str(), s.server), ("timer", "b -> tick", NO_PARENT));
        assert_eq!((s.ram, s.caps), (2 << 12, 3));
        assert_eq!(session(&parent, ids[1], s.id).as_ref(), Some(&s));
        assert_eq!((session(&parent, ids[1], s.id + 1), session(&parent, ids[0], 0)), (None, None));
    }
}
