//! Shoot-downs: one CPU wants others to flush something, and waits until they have.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::sync::const_fn;

/// What others want of one CPU, and how far it is with it.
///
/// To shoot: [`Requests::ask`] each CPU and interrupt it; then wait for each until [`Requests::answered`], answering what
/// is asked of oneself meanwhile. Who has waited knows that the other has done what was wanted after it was asked.
#[derive(Debug)]
pub struct Requests {
    /// What is wanted, as the bits of all requests that are not answered.
    wanted: AtomicU32,
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Requests {
    const_fn! {
        /// Nothing was asked yet.
        pub fn new() -> Self {
            Requests { wanted: AtomicU32::new(0), asked: AtomicU64::new(0), answered: AtomicU64::new(0) }
        }
    }

    /// Asks for `what`. An interrupt has to follow, since the CPU may not be looking.
    pub fn ask(&self, what: u32) {
        self.wanted.fetch_or(what, AcqRel);
        self.asked.fetch_add(1, AcqRel);
    }

    /// Requests so far: what to wait for after [`Requests::ask`].
    pub fn asked(&self) -> u64 {
        self.asked.load(Acquire)
    }

    /// Whether that many requests are answered.
    pub fn answered(&self, asked: u64) -> bool {
        self.answered.load(Acquire) >= asked
    }

    /// Has the CPU that they were asked of do what is wanted, which may be nothing but to answer. Only that CPU may call
    /// it.
    pub fn answer(&self, act: impl FnOnce(u32)) {
        // Looked at before what is wanted: of the requests that this answers nothing is left out.
        let asked = self.asked.load(Acquire);
        if self.answered.load(Relaxed) == asked {
            return;
        }
        act(self.wanted.swap(0, AcqRel));
        self.answered.store(asked, Release);
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// One CPU alone: each answer does all that was asked since the last, and nothing twice.
        #[test]
        fn each_request_is_done_once(rounds in prop::collection::vec(prop::collection::vec(0u32..8, 0..4), 0..20)) {
            let r = Requests::default();
            for asked in rounds {
                for what in &asked {
                    r.ask(*what);
                    prop_assert!(!r.answered(r.asked()));
                }
                let mut done = None;
                r.answer(|w| done = Some(w));
                prop_assert_eq!(done, (!asked.is_empty()).then(|| asked.iter().fold(0, |a, w| a | w)));
                prop_assert!(r.answered(r.asked()));
                r.answer(|_| panic!("answered twice"));
            }
        }
    }
}
