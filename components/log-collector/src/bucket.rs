//! How many lines a client may write: so many at once, and from then on so many a second.

/// Tokens are counted in millionths, one for each µs and line a second.
const TOKEN: u64 = 1_000_000;

/// A token bucket; a line takes a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens: u64,
    filled_us: u64,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(burst: u32, now_us: u64) -> Bucket {
        Bucket { tokens: u64::from(burst) * TOKEN, filled_us: now_us }
    }

    /// Takes a token, if there is one. Time that goes back is time that stands still.
    pub(crate) fn take(&mut self, burst: u32, rate: u32, now_us: u64) -> bool {
        self.fill(burst, rate, now_us);
        let left = self.tokens.checked_sub(TOKEN);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    fn fill(&mut self, burst: u32, rate: u32, now_us: u64) {
        let passed = now_us.saturating_sub(self.filled_us);
        self.filled_us = self.filled_us.max(now_us);
        let new = passed.saturating_mul(rate.into());
        self.tokens = self.tokens.saturating_add(new).min(u64::from(burst) * TOKEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut b = Bucket::new(3, 0);
        let mut take = |us| b.take(3, 10, us);
        assert!(take(0) && take(0) && take(0) && !take(0));
        assert!(!take(99_999) && take(100_000) && !take(100_000));
        assert!(!take(50_000), "back");
        assert!(take(u64::MAX) && take(u64::MAX) && take(u64::MAX) && !take(u64::MAX), "no more than a burst");
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            burst in 1u32..50,
            rate in 0u32..100,
            steps in prop::collection::vec(0u64..50_000, 1..300),
        ) {
            let mut b = Bucket::new(burst, 0);
            let (mut now, mut taken) = (0, 0);
            for step in steps {
                now += step;
                taken += u64::from(b.take(burst, rate, now));
                prop_assert!(taken <= u64::from(burst) + now * u64::from(rate) / 1_000_000);
            }
        }
    }
}
