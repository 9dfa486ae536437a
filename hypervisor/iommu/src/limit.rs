//! How many faults are reported: so many in a window of time, then none until the window is over.

/// Lines in a window.
pub const LINES: u32 = 16;

/// Counts lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    start: u64,
    used: u32,
}

impl Limit {
    /// Nothing was reported yet.
    pub const fn new() -> Limit {
        Limit { start: 0, used: 0 }
    }

    /// Whether one more line is due at `now`, in ticks; a window takes `window` ticks.
    pub fn admit(&mut self, now: u64, window: u64) -> bool {
        if self.over(now, window) {
            *self = Limit { start: now, used: 0 };
        }
        let admitted = self.used < LINES;
        self.used += u32::from(admitted);
        admitted
    }

    /// Whether no more line is due until the window is over.
    pub fn exhausted(&self) -> bool {
        self.used >= LINES
    }

    /// Whether the window is over.
    pub fn over(&self, now: u64, window: u64) -> bool {
        now.saturating_sub(self.start) >= window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_is_cut_off_and_the_next_window_is_new() {
        let mut l = Limit::new();
        assert_eq!((0..100).filter(|_| l.admit(1000, 500)).count(), LINES as usize);
        assert!(l.exhausted() && !l.over(1499, 500) && l.over(1500, 500));
        assert!(!l.admit(1499, 500) && l.admit(1500, 500));
        assert!(!l.exhausted());
    }

    proptest! {
        #[test]
        fn no_window_has_more_lines_than_two_bursts(mut times in prop::collection::vec(0u64..10_000, 0..400)) {
            times.sort_unstable();
            let mut l = Limit::new();
            let admitted: Vec<u64> = times.into_iter().map(|t| t + 1000).filter(|t| l.admit(*t, 1000)).collect();
            for from in &admitted {
                let inside = admitted.iter().filter(|t| (*from..from + 1000).contains(*t)).count();
                prop_assert!(inside <= 2 * LINES as usize);
            }
        }
    }
}
