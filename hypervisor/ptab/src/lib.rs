//! Page tables for host ([`Hpt`]), guest ([`Ept`], [`Hpt::nested`]) and DMA ([`Dma`]) spaces, the latter two by one format
//! ([`Foreign`]), over an abstract memory ([`TableMemory`]).
//!
//! [`PageTable::update`] maps and revokes, [`PageTable::lookup`] walks. Hardware may walk at the same time: each
//! store takes the tree from one valid state to the next. Frames come from and go to [`TableMemory`]; so does the
//! knowledge of how a physical address is reached, which keeps this crate free of unsafe code.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod audit;
mod dma;
mod foreign;
mod format;
pub mod spec;
mod table;

pub use audit::Audit;
pub use dma::{Dma, Walker};
pub use foreign::Foreign;
pub use format::{Ept, Format, Hpt, IA32_PAT};
pub use table::{Change, Full, Hole, PageTable, top_index};

/// Beside the permissions of a leaf in a host space: it goes no further (X7 in docs/design/0010). No capability has it.
pub const BOUND: abi::perm::Mem = abi::perm::Mem::from_bits_retain(1 << 4);

/// How the engine reaches table frames.
pub trait TableMemory {
    /// Makes sure that the next `count` frames can be had: an update adds all tables on the way to an entry, or none.
    fn reserve(&mut self, count: u32) -> Option<()>;
    /// Takes a zeroed 4 KiB frame and returns its physical address.
    fn alloc(&mut self) -> Option<u64>;
    /// Gives back a frame that is no longer linked. Hardware may still walk it: contents stay as they are, and it is
    /// not used for anything else, until the TLB flush that [`Change::Stale`] asks for is done.
    fn retire(&mut self, frame: u64);
    /// Reads an entry.
    fn read(&self, table: u64, index: usize) -> u64;
    /// Writes an entry in one atomic 8-byte store, not reordered with the stores before it.
    fn write(&mut self, table: u64, index: usize, entry: u64);
}

/// A translation of 2^order pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Physical address of the first byte.
    pub phys: u64,
    /// log2 pages: 0, 9 or 18.
    pub order: u32,
    /// Permissions. Empty: nothing is mapped.
    pub perms: abi::perm::Mem,
    /// Memory attributes.
    pub mad: abi::Mad,
}
