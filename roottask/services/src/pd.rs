//! The protection domain of a component: its quota, and the RAM that it takes from it.

use crate::Dataspace;
use core::fmt;
use rpc::Cap;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// One currency of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable, rpc::Value)]
#[repr(C)]
pub struct Account {
    /// What may be used: what was granted and donated to it, less what it has donated.
    pub limit: u64,
    /// What is used.
    pub used: u64,
    /// The most that was ever used.
    pub peak: u64,
}

/// Why there is no RAM, or nothing is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(u64)]
pub enum NoQuotaReason {
    /// No whole pages, none, or more than there are.
    Size = 1,
    /// The account has too little RAM.
    Ram = 2,
    /// The account has too few capabilities.
    Caps = 3,
    /// The machine has no such contiguous memory, or core none for its books.
    Machine = 4,
    /// The component has as many dataspaces as it may.
    TooMany = 5,
    /// The other account neither refers to this one nor is referred to by it.
    Unrelated = 6,
    /// The component has ended.
    Ended = 7,
}

/// The same with figures: bytes, or capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable, rpc::Value)]
#[repr(C)]
pub struct NoQuota {
    /// Why.
    pub why: NoQuotaReason,
    /// What was asked for.
    pub asked: u64,
    /// What is free.
    pub free: u64,
}

impl fmt::Display for NoQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoQuota { why, asked, free } = *self;
        match why {
            NoQuotaReason::Size => write!(f, "{asked:#x} bytes are no whole pages, none, or more than there are"),
            NoQuotaReason::Ram => write!(f, "{} KiB asked, {} KiB of the quota free", asked >> 10, free >> 10),
            NoQuotaReason::Caps => write!(f, "{asked} capabilities asked, {free} of the quota free"),
            NoQuotaReason::Machine => write!(f, "{} KiB asked, the machine has {} KiB free", asked >> 10, free >> 10),
            NoQuotaReason::TooMany => write!(f, "the component has {free} dataspaces, and may have no more"),
            NoQuotaReason::Unrelated => write!(f, "neither account refers to the other"),
            NoQuotaReason::Ended => write!(f, "the component has ended"),
        }
    }
}

/// What is named is no dataspace of this component's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum NotYours {
    /// It has freed it, or it is another one's.
    NotYours = 1,
}

/// A component's protection domain: its quota, and RAM for dataspaces from it.
#[rpc::interface(version = "1.0", ram = "0", caps = 1)]
pub trait Pd {
    /// A new dataspace of so many bytes of RAM, zeroed, whole pages, contiguous. It costs that much, and a capability.
    fn alloc(&mut self, size: u64) -> Result<Cap<dyn Dataspace>, NoQuota>;
    /// It is not needed any more. Nobody can attach it from now on; whoever has it attached keeps that, and it is paid until
    /// the last one has detached it.
    fn free(&mut self, dataspace: Cap<dyn Dataspace>) -> Result<(), NotYours>;
    /// As `free`, and it is detached wherever it is attached: who looks there faults. But rings of a session break
    /// ([`stream`](crate::Rm::stream)).
    fn withdraw(&mut self, dataspace: Cap<dyn Dataspace>) -> Result<(), NotYours>;
    /// RAM in bytes.
    fn ram(&mut self) -> Account;
    /// Capabilities.
    fn caps(&mut self) -> Account;
}
