//! Free slots of the own object space.

use crate::lock::{Gate, Lock};
use crate::{domain, space};
use abi::Sel;
use rtlogic::{End, Ranges};

/// Slots that can be in use at a time.
pub const CAPACITY: usize = 32768;
const WORDS: usize = CAPACITY / 64;

static FREE: Lock<Ranges<[u64; WORDS]>> = Lock::new(Ranges::empty());

/// Declares `first..end` free.
pub(crate) fn init(first: Sel, end: Sel) {
    FREE.with(|f| *f = Ranges::new([0; WORDS], first, end.saturating_sub(first)));
}

pub(crate) fn gate() -> &'static Gate {
    FREE.gate()
}

/// A free slot; `None`: all [`CAPACITY`] are in use.
pub fn alloc() -> Option<Sel> {
    alloc_range(1, 1)
}

/// `n` adjacent free slots, the first a multiple of `align` (a power of two).
pub fn alloc_range(n: u64, align: u64) -> Option<Sel> {
    FREE.with(|f| f.alloc(n, align, End::Low))
}

/// How many slots are free.
pub fn free_count() -> u64 {
    FREE.with(|f| f.free_count())
}

/// Nulls a slot and makes it free again. Slots that are not from [`alloc`] are left alone.
pub fn free(s: Sel) {
    free_range(s, 1);
}

/// The same for `n` slots.
pub fn free_range(s: Sel, n: u64) {
    // Null first: from the moment they are free another thread may use them.
    if FREE.with(|f| f.is_taken(s, n)) && space::revoke(domain::own().obj, s, n).is_ok() {
        let _ = FREE.with(|f| f.free(s, n));
    }
}
