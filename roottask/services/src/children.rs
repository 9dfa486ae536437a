//! Children of a component: their accounts, their starts and ends.
//!
//! Key types: [`Children`]; [`Figures`], an account; [`Ended`].

use crate::Parent;
use crate::parent::Amount;
use rpc::{Bytes, Cap};

/// Most that one call adds to a description, in bytes.
pub const PART: usize = 2048;
/// Longest description of a child in bytes.
pub const LONGEST: usize = 64 << 10;
/// Most children of a component that run, or of which it has not fetched the end.
pub const MOST: usize = 256;

/// Why nothing is entered into the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum Refused {
    /// There is no such account, or it is closed, or neither the caller's nor one that refers to that.
    Unknown = 1,
    /// Neither account is the reference account of the other.
    Unrelated = 2,
    /// The account that pays has too little RAM.
    ShortRam = 3,
    /// The account that pays has too few capabilities.
    ShortCaps = 4,
    /// An amount is none: no whole pages.
    Malformed = 5,
}

/// Why a child is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum NotStarted {
    /// The account is none that refers to the caller's.
    Account = 1,
    /// There are [`MOST`].
    TooMany = 2,
    /// The description is longer than [`LONGEST`], or no text.
    Description = 3,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum How {
    /// It said so itself, with that code.
    Exit = 1,
    /// An exception.
    Fault = 2,
    /// It could not be started; core's log says why.
    NotStarted = 3,
}

record! {
    /// An account as it stands.
    #[derive(Copy, Default)]
    Figures {
        /// What it was granted, less what was reclaimed.
        granted: Amount,
        /// What it may use.
        limit: Amount,
        /// What it uses.
        used: Amount,
        /// How much of that from its beginning to its end.
        fixed: Amount,
        /// Most that was in use at a time.
        peak: Amount,
        /// A grant of so much would have been enough.
        enough: Amount,
        /// How often something was refused.
        refused: u64,
    }
}

record! {
    /// What is left of a closed account.
    #[derive(Copy, Default)]
    Closed {
        /// What is the reference account's again.
        quota: Amount,
        /// Most that was in use at a time.
        peak: Amount,
        /// A grant of so much would have been enough.
        enough: Amount,
        /// How often something was refused.
        refused: u64,
    }
}

record! {
    /// The end of a child.
    #[derive(Copy)]
    Ended {
        /// Which.
        child: u64,
        /// How.
        how: How,
        /// Its exit code.
        code: u64,
    }
}

/// What a component that may have children has at core. Accounts are named by numbers; what is said of *an account* holds
/// for the caller's own, and for those that refer to it. Core keeps the books. All calls are answered at once; that a
/// child has ended is told by a signal.
///
/// A child's RAM comes out of what the caller has free, and so does, beside its account, what its image, start
/// information and configuration take. Kernel memory for it comes out of what is set apart for the caller's children.
/// When the caller ends so do its children first, and theirs.
#[rpc::interface(version = "1.0", ram = "0", caps = 1)]
pub trait Children {
    /// The caller's own account.
    fn own(&mut self) -> u64;
    /// An account.
    fn account(&mut self, account: u64) -> Result<Figures, Refused>;
    /// A new account that refers to the caller's, which grants it so much.
    fn open(&mut self, quota: Amount) -> Result<u64, Refused>;
    /// Closes an account that refers to the caller's, and those below it; what they may use is the caller's again.
    fn close(&mut self, account: u64) -> Result<Closed, Refused>;
    /// Grants more to an account that refers to the caller's.
    fn grant(&mut self, to: u64, quota: Amount) -> Result<(), Refused>;
    /// Takes of what is free there, and was granted.
    fn reclaim(&mut self, from: u64, quota: Amount) -> Result<(), Refused>;
    /// Moves what is free between the caller's account and one that refers to it.
    fn transfer(&mut self, from: u64, to: u64, quota: Amount) -> Result<(), Refused>;
    /// Adds to the description of the child that is started next.
    fn describe(&mut self, part: Bytes<PART>) -> Result<(), NotStarted>;
    /// Starts a child, described by one `[[component]]` in TOML, on an account that refers to the caller's. `parent` is what it
    /// has as its parent on all its CPUs. Says what it is called here.
    fn start(&mut self, account: u64, parent: Cap<dyn Parent>) -> Result<u64, NotStarted>;
    /// Ends a child: nothing of it will be left. There is no news of that, nor of one that has ended by itself meanwhile.
    fn stop(&mut self, child: u64);
    /// The next end of a child; of that nothing is left.
    fn ended(&mut self) -> Option<Ended>;
    /// What is raised when a child has ended, in place of what was before.
    fn heed(&mut self, signal: rpc::Signal);
}
