//! What a component that may have children has for them: its accounts, and their starts and ends.
//!
//! What is asked of the books is answered at once, under the hub's lock; starts and ends are the supervisor's
//! ([`crate::offspring`]).
//!
//! Key types: [`Office`], the object; [`Brood`], who they are and what is to be told of them.

use crate::hub::{Hub, Member};
use crate::offspring::Launch;
use crate::shared::{Order, Shared};
use rpc::{Bytes, Cap, Signal};
use rt::rpc::{Held, raise};
use services::children::{Closed, Ended, Figures, How, LONGEST, MOST, NotStarted, PART, Refused};
use services::{Children, Parent};
use session::wire::{amount, quota};
use session::{AccountId, BookError, Books, Quota, Shortage};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    /// Those that are to be started, run, or are to be stopped; those last are not wanted.
    alive: BTreeMap<usize, bool>,
    /// What the parent has not been told.
    ended: VecDeque<Ended>,
    signal: Option<Arc<Held<Signal>>>,
}

/// The children of a component.
#[derive(Default)]
pub struct Brood(Mutex<State>);

impl Brood {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one of that number is to run.
    pub fn wants(&self, child: usize) -> bool {
        self.state().alive.get(&child) == Some(&true)
    }

    /// Nothing is left of a child that was to be stopped.
    pub fn stopped(&self, child: usize) {
        self.state().alive.remove(&child);
    }

    /// Nothing is left of a child that has ended by itself.
    pub fn ended(&self, child: usize, how: How, code: u64) {
        let mut state = self.state();
        if state.alive.remove(&child) != Some(true) {
            return;
        }
        state.ended.push_back(Ended { child: child as u64, how, code });
        let signal = state.signal.clone();
        drop(state);
        if let Some(signal) = signal {
            // Nobody is there to hear it: then it does not matter.
            let _ = raise(**signal);
        }
    }

    /// There is nobody to be told.
    pub fn forget(&self) {
        let signal = self.state().signal.take();
        drop(signal);
    }
}

/// The object.
pub struct Office {
    hub: &'static Hub,
    shared: Arc<Shared>,
    member: Arc<Member>,
    /// The description that is being written.
    text: Vec<u8>,
}

fn refused(error: BookError) -> Refused {
    match error {
        BookError::Unknown | BookError::Unused => Refused::Unknown,
        BookError::Unrelated => Refused::Unrelated,
        BookError::Short(Shortage::Ram) => Refused::ShortRam,
        BookError::Short(Shortage::Caps) => Refused::ShortCaps,
    }
}

/// An account that refers to `own`.
fn below(books: &Books, own: AccountId, number: u64) -> Result<AccountId, BookError> {
    let id = AccountId::from_number(number);
    if books.account(id)?.reference == Some(own) { Ok(id) } else { Err(BookError::Unknown) }
}

fn either(books: &Books, own: AccountId, number: u64) -> Result<AccountId, BookError> {
    if number == own.number() { Ok(own) } else { below(books, own, number) }
}

impl Office {
    /// For that component.
    pub fn new(hub: &'static Hub, shared: Arc<Shared>, member: Arc<Member>) -> Office {
        Office { hub, shared, member, text: Vec::new() }
    }

    fn enter<R>(&self, f: impl FnOnce(&mut Books, AccountId) -> Result<R, BookError>) -> Result<R, Refused> {
        self.hub.books(&self.member, f).unwrap_or(Err(BookError::Unknown)).map_err(refused)
    }

    fn amount(amount: services::parent::Amount) -> Result<Quota, Refused> {
        quota(amount).map_err(|_| Refused::Malformed)
    }
}

impl Children for Office {
    fn own(&mut self) -> u64 {
        self.enter(|_, own| Ok(own.number())).unwrap_or(u64::MAX)
    }

    fn account(&mut self, account: u64) -> Result<Figures, Refused> {
        self.enter(|books, own| {
            let a = books.account(either(books, own, account)?)?;
            Ok(Figures {
                granted: amount(a.granted),
                limit: amount(a.limit),
                used: amount(a.used),
                fixed: amount(a.fixed),
                peak: amount(a.peak.used),
                enough: amount(a.peak.enough),
                refused: a.peak.refused,
            })
        })
    }

    fn open(&mut self, more: services::parent::Amount) -> Result<u64, Refused> {
        let quota = Office::amount(more)?;
        self.enter(|books, own| books.open(own, quota).map(AccountId::number))
    }

    fn close(&mut self, account: u64) -> Result<Closed, Refused> {
        self.enter(|books, own| {
            let closed = books.close(below(books, own, account)?)?;
            let (quota, peak) = (amount(closed.quota), closed.peak);
            Ok(Closed { quota, peak: amount(peak.used), enough: amount(peak.enough), refused: peak.refused })
        })
    }

    fn grant(&mut self, to: u64, more: services::parent::Amount) -> Result<(), Refused> {
        let quota = Office::amount(more)?;
        self.enter(|books, own| books.grant(below(books, own, to)?, quota))
    }

    fn reclaim(&mut self, from: u64, less: services::parent::Amount) -> Result<(), Refused> {
        let quota = Office::amount(less)?;
        self.enter(|books, own| books.reclaim(below(books, own, from)?, quota))
    }

    fn transfer(&mut self, from: u64, to: u64, some: services::parent::Amount) -> Result<(), Refused> {
        let quota = Office::amount(some)?;
        self.enter(|books, own| books.transfer(either(books, own, from)?, either(books, own, to)?, quota))
    }

    fn describe(&mut self, part: Bytes<PART>) -> Result<(), NotStarted> {
        if self.text.len() + part.as_slice().len() > LONGEST {
            self.text = Vec::new();
            return Err(NotStarted::Description);
        }
        self.text.extend_from_slice(part.as_slice());
        Ok(())
    }

    fn start(&mut self, account: u64, parent: Cap<dyn Parent>) -> Result<u64, NotStarted> {
        let text = String::from_utf8(std::mem::take(&mut self.text)).map_err(|_| NotStarted::Description)?;
        let account = self.enter(|books, own| below(books, own, account)).map_err(|_| NotStarted::Account)?;
        let mut state = self.member.brood.state();
        if state.alive.len() + state.ended.len() >= MOST {
            return Err(NotStarted::TooMany);
        }
        let index = self.shared.number();
        state.alive.insert(index, true);
        drop(state);
        let parent = Held::keep(parent);
        let launch = Launch { index, of: Arc::clone(&self.member), account, parent, text };
        self.shared.order(vec![Order::Launch(launch)]);
        Ok(index as u64)
    }

    fn stop(&mut self, child: u64) {
        let mut state = self.member.brood.state();
        let Ok(index) = usize::try_from(child) else { return };
        state.ended.retain(|e| e.child != child);
        let wanted = state.alive.get_mut(&index).is_some_and(std::mem::take);
        drop(state);
        if wanted {
            self.shared.order(vec![Order::Dismiss(index)]);
        }
    }

    fn ended(&mut self) -> Option<Ended> {
        self.member.brood.state().ended.pop_front()
    }

    fn heed(&mut self, signal: Signal) {
        let held = Arc::new(Held::keep(signal));
        let mut state = self.member.brood.state();
        let old = state.signal.replace(Arc::clone(&held));
        let told = state.ended.is_empty();
        drop(state);
        drop(old);
        if !told {
            let _ = raise(**held);
        }
    }
}
