//! Counted references: who gives up the last count, and only that one, takes the object apart.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use crate::sync::const_fn;

/// How many count on an object.
#[derive(Debug)]
pub struct Count(AtomicU32);

impl Count {
    const_fn! {
        /// One does.
        #[allow(clippy::new_without_default, reason = "a new object with one count is no default")]
        pub fn new() -> Self {
            Count(AtomicU32::new(1))
        }
    }

    /// One more, by somebody who counts already.
    pub fn more(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One more, by somebody who has found the object otherwise. `false`: nobody counts on it any more.
    #[must_use = "without a count the object may go"]
    pub fn try_more(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |n| (n != 0).then(|| n + 1)).is_ok()
    }

    /// One less. `true`: that was the last, and all that the others have done to the object is seen here.
    #[must_use = "the last one takes the object apart"]
    pub fn less(&self) -> bool {
        let last = self.0.fetch_sub(1, Release) == 1;
        if last {
            fence(Acquire);
        }
        last
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Counts taken (`true`) and given up: the last one is told so, and after it there is no more.
        #[test]
        fn one_is_the_last(steps in prop::collection::vec(any::<bool>(), 0..50)) {
            let (count, mut n) = (Count::new(), 1u32);
            for take in steps {
                if take {
                    prop_assert_eq!(count.try_more(), n > 0);
                    n += u32::from(n > 0);
                } else if n > 0 {
                    n -= 1;
                    prop_assert_eq!(count.less(), n == 0);
                }
            }
        }

        #[test]
        fn who_counts_can_count_again(n in 1u32..50) {
            let count = Count::new();
            (1..n).for_each(|_| count.more());
            prop_assert_eq!((0..n).map(|_| count.less()).filter(|last| *last).count(), 1);
            prop_assert!(!count.try_more());
        }
    }
}
