//! Typed items: capabilities that travel in messages (extension X1, docs/design/0010).

use super::{Mtd, Sel, UTCB_WORDS};

/// A typed item in a UTCB: selector in bits 63:12, permissions in 4:0; what arrived has in 10:8 what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Item(pub u64);

/// What became of a capability that travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Arrival {
    /// The sender's capability was null, or none of its permissions was left.
    Null = 0,
    /// The receiver had a capability to that object already: this one.
    Known = 1,
    /// It is in a slot of the window that was null before.
    New = 2,
    /// No slot of the window was null.
    Full = 3,
}

impl Item {
    /// Most items of a message.
    pub const MAX: usize = 8;

    /// What a sender writes: its own selector, and the permissions that may arrive.
    pub const fn new(sel: Sel, perms: u8) -> Item {
        Item(sel << 12 | (perms & super::perm::ALL) as u64)
    }

    /// The receiver's selector, what became of the capability, and the receiver's permissions.
    pub const fn arrived(sel: Sel, how: Arrival, perms: u8) -> Item {
        Item(Item::new(sel, perms).0 | (how as u64) << 8)
    }

    /// Selector.
    pub const fn sel(self) -> Sel {
        self.0 >> 12
    }

    /// Permissions.
    pub const fn perms(self) -> u8 {
        self.0 as u8 & super::perm::ALL
    }

    /// The word of the UTCB that item `i` of a message is in.
    pub const fn word(i: usize) -> usize {
        UTCB_WORDS - 1 - i
    }
}

impl Mtd {
    const ITEMS: u32 = 0xf << 16;

    /// The descriptor of a regular message with that many items.
    pub const fn with_items(mtd: u32, items: usize) -> u32 {
        mtd & !Self::ITEMS | (items as u32) << 16 & Self::ITEMS
    }

    /// Number of items of a regular message.
    pub const fn item_count(mtd: u32) -> usize {
        ((mtd & Self::ITEMS) >> 16) as usize
    }
}

/// Most slots of a receive window.
pub const WINDOW_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_round_trip() {
        for how in Arrival::ALL {
            let i = Item::arrived(crate::SEL_NUM - 1, how, 0x15);
            assert_eq!((i.sel(), i.arrival(), i.perms()), (crate::SEL_NUM - 1, Some(how), 0x15));
        }
        assert_eq!(Item::new(1, 0xff), Item(0x101f));
        assert_eq!(Item(4 << 8).arrival(), None);
        assert_eq!(Item::default(), Item::arrived(0, Arrival::Null, 0));
    }

    #[test]
    fn descriptors_hold_words_and_items() {
        let mtd = Mtd::with_items(Mtd::words(512) | 1 << 31 | 0xf << 16, 8);
        assert_eq!((Mtd::word_count(mtd), Mtd::item_count(mtd), mtd >> 31), (512, 8, 1));
        assert_eq!(Mtd::item_count(Mtd::with_items(mtd, 0)), 0);
        assert_eq!((Item::word(0), Item::word(Item::MAX - 1)), (511, 504));
    }
}
