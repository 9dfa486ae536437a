//! What a parent sees of the books: its own account and those of its children. Core keeps them, and answers at once.
//!
//! Key types: [`Bank`], [`Guarded`].

use crate::books::{Account, AccountId, BookError, Books, Closed};
use crate::quota::Quota;

/// Who keeps the books: core itself, or core behind calls.
pub trait Bank {
    /// [`Books::account`].
    fn account(&self, account: AccountId) -> Result<Account, BookError>;
    /// What is free on an account; nothing, if there is none.
    fn free(&self, account: AccountId) -> Quota {
        self.account(account).map_or(Quota::NONE, |account| account.free())
    }
    /// [`Books::transfer`].
    fn transfer(&mut self, from: AccountId, to: AccountId, quota: Quota) -> Result<(), BookError>;
    /// [`Books::open`].
    fn open(&mut self, reference: AccountId, quota: Quota) -> Result<AccountId, BookError>;
    /// [`Books::close`].
    fn close(&mut self, account: AccountId) -> Result<Closed, BookError>;
    /// [`Books::grant`].
    fn grant(&mut self, to: AccountId, quota: Quota) -> Result<(), BookError>;
    /// [`Books::reclaim`].
    fn reclaim(&mut self, from: AccountId, quota: Quota) -> Result<(), BookError>;
}

impl Bank for Books {
    fn account(&self, account: AccountId) -> Result<Account, BookError> {
        Books::account(self, account).copied()
    }

    fn transfer(&mut self, from: AccountId, to: AccountId, quota: Quota) -> Result<(), BookError> {
        Books::transfer(self, from, to, quota)
    }

    fn open(&mut self, reference: AccountId, quota: Quota) -> Result<AccountId, BookError> {
        Books::open(self, reference, quota)
    }

    fn close(&mut self, account: AccountId) -> Result<Closed, BookError> {
        Books::close(self, account)
    }

    fn grant(&mut self, to: AccountId, quota: Quota) -> Result<(), BookError> {
        Books::grant(self, to, quota)
    }

    fn reclaim(&mut self, from: AccountId, quota: Quota) -> Result<(), BookError> {
        Books::reclaim(self, from, quota)
    }
}

/// Transfers over several hops that are undone, the last first, unless they are committed.
pub struct Guarded<'a, B: Bank + ?Sized> {
    bank: &'a mut B,
    done: Vec<(AccountId, AccountId, Quota)>,
}

impl<'a, B: Bank + ?Sized> Guarded<'a, B> {
    /// No transfer yet.
    pub fn new(bank: &'a mut B) -> Guarded<'a, B> {
        Guarded { bank, done: Vec::new() }
    }

    /// One more hop.
    pub fn hop(&mut self, from: AccountId, to: AccountId, quota: Quota) -> Result<(), BookError> {
        self.bank.transfer(from, to, quota)?;
        self.done.push((from, to, quota));
        Ok(())
    }

    /// They are final.
    pub fn commit(mut self) {
        self.done.clear();
    }
}

impl<B: Bank + ?Sized> Drop for Guarded<'_, B> {
    fn drop(&mut self) {
        for (from, to, quota) in self.done.drain(..).rev() {
            // It fails only if an account is gone, or has spent what it got a moment ago: then it is in its limit, and
            // comes back with that.
            let _ = self.bank.transfer(to, from, quota);
        }
    }
}
