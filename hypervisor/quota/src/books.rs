//! The books of one account: a limit and a use in one word, so that each entry is one atomic step and no reader ever
//! sees more used than the limit allows.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The word that books are kept in; tests put in one whose interleavings they choose.
pub trait Word {
    /// Its value.
    fn get(&self) -> u64;
    /// Replaces `old` by `new`; else what is there instead.
    fn replace(&self, old: u64, new: u64) -> Result<(), u64>;
}

impl Word for AtomicU64 {
    fn get(&self) -> u64 {
        self.load(SeqCst)
    }

    fn replace(&self, old: u64, new: u64) -> Result<(), u64> {
        self.compare_exchange(old, new, SeqCst, SeqCst).map(drop)
    }
}

/// Whether an entry was the first use of an account that was not in use, or ended its use: who keeps the account in place
/// while it is used has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It is in use as before.
    Inside,
    /// Use began, or ended.
    Crossed,
}

/// Limit and use of an account, in frames.
///
/// Frames are in the limit of exactly one account; those that are on their way from one to another are in none. So the
/// limits never add up to more than there was at first, and to just that when nothing is under way.
#[derive(Debug)]
pub struct Books<W = AtomicU64> {
    /// Limit in the upper half, use in the lower.
    word: W,
}

const fn pack(limit: u32, used: u32) -> u64 {
    (limit as u64) << 32 | used as u64
}

const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

impl Books {
    /// Books with a limit, nothing used.
    pub const fn new(limit: u32) -> Books {
        Books { word: AtomicU64::new(pack(limit, 0)) }
    }
}

impl<W: Word> Books<W> {
    /// Books in a word that holds 0.
    pub const fn within(word: W) -> Self {
        Books { word }
    }

    /// Limit and use at one moment.
    pub fn read(&self) -> (u32, u32) {
        unpack(self.word.get())
    }

    /// Makes an entry, or none if `f` says so. Returns what was there before.
    fn enter(&self, f: impl Fn(u32, u32) -> Option<(u32, u32)>) -> Option<(u32, u32)> {
        let mut old = self.word.get();
        loop {
            let (limit, used) = unpack(old);
            let (new_limit, new_used) = f(limit, used)?;
            match self.word.replace(old, pack(new_limit, new_used)) {
                Ok(()) => return Some((limit, used)),
                Err(now) => old = now,
            }
        }
    }

    /// Uses `n` frames more. `None`: they are not there, and nothing has changed.
    pub fn charge(&self, n: u32) -> Option<Edge> {
        let (_, used) =
            self.enter(|limit, used| used.checked_add(n).filter(|u| *u <= limit).map(|used| (limit, used)))?;
        Some(if used == 0 && n > 0 { Edge::Crossed } else { Edge::Inside })
    }

    /// Uses `n` frames less, which were charged before. More than that counts as all.
    pub fn release(&self, n: u32) -> Edge {
        let before = self.enter(|limit, used| Some((limit, used.saturating_sub(n))));
        match before {
            Some((_, used)) if used > 0 && used <= n => Edge::Crossed,
            _ => Edge::Inside,
        }
    }

    /// Takes `n` unused frames out. `false`: there are not that many, and nothing has changed.
    pub fn withdraw(&self, n: u32) -> bool {
        self.enter(|limit, used| limit.checked_sub(n).filter(|l| *l >= used).map(|limit| (limit, used))).is_some()
    }

    /// Puts `n` frames in, which were withdrawn elsewhere.
    pub fn deposit(&self, n: u32) {
        // There are not so many frames that the sum of all limits would not fit.
        self.enter(|limit, used| Some((limit.saturating_add(n), used)));
    }

    /// Takes all unused frames out, and says how many.
    pub fn withdraw_all(&self) -> u32 {
        let before = self.enter(|_, used| Some((used, used)));
        before.map_or(0, |(limit, used)| limit - used)
    }

    /// Moves `n` unused frames to other books, or to the same. `false`: there are not that many.
    pub fn transfer<V: Word>(&self, to: &Books<V>, n: u32) -> bool {
        let there = self.withdraw(n);
        if there {
            to.deposit(n);
        }
        there
    }
}
