//! Which CPU uses which page table, and which of them has to flush: the two sides of an update of a space.
//!
//! The one who changes a space marks its roots ([`Root::outdate`]) and then asks who is in it ([`Presence::may_be_in`]), to
//! shoot these. A CPU that goes there says so ([`Presence::enter`]) and then looks for the mark
//! ([`Root::take_stale`]). So one of the two sees the other.

use crate::sync::atomic::{AtomicU64, Ordering::*, fence};
use crate::sync::const_fn;

/// Address bits of CR3.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The page table that one CPU walks.
#[derive(Debug)]
#[repr(C)]
pub struct Presence {
    /// CR3, or what is about to be there; while it is loaded, also that before.
    pub root: AtomicU64,
    /// See [`Presence::root`]; 0 when it is loaded.
    pub leaving: AtomicU64,
}

impl Presence {
    const_fn! {
        /// Of a CPU that has not begun.
        pub fn new() -> Self {
            Presence { root: AtomicU64::new(0), leaving: AtomicU64::new(0) }
        }
    }

    /// The CPU is about to load CR3. Then it looks for the root's mark, loads it, and says so ([`Presence::entered`]). It may
    /// also load it and then look for the mark, before it uses the space: loading CR3 is a fence.
    pub fn enter(&self, cr3: u64) {
        self.leaving.store(self.root.load(Relaxed), Release);
        self.root.store(cr3, Release);
    }

    /// It is loaded, and the one before is not in use any more.
    pub fn entered(&self) {
        self.leaving.store(0, Release);
    }

    /// Whether the CPU may use that root without having seen a mark that was set before.
    pub fn may_be_in(&self, root: u64) -> bool {
        // In this order: what is no longer the new one may be the one before.
        self.root.load(Acquire) & ADDRESS == root || self.leaving.load(Acquire) & ADDRESS == root
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}

/// A CPU's root of a space, with the mark that the space was changed. Zeroed memory is a root that was not made.
#[derive(Debug)]
#[repr(transparent)]
pub struct Root(AtomicU64);

/// The space was changed since this CPU last flushed it.
const STALE: u64 = 1;

impl Root {
    const_fn! {
        /// Not made yet.
        pub fn new() -> Self {
            Root(AtomicU64::new(0))
        }
    }

    /// Its physical address, if it was made.
    pub fn get(&self) -> Option<u64> {
        let root = self.0.load(Acquire) & !STALE;
        (root != 0).then_some(root)
    }

    /// Somebody has made it; `false`: another CPU was faster. It is marked: what its CPU knows by the same tag may be
    /// another space's.
    pub fn make(&self, root: u64) -> bool {
        self.0.fetch_update(AcqRel, Relaxed, |r| (r & !STALE == 0).then_some(root | STALE)).is_ok()
    }

    /// Takes the mark off, on its CPU, which flushes if it was there. In one step: a mark that is set in between must not
    /// be lost.
    pub fn take_stale(&self) -> bool {
        self.0.fetch_and(!STALE, AcqRel) & STALE != 0
    }

    /// Whether it is marked: enough for a CPU that was in the space before, which is shot if a mark follows.
    pub fn is_stale(&self) -> bool {
        self.0.load(Acquire) & STALE != 0
    }

    /// Marks the roots of a space whose tables were changed. Also those that are not made: who makes one later then
    /// knows of the change, which a mere look would not bring about.
    pub fn outdate<'a>(roots: impl Iterator<Item = &'a Root>) {
        for r in roots {
            r.0.fetch_or(STALE, AcqRel);
        }
        // Before the caller looks who is in them.
        fence(SeqCst);
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_roots_count_while_one_is_loaded() {
        let p = Presence::default();
        let inside = |p: &Presence| [1, 2, 3].map(|r| p.may_be_in(r << 12));
        p.enter(1 << 12);
        p.entered();
        assert_eq!(inside(&p), [true, false, false]);
        p.enter(2 << 12);
        assert_eq!(inside(&p), [true, true, false]);
        p.entered();
        assert_eq!(inside(&p), [false, true, false]);
    }

    #[test]
    fn a_root_is_stale_once_for_all_changes_before() {
        let r = [Root::default(), Root::default()];
        Root::outdate(r.iter());
        assert_eq!(r[0].get(), None, "a mark does not make it");
        assert!(r[0].make(0x5000) && !r[0].make(0x6000), "the first stays");
        assert!(r[0].is_stale() && r[0].take_stale() && !r[0].is_stale() && !r[0].take_stale());
        Root::outdate(r.iter());
        Root::outdate(r.iter());
        assert_eq!(r[0].get(), Some(0x5000));
        assert!(r[0].take_stale() && !r[0].take_stale());
    }
}
