//! When the root task looks at the clock: not each time that something is decided, and not later because of that either.
//!
//! Key type: [`Ticks`]. Times are nanoseconds since some moment.

/// When the last tick was, and whether something was decided since.
#[derive(Debug)]
pub struct Ticks {
    shortest: u64,
    longest: u64,
    last: u64,
    stirred: Option<u64>,
}

impl Ticks {
    /// No two ticks are closer to each other than `shortest`, and what is decided is followed by one after `longest` at the
    /// latest.
    pub const fn new(shortest: u64, longest: u64) -> Ticks {
        Ticks { shortest, longest, last: 0, stirred: None }
    }

    /// Something was decided. `true`: for the first time since the last tick.
    pub fn stir(&mut self, now: u64) -> bool {
        let first = self.stirred.is_none();
        self.stirred.get_or_insert(now);
        first
    }

    /// A tick begins.
    pub fn begin(&mut self, now: u64) {
        (self.last, self.stirred) = (now, None);
    }

    /// When the next tick is, if there is something to do at `due`; `None`: not before something has happened.
    pub fn next(&self, due: Option<u64>) -> Option<u64> {
        let late = self.stirred.map(|at| at.saturating_add(self.longest));
        due.into_iter().chain(late).min().map(|next| next.max(self.last.saturating_add(self.shortest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICKS: Ticks = Ticks::new(50, 1000);

    #[test]
    fn a_tick_comes_when_it_is_due_but_not_too_soon() {
        let mut t = TICKS;
        assert_eq!(t.next(None), None);
        assert_eq!(t.next(Some(700)), Some(700));
        t.begin(690);
        assert_eq!(t.next(Some(700)), Some(740));
        assert_eq!(t.next(Some(0)), Some(740), "what was due already");
        assert_eq!(t.next(None), None);
    }

    #[test]
    fn what_is_decided_is_followed_by_a_tick() {
        let mut t = TICKS;
        t.begin(100);
        assert!(t.stir(200) && !t.stir(210));
        assert_eq!(t.next(None), Some(1200));
        assert_eq!(t.next(Some(300)), Some(300));
        t.begin(300);
        assert_eq!(t.next(None), None);
        assert!(t.stir(310));
    }

    proptest! {
        /// However often something is decided or looked at, and orders come, the tick that is due comes.
        #[test]
        fn nobody_puts_a_tick_off(due in 0u64..5000, steps in prop::collection::vec((0u64..60, any::<bool>()), 0..400)) {
            let (mut t, mut now, mut ticked) = (TICKS, 0, None);
            for (passes, stirs) in steps {
                now += passes;
                if stirs {
                    t.stir(now);
                }
                if t.next(Some(due)).is_some_and(|next| next <= now) {
                    prop_assert!(now >= due || t.stirred.is_some());
                    prop_assert!(ticked.is_none_or(|last| now - last >= 50));
                    t.begin(now);
                    ticked = Some(now);
                }
                prop_assert!(now < due.max(50) || ticked.is_some(), "due at {}, and now it is {}", due, now);
            }
        }
    }
}
