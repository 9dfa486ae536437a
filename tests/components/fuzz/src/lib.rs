//! Which hypercall comes next: the logic of the fuzzer, without any authority. It runs inside a protection domain that
//! may perish, so it uses no statics, no heap and no thread-local data.
//!
//! Key types: [`Fuzzer`], whose [`Fuzzer::next`] makes a [`Call`] and whose [`Fuzzer::learn`] hears what came of it;
//! [`Place`], where things are; [`Random`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod calls;
mod random;
mod slots;

pub use calls::{Call, Place};
pub use random::Random;
pub use slots::{Kind, SLOTS, WORKERS, fixed};

use abi::Status;
use slots::Slots;

/// Hypercall numbers.
pub const NUMBERS: usize = 16;
/// Status codes; what the specification does not know counts as the last.
pub const STATUSES: usize = 13;

/// A sequence of calls: the same for the same seed, as long as the same comes of them.
#[derive(Clone, Debug)]
pub struct Fuzzer {
    random: Random,
    slots: Slots,
    place: Place,
}

impl Fuzzer {
    /// Nothing is made yet.
    pub fn new(seed: u64, place: Place) -> Fuzzer {
        Fuzzer { random: Random::new(seed), slots: Slots::new(place.worker), place }
    }

    /// The next call, at time `now`.
    pub fn next(&mut self, now: u64) -> Call {
        calls::next(&mut self.random, &self.slots, &self.place, now)
    }

    /// What came of a call.
    pub fn learn(&mut self, call: &Call, status: u64) {
        if status == Status::Success as u64 {
            self.slots.learn(call);
        }
    }
}

/// Index of a status among [`STATUSES`].
pub fn status_index(register: u64) -> usize {
    ((register & 0xff) as usize).min(STATUSES - 1)
}

#[cfg(test)]
mod tests;
