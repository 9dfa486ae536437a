//! Core, called: what it has for our children.

use init_logic::Core;
use rpc::Cap;
use rt::rpc::Portal;
use services::ChildrenClient;
use services::children::{Closed, Figures, Refused};
use services::parent::Amount;

/// What core has for our children.
pub fn core() -> ChildrenClient<Portal> {
    ChildrenClient::new(Portal::to(Cap::<dyn services::Children>::from_sel(parent::sel::CHILDREN_SESSION)))
}

/// [`Core`], called.
pub struct Books;

/// That core cannot be called does not happen; then nothing is entered.
fn entered<T>(answer: Result<Result<T, Refused>, rpc::Error>) -> Result<T, Refused> {
    answer.unwrap_or(Err(Refused::Unknown))
}

impl Core for Books {
    fn account(&self, account: u64) -> Result<Figures, Refused> {
        entered(core().account(account))
    }

    fn open(&self, quota: Amount) -> Result<u64, Refused> {
        entered(core().open(quota))
    }

    fn close(&self, account: u64) -> Result<Closed, Refused> {
        entered(core().close(account))
    }

    fn grant(&self, to: u64, quota: Amount) -> Result<(), Refused> {
        entered(core().grant(to, quota))
    }

    fn reclaim(&self, from: u64, quota: Amount) -> Result<(), Refused> {
        entered(core().reclaim(from, quota))
    }

    fn transfer(&self, from: u64, to: u64, quota: Amount) -> Result<(), Refused> {
        entered(core().transfer(from, to, quota))
    }
}
