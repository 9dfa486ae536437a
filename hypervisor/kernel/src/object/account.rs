//! Account of kernel memory (docs/design/0010, X2): what a protection domain and all that it owns may take of the pool.
//!
//! An account stays as long as a PD refers to it or a frame is charged to it. Then its frames go back to where they came
//! from. Two exist from the start: [`KERNEL`], which what is made during boot is charged to, and [`ROOT`], which gets the
//! rest when the root task starts.

use super::kernel_object;
use crate::mem::refs::{self, Header, Object, Ref};
use crate::mem::slab::Slabs;
use core::ptr::NonNull;
use quota::{Books, Edge};

/// Account.
#[repr(C, align(64))]
pub struct Account {
    header: Header,
    books: Books,
    /// Where its frames came from.
    parent: Option<Ref<Account>>,
    /// Frames for objects.
    pub slabs: Slabs,
}
kernel_object!(Account, Account);

/// What the kernel itself needs.
pub static KERNEL: Account = Account::first();
/// The account of the root protection domain.
pub static ROOT: Account = Account::first();

impl Account {
    const fn first() -> Account {
        Account { header: Header::new(Self::KIND), books: Books::new(0), parent: None, slabs: Slabs::new() }
    }

    /// An account with frames of another one, which also pays for it. `None`: that has not that many unused, or no memory.
    pub fn create(parent: &'static Account, frames: u32) -> Option<Ref<Account>> {
        let room = refs::Room::new(parent)?;
        if !parent.books.withdraw(frames) {
            return None;
        }
        let (books, slabs) = (Books::new(frames), Slabs::new());
        Some(room.fill(Account { header: Header::new(Self::KIND), books, parent: Some(parent.hold()), slabs }))
    }

    /// Counts on it.
    pub fn hold(&'static self) -> Ref<Account> {
        Ref::from_found(self)
    }

    /// Frames that it may use, and that it uses.
    pub fn read(&self) -> (u32, u32) {
        self.books.read()
    }

    /// Puts frames of the pool in that no account has.
    pub fn endow(&self, frames: u32) {
        self.books.deposit(frames);
    }

    /// Moves unused frames to another account. `false`: there are not that many.
    pub fn transfer(&self, to: &Account, frames: u32) -> bool {
        self.books.transfer(&to.books, frames)
    }

    /// Moves all unused frames to another account.
    pub fn transfer_all(&self, to: &Account) {
        to.books.deposit(self.books.withdraw_all());
    }

    /// Uses frames more. `false`: they are not there.
    pub fn charge(&'static self, frames: u32) -> bool {
        let edge = self.books.charge(frames);
        if edge == Some(Edge::Crossed) {
            // While it is used it counts on itself. Until here, who charges it does.
            self.hold().into_address();
        }
        edge.is_some()
    }

    /// Uses frames less, which were charged. The last may be the end of the account.
    pub fn refund(&'static self, frames: u32) {
        if self.books.release(frames) == Edge::Crossed {
            // SAFETY: the count of `charge`.
            unsafe { refs::release(NonNull::from(self).cast()) };
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(p) = &self.parent {
            self.transfer_all(p);
        }
    }
}
