//! How much CPU time a component's threads have had.
//!
//! The kernel tells the time of a scheduling context, not that of a protection domain, and not when one is done with. So the
//! root task keeps the SCs that it makes for a component, a bounded number: each costs kernel memory that is not free again
//! until it goes.
//!
//! Key type: [`Threads`].

/// Most SCs that are kept of a component.
pub const KEPT: usize = 32;

/// The SCs of a component that are kept, and the time of those that are not any more.
#[derive(Debug, Default)]
pub struct Threads {
    /// Selectors, with the time when they were last looked at.
    kept: Vec<(u64, u64)>,
    /// Ticks of those that went.
    past: u64,
    /// Who is looked at next when there are too many.
    hand: usize,
}

/// So many are looked at to find one that can go: the start of a thread is to stay short.
const LOOKS: usize = 2;

impl Threads {
    /// There is another one; `read` says how many ticks an SC has had. Where there are too many, one goes, and what it runs from
    /// now on is not counted: in turn, but not one that has run since it was last looked at, if the next one has not.
    /// It is returned, to be given back.
    pub fn add(&mut self, sc: u64, read: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let gone = (self.kept.len() >= KEPT).then(|| self.drop_one(&read));
        self.kept.push((sc, 0));
        gone
    }

    fn drop_one(&mut self, read: impl Fn(u64) -> Option<u64>) -> u64 {
        for _ in 0..LOOKS {
            self.hand %= self.kept.len();
            let (sc, last) = &mut self.kept[self.hand];
            let ticks = read(*sc).unwrap_or(*last).max(*last);
            if ticks == std::mem::replace(last, ticks) {
                break;
            }
            self.hand += 1;
        }
        self.hand %= self.kept.len();
        let (sc, last) = self.kept.remove(self.hand);
        self.past = self.past.saturating_add(read(sc).unwrap_or(last).max(last));
        sc
    }

    fn look(&mut self, read: impl Fn(u64) -> Option<u64>) {
        for (sc, last) in &mut self.kept {
            // What cannot be read has been what it was.
            *last = read(*sc).unwrap_or(*last).max(*last);
        }
    }

    /// Ticks of all of them until now.
    pub fn ticks(&mut self, read: impl Fn(u64) -> Option<u64>) -> u64 {
        self.look(read);
        self.kept.iter().fold(self.past, |sum, (_, ticks)| sum.saturating_add(*ticks))
    }

    /// All that are kept, to be given back.
    pub fn take(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.kept).into_iter().map(|(sc, _)| sc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn time_of_all_threads_is_added() {
        let mut t = Threads::default();
        assert_eq!((t.add(7, |_| None), t.add(8, |_| None)), (None, None));
        assert_eq!(t.ticks(|sc| Some(sc * 100)), 1500);
        assert_eq!(t.ticks(|sc| (sc == 8).then_some(900)), 1600, "7 cannot be read any more");
        assert_eq!(t.ticks(|_| Some(0)), 1600, "time does not go back");
        assert_eq!(t.take().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(t.take().count(), 0);
    }

    #[test]
    fn one_that_has_not_run_goes_first() {
        let mut t = Threads::default();
        (0..KEPT as u64).for_each(|sc| assert_eq!(t.add(sc, |_| None), None));
        assert_eq!(t.ticks(|_| Some(10)), 10 * KEPT as u64);
        assert_eq!(t.add(100, |sc| Some(if sc == 1 { 10 } else { 20 })), Some(1), "the first has run");
        let all = 10 + 20 * (KEPT as u64 - 1);
        assert_eq!(t.ticks(|sc| Some(if sc == 100 { 0 } else { 20 })), all, "its time stays");
        assert_eq!(t.add(101, |_| Some(30)), Some(4), "2 and 3 have run, too: nobody looks further");
        assert_eq!(t.ticks(|sc| Some(if sc >= 100 { 0 } else { 30 })), 10 + 30 * (KEPT as u64 - 1));
    }

    proptest! {
        #[test]
        fn no_time_is_lost_of_threads_that_end(steps in prop::collection::vec((0u64..4, 0u64..1000), 0..300)) {
            let (mut t, mut truth, mut next) = (Threads::default(), BTreeMap::<u64, u64>::new(), 0);
            let (mut running, mut kept): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            for (step, ticks) in steps {
                let read = |truth: &BTreeMap<u64, u64>, sc| truth.get(&sc).copied();
                match step {
                    0 | 1 => {
                        // Each step at most one runs, so with many that have ended there is always one that does not.
                        let gone = t.add(next, |sc| read(&truth, sc));
                        kept.push(next);
                        kept.retain(|sc| Some(*sc) != gone);
                        running.retain(|sc| Some(*sc) != gone);
                        truth.insert(next, 0);
                        running.push(next);
                        next += 1;
                    }
                    2 => {
                        if let Some(sc) = running.pop() {
                            *truth.get_mut(&sc).unwrap() += ticks;
                        }
                    }
                    _ => prop_assert_eq!(t.ticks(|sc| read(&truth, sc)), truth.values().sum::<u64>()),
                }
                prop_assert!(kept.len() <= KEPT);
            }
            prop_assert_eq!(t.ticks(|sc| truth.get(&sc).copied()), truth.values().sum::<u64>());
            prop_assert_eq!(t.take().collect::<Vec<_>>(), kept);
        }
    }
}
