//! What belongs to a protection domain: the ECs, spaces and PDs that were created for it, which are destroyed with it.
//!
//! A PD does not count on its members, nor they on it: spaces outlive a PD as long as ECs are bound to them. Who goes
//! first takes the other out of the books, under one lock for all PDs; it is held for a few instructions.

use super::{ec::Ec, pd::Pd};
use crate::mem::refs::{self, Header, Object, Progress, Ref};
use cap::Kind;
use core::cell::Cell;
use sched::{Link, Node, Queue};
use spin::Mutex;

/// An object's place among the members of a PD.
pub struct Member {
    link: Link<Member>,
    /// Where it is a member.
    pd: Cell<Option<&'static Pd>>,
    /// The object that this is a field of.
    object: Cell<u64>,
    /// Which of the lists it is in.
    list: Cell<usize>,
}

/// In the list of its PD.
struct Listed;

impl Node<Listed> for Member {
    fn link(&self) -> &Link<Member> {
        &self.link
    }
}

static LOCK: Mutex<()> = Mutex::new(());

impl Member {
    /// Of no PD.
    pub const fn new() -> Member {
        Member { link: Link::new(), pd: Cell::new(None), object: Cell::new(0), list: Cell::new(0) }
    }

    /// Looks at all ECs of the PD that it is a member of.
    pub fn each_ec(&self, look: impl Fn(&Ec)) {
        let _books = LOCK.lock();
        let Some(actors) = self.pd.get().map(|pd| &pd.members.lists[ACTORS]) else { return };
        let mut next = actors.head();
        while let Some(m) = next {
            next = actors.next::<Listed>(m);
            let object = m.object.get() as *const Header;
            // SAFETY: it has not left, so its memory is there; it leaves under the lock.
            if unsafe { (*object).kind() } == Kind::Ec {
                // SAFETY: it is one.
                look(unsafe { &*object.cast::<Ec>() });
            }
        }
    }

    /// Is one no more.
    pub fn leave(&'static self) {
        let _books = LOCK.lock();
        if let Some(pd) = self.pd.take() {
            pd.members.lists[self.list.get()].remove::<Listed>(self);
        }
    }
}

/// An object that can be a member.
pub trait Joins: Object {
    /// Its place.
    fn member(&self) -> &Member;
}

/// What acts (ECs, PDs), spaces; behind them those that are being destroyed.
const ACTORS: usize = 0;
const SPACES: usize = 1;
const DOOMED: usize = 2;

/// The members of a PD.
pub struct Members {
    lists: [Queue<Member>; 4],
}

impl Members {
    /// None.
    pub const fn new() -> Members {
        Members { lists: [const { Queue::new() }; 4] }
    }

    /// Adds a new object.
    pub fn add<T: Joins>(&self, pd: &'static Pd, t: &Ref<T>) {
        let t = t.found();
        let m = t.member();
        let _books = LOCK.lock();
        m.object.set((t as *const T).cast::<Header>() as u64);
        m.pd.set(Some(pd));
        m.list.set(if matches!(T::KIND, Kind::Ec | Kind::Pd) { ACTORS } else { SPACES });
        self.lists[m.list.get()].push_back::<Listed>(m);
    }

    /// Destroys a portion: first what acts, and when that is gone, so that none raises events in vain, the spaces.
    pub fn doom(&self) -> Progress {
        let none = |list: usize| self.lists[list].is_empty();
        for _ in 0..refs::PORTION {
            let _books = LOCK.lock();
            let list = match () {
                _ if !none(ACTORS) => ACTORS,
                _ if !none(ACTORS + DOOMED) => return Progress::Later,
                _ if !none(SPACES) => SPACES,
                _ if !none(SPACES + DOOMED) => return Progress::Later,
                _ => return Progress::Done,
            };
            let Some(m) = self.lists[list].pop_front::<Listed>() else { return Progress::More };
            m.list.set(list + DOOMED);
            self.lists[list + DOOMED].push_back::<Listed>(m);
            // It may be on its way already.
            // SAFETY: it has not left, so its memory is there; it leaves under the lock.
            unsafe { refs::doom(m.object.get()) };
        }
        Progress::More
    }

    /// Lets go of a portion.
    pub fn dismiss(&self) -> Progress {
        for _ in 0..refs::PORTION {
            let _books = LOCK.lock();
            let Some(m) = self.lists.iter().find_map(|l| l.pop_front::<Listed>()) else { return Progress::Done };
            m.pd.set(None);
        }
        Progress::More
    }
}
