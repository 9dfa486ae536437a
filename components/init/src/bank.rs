//! The books behind calls to core.
//!
//! Key types: [`Remote`], a bank; [`Core`], who is called.

use services::children::{Closed as Left, Figures, Refused};
use services::parent::Amount;
use session::wire::{amount, quota};
use session::{Account, AccountId, Bank, BookError, Closed, Peak, Quota, Shortage};

/// What core is asked: `services::Children`, without its errors of transport.
pub trait Core {
    /// An account.
    fn account(&self, account: u64) -> Result<Figures, Refused>;
    /// A new one below the own.
    fn open(&self, quota: Amount) -> Result<u64, Refused>;
    /// Closes one.
    fn close(&self, account: u64) -> Result<Left, Refused>;
    /// Grants more.
    fn grant(&self, to: u64, quota: Amount) -> Result<(), Refused>;
    /// Takes of what was granted.
    fn reclaim(&self, from: u64, quota: Amount) -> Result<(), Refused>;
    /// Moves what is free.
    fn transfer(&self, from: u64, to: u64, quota: Amount) -> Result<(), Refused>;
}

/// The books.
pub struct Remote<C> {
    core: C,
    own: AccountId,
}

fn error(refused: Refused) -> BookError {
    match refused {
        Refused::Unknown | Refused::Malformed => BookError::Unknown,
        Refused::Unrelated => BookError::Unrelated,
        Refused::ShortRam => BookError::Short(Shortage::Ram),
        Refused::ShortCaps => BookError::Short(Shortage::Caps),
    }
}

/// What core says is an amount.
fn said(amount: Amount) -> Quota {
    quota(amount).unwrap_or_default()
}

impl<C: Core> Remote<C> {
    /// With that account of one's own.
    pub fn new(core: C, own: AccountId) -> Remote<C> {
        Remote { core, own }
    }
}

impl<C: Core> Bank for Remote<C> {
    fn account(&self, account: AccountId) -> Result<Account, BookError> {
        let f = self.core.account(account.number()).map_err(error)?;
        Ok(Account {
            reference: (account != self.own).then_some(self.own),
            granted: said(f.granted),
            limit: said(f.limit),
            used: said(f.used),
            fixed: said(f.fixed),
            peak: Peak { used: said(f.peak), enough: said(f.enough), refused: f.refused },
        })
    }

    fn transfer(&mut self, from: AccountId, to: AccountId, quota: Quota) -> Result<(), BookError> {
        if quota.is_none() {
            return Ok(());
        }
        self.core.transfer(from.number(), to.number(), amount(quota)).map_err(error)
    }

    fn open(&mut self, reference: AccountId, quota: Quota) -> Result<AccountId, BookError> {
        if reference != self.own {
            return Err(BookError::Unrelated);
        }
        self.core.open(amount(quota)).map(AccountId::from_number).map_err(error)
    }

    fn close(&mut self, account: AccountId) -> Result<Closed, BookError> {
        let left = self.core.close(account.number()).map_err(error)?;
        let peak = Peak { used: said(left.peak), enough: said(left.enough), refused: left.refused };
        Ok(Closed { quota: said(left.quota), peak })
    }

    fn grant(&mut self, to: AccountId, quota: Quota) -> Result<(), BookError> {
        self.core.grant(to.number(), amount(quota)).map_err(error)
    }

    fn reclaim(&mut self, from: AccountId, quota: Quota) -> Result<(), BookError> {
        self.core.reclaim(from.number(), amount(quota)).map_err(error)
    }
}
