//! The receive window of a thread: where capabilities arrive, and stay as long as they are used.
//!
//! Key type: [`Window`].

use crate::Uses;
use abi::{Item, Sel};

/// A range of selectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// First of them.
    pub first: Sel,
    /// How many; 0: there is no window.
    pub slots: u64,
}

impl Window {
    /// Slots of a new one: as many as can travel, four times.
    pub const SLOTS: u64 = 4 * Item::MAX as u64;

    /// Whether that slot is in it.
    pub const fn contains(&self, sel: Sel) -> bool {
        self.first <= sel && sel - self.first < self.slots
    }

    /// The slots that nothing is in.
    pub fn free(self, uses: &Uses) -> impl Iterator<Item = Sel> {
        (self.first..self.first + self.slots).filter(move |s| !uses.has(*s))
    }

    /// Whether the capabilities of any message find room.
    pub fn has_room(self, uses: &Uses) -> bool {
        self.free(uses).nth(Item::MAX - 1).is_some()
    }
}
