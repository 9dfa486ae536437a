//! Amounts of what components trade: RAM and capabilities.
//!
//! Key type: [`Quota`]. Used by all modules that pay for something.

use std::fmt;

const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Most pages: their bytes fit into a `u64`.
const MAX_PAGES: u64 = u64::MAX / PAGE;
/// 256 KiB.
const LITTLE_PAGES: u64 = 64;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// RAM, and perhaps capabilities, too.
    Ram,
    /// Capabilities only.
    Caps,
}

/// An amount of RAM, in whole pages, and of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    pages: u64,
    caps: u64,
}

impl Quota {
    /// Nothing.
    pub const NONE: Quota = Quota { pages: 0, caps: 0 };

    /// So many bytes and capabilities; `None` if these are no whole pages.
    pub const fn new(ram_bytes: u64, caps: u64) -> Option<Quota> {
        if ram_bytes.is_multiple_of(PAGE) { Some(Quota { pages: ram_bytes / PAGE, caps }) } else { None }
    }

    /// RAM in bytes.
    pub const fn ram(self) -> u64 {
        self.pages * PAGE
    }

    /// Capabilities.
    pub const fn caps(self) -> u64 {
        self.caps
    }

    /// Whether it is nothing.
    pub fn is_none(self) -> bool {
        self == Quota::NONE
    }

    /// What `other` needs and this does not have.
    pub const fn lacks(self, other: Quota) -> Option<Shortage> {
        match (other.pages > self.pages, other.caps > self.caps) {
            (true, _) => Some(Shortage::Ram),
            (false, true) => Some(Shortage::Caps),
            (false, false) => None,
        }
    }

    /// The sum, unless there is no such amount.
    pub fn plus(self, other: Quota) -> Option<Quota> {
        let pages = self.pages.checked_add(other.pages).filter(|&pages| pages <= MAX_PAGES)?;
        Some(Quota { pages, caps: self.caps.checked_add(other.caps)? })
    }

    /// The difference, or what is lacking.
    pub fn minus(self, other: Quota) -> Result<Quota, Shortage> {
        match self.lacks(other) {
            None => Ok(self.without(other)),
            Some(shortage) => Err(shortage),
        }
    }

    /// The difference of each, or none where the other is larger.
    pub fn without(self, other: Quota) -> Quota {
        self.each(other, u64::saturating_sub)
    }

    /// The smaller of each.
    pub fn least(self, other: Quota) -> Quota {
        self.each(other, u64::min)
    }

    /// The larger of each.
    pub fn most(self, other: Quota) -> Quota {
        self.each(other, u64::max)
    }

    /// An eighth of each, rounded down; of RAM 256 KiB at most, as most components need no more for what comes later.
    pub(crate) fn little(self) -> Quota {
        Quota { pages: (self.pages / 8).min(LITTLE_PAGES), caps: self.caps / 8 }
    }

    fn each(self, other: Quota, f: impl Fn(u64, u64) -> u64) -> Quota {
        Quota { pages: f(self.pages, other.pages), caps: f(self.caps, other.caps) }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB, {} capabilities", self.ram() >> 10, self.caps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota(pages: u64, caps: u64) -> Quota {
        Quota::new(pages * PAGE, caps).unwrap()
    }

    #[test]
    fn ram_is_in_whole_pages() {
        assert_eq!(Quota::new(8192, 3).map(|q| (q.ram(), q.caps())), Some((8192, 3)));
        assert_eq!(Quota::new(8193, 3), None);
        assert_eq!(quota(2, 3).to_string(), "8 KiB, 3 capabilities");
        assert!(quota(0, 0).is_none() && !quota(0, 1).is_none() && !quota(1, 0).is_none());
    }

    #[test]
    fn ram_is_asked_for_first() {
        assert_eq!(quota(1, 1).lacks(quota(2, 2)), Some(Shortage::Ram));
        assert_eq!(quota(2, 1).lacks(quota(2, 2)), Some(Shortage::Caps));
        assert_eq!(quota(2, 2).lacks(quota(2, 2)), None);
        assert_eq!(quota(2, 1).minus(quota(1, 2)), Err(Shortage::Caps));
        assert_eq!(quota(20, 7).little(), quota(2, 0));
        assert_eq!(
            [520, 511, 1 << 40].map(|pages| quota(pages, 0).little()),
            [64, 63, 64].map(|pages| quota(pages, 0))
        );
    }

    #[test]
    fn there_is_no_amount_beyond_64_bits() {
        let most = Quota::new(MAX_PAGES * PAGE, u64::MAX).unwrap();
        assert_eq!(most.plus(quota(1, 0)), None);
        assert_eq!(most.plus(quota(0, 1)), None);
        assert_eq!(most.plus(Quota::NONE), Some(most));
        assert_eq!(most.ram(), u64::MAX - 4095);
    }

    proptest! {
        #[test]
        fn what_was_added_can_be_taken_off(a in 0u64..99, b in 0u64..99, c in 0u64..99, d in 0u64..99) {
            let (x, y) = (quota(a, b), quota(c, d));
            let sum = x.plus(y).unwrap();
            prop_assert_eq!(sum.minus(y), Ok(x));
            prop_assert_eq!(x.without(y).plus(x.least(y)), Some(x));
            prop_assert_eq!(x.most(y).plus(x.least(y)), Some(sum));
            prop_assert_eq!(x.lacks(y).is_none(), x.minus(y).is_ok());
        }
    }
}
