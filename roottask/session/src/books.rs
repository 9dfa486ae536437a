//! Books of quota: accounts in a tree, each with what it may use and what it uses.
//!
//! Key types: [`Books`], [`AccountId`], [`Peak`]. `bank` is what parents see of them; a server keeps books of the same
//! kind over the donations of its clients.

use crate::quota::{Quota, Shortage};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// An account. Never another one's, also when this one is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountId(u64);

impl AccountId {
    /// Its number, by which messages name it.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// What a message names, which need not exist.
    pub const fn from_number(number: u64) -> AccountId {
        AccountId(number)
    }
}

/// Why something is not entered into the books. Nothing has changed then.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum BookError {
    /// There is no such account, or it is closed.
    #[error("there is no such account")]
    Unknown,
    /// Neither account is the reference account of the other, or there is none.
    #[error("neither account refers to the other")]
    Unrelated,
    /// The account that pays has too little.
    #[error("too little is free")]
    Short(Shortage),
    /// More is given back than is used.
    #[error("more is given back than is used")]
    Unused,
}

/// What an account, or several after another, used and wanted at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peak {
    /// Most that was in use at a time.
    pub used: Quota,
    /// Most that it took of its own, passed on to others or in use beyond what others have passed to it. With what was
    /// refused: a grant of so much would have been enough.
    pub enough: Quota,
    /// How often something was refused.
    pub refused: u64,
}

impl Peak {
    /// The larger figures of both, refusals added up: for accounts of one kind, as all sessions of a service.
    pub fn with(self, other: Peak) -> Peak {
        let refused = self.refused.saturating_add(other.refused);
        Peak { used: self.used.most(other.used), enough: self.enough.most(other.enough), refused }
    }
}

/// What is left of a closed account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// What went back to its reference account.
    pub quota: Quota,
    /// Its own figures, without those that referred to it.
    pub peak: Peak,
}

/// An account as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The only account that it pays and is paid by, but for those that refer to it.
    pub reference: Option<AccountId>,
    /// What it was granted, less what was reclaimed.
    pub granted: Quota,
    /// What it may use: grants and donations that it received, less those that it made.
    pub limit: Quota,
    /// What it uses.
    pub used: Quota,
    /// How much of that it has used from the beginning, and will to its end.
    pub fixed: Quota,
    /// Most that it used.
    pub peak: Peak,
}

impl Account {
    /// What it may use and does not.
    pub fn free(&self) -> Quota {
        self.limit.without(self.used)
    }

    /// Whether less than an eighth of what it may use, beside what is fixed, is free, and less than 256 KiB if it is RAM: time
    /// for a warning.
    pub fn low(&self) -> bool {
        self.free().lacks(self.limit.without(self.fixed).little()).is_some()
    }

    /// Notes that `more` beyond what is not free is wanted.
    fn measure(&mut self, more: Quota) {
        self.peak.used = self.peak.used.most(self.used);
        let taken = self.granted.plus(more).unwrap_or(self.granted).without(self.free());
        self.peak.enough = self.peak.enough.most(taken);
    }

    fn refuse(&mut self, more: Quota, shortage: Shortage) -> BookError {
        self.peak.refused = self.peak.refused.saturating_add(1);
        self.measure(more);
        BookError::Short(shortage)
    }
}

/// The books. The limits of all accounts add up to what there was at first, always: quota moves, and none is made or
/// lost.
#[derive(Debug)]
pub struct Books {
    accounts: BTreeMap<AccountId, Account>,
    next: u64,
}

impl Books {
    /// Books over `total`, and the account that has it. That one is never closed.
    pub fn new(total: Quota) -> (Books, AccountId) {
        let mut books = Books { accounts: BTreeMap::new(), next: 0 };
        let first = books.insert(None, total);
        (books, first)
    }

    fn insert(&mut self, reference: Option<AccountId>, limit: Quota) -> AccountId {
        let id = AccountId(self.next);
        self.next += 1;
        let (used, fixed, peak) = (Quota::NONE, Quota::NONE, Peak::default());
        self.accounts.insert(id, Account { reference, granted: limit, limit, used, fixed, peak });
        id
    }

    /// An account as it stands.
    pub fn account(&self, id: AccountId) -> Result<&Account, BookError> {
        self.accounts.get(&id).ok_or(BookError::Unknown)
    }

    fn account_mut(&mut self, id: AccountId) -> Result<&mut Account, BookError> {
        self.accounts.get_mut(&id).ok_or(BookError::Unknown)
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.accounts.iter().map(|(&id, account)| (id, account))
    }

    /// A new account that refers to `reference`, which grants it `quota`.
    pub fn open(&mut self, reference: AccountId, quota: Quota) -> Result<AccountId, BookError> {
        self.take(reference, quota)?;
        Ok(self.insert(Some(reference), quota))
    }

    /// Closes an account and those that refer to it; what they may use, whether they use it or not, is the
    /// reference account's again. The first account is not closed.
    pub fn close(&mut self, id: AccountId) -> Result<Closed, BookError> {
        let Account { reference, peak, .. } = *self.account(id)?;
        let reference = reference.ok_or(BookError::Unrelated)?;
        // Who refers to an account has a higher number than that.
        let mut closed = BTreeSet::from([id]);
        for (&other, account) in self.accounts.range(id..) {
            if account.reference.is_some_and(|r| closed.contains(&r)) {
                closed.insert(other);
            }
        }
        let mut quota = Quota::NONE;
        for account in closed.iter().filter_map(|id| self.accounts.remove(id)) {
            quota = quota.plus(account.limit).unwrap_or(quota);
        }
        self.give(reference, quota)?;
        Ok(Closed { quota, peak })
    }

    /// Moves what is free from an account to the one that it refers to, or the other way.
    pub fn transfer(&mut self, from: AccountId, to: AccountId, quota: Quota) -> Result<(), BookError> {
        let (payer, payee) = (self.account(from)?, self.account(to)?);
        if payer.reference != Some(to) && payee.reference != Some(from) {
            return Err(BookError::Unrelated);
        }
        self.take(from, quota)?;
        self.give(to, quota)
    }

    /// A transfer from the reference account that raises what the account was granted.
    pub fn grant(&mut self, to: AccountId, quota: Quota) -> Result<(), BookError> {
        let from = self.account(to)?.reference.ok_or(BookError::Unrelated)?;
        self.take(from, quota)?;
        let account = self.account_mut(to)?;
        // First, so that the grant is not taken for a donation.
        account.granted = account.granted.plus(quota).unwrap_or(account.granted);
        self.give(to, quota)
    }

    /// A transfer of what is free to the reference account that lowers what the account was granted.
    pub fn reclaim(&mut self, from: AccountId, quota: Quota) -> Result<(), BookError> {
        let to = self.account(from)?.reference.ok_or(BookError::Unrelated)?;
        let account = self.account_mut(from)?;
        account.limit = match account.free().lacks(quota) {
            None => account.limit.without(quota),
            Some(shortage) => return Err(BookError::Short(shortage)),
        };
        account.granted = account.granted.without(quota);
        self.give(to, quota)
    }

    /// The account uses so much more.
    pub fn spend(&mut self, id: AccountId, quota: Quota) -> Result<(), BookError> {
        let account = self.account_mut(id)?;
        if let Some(shortage) = account.free().lacks(quota) {
            return Err(account.refuse(quota, shortage));
        }
        account.used = account.used.plus(quota).unwrap_or(account.used);
        account.measure(Quota::NONE);
        Ok(())
    }

    /// The account uses so much more, from its beginning to its end.
    pub fn fix(&mut self, id: AccountId, quota: Quota) -> Result<(), BookError> {
        self.spend(id, quota)?;
        let account = self.account_mut(id)?;
        account.fixed = account.fixed.plus(quota).unwrap_or(account.fixed);
        Ok(())
    }

    /// The account uses so much less.
    pub fn release(&mut self, id: AccountId, quota: Quota) -> Result<(), BookError> {
        let account = self.account_mut(id)?;
        account.used = account.used.minus(quota).map_err(|_| BookError::Unused)?;
        Ok(())
    }

    fn take(&mut self, from: AccountId, quota: Quota) -> Result<(), BookError> {
        let account = self.account_mut(from)?;
        if let Some(shortage) = account.free().lacks(quota) {
            return Err(account.refuse(quota, shortage));
        }
        account.limit = account.limit.without(quota);
        account.measure(Quota::NONE);
        Ok(())
    }

    fn give(&mut self, to: AccountId, quota: Quota) -> Result<(), BookError> {
        let account = self.account_mut(to)?;
        // All limits together are what there was at first: the sum exists.
        account.limit = account.limit.plus(quota).unwrap_or(account.limit);
        Ok(())
    }
}
