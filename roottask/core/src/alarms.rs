//! Alarms of the timer service: who is to be woken when.
//!
//! Key type: [`Alarms`]. Times are nanoseconds since some moment.

use std::collections::BTreeMap;

/// No period is shorter: however many alarms there are, each is looked at so often at most.
pub const SHORTEST_NS: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
struct Alarm {
    at: u64,
    /// 0: once.
    every: u64,
}

/// One alarm at most for each number.
#[derive(Debug, Default)]
pub struct Alarms {
    alarms: BTreeMap<u64, Alarm>,
    /// By time.
    order: BTreeMap<(u64, u64), ()>,
}

impl Alarms {
    /// Once at that time.
    pub fn once(&mut self, number: u64, at: u64) {
        self.set(number, Alarm { at, every: 0 });
    }

    /// Each `every` from `now` on.
    pub fn each(&mut self, number: u64, now: u64, every: u64) {
        let every = every.max(SHORTEST_NS);
        self.set(number, Alarm { at: now.saturating_add(every), every });
    }

    /// Never more.
    pub fn cancel(&mut self, number: u64) {
        if let Some(old) = self.alarms.remove(&number) {
            self.order.remove(&(old.at, number));
        }
    }

    fn set(&mut self, number: u64, alarm: Alarm) {
        self.cancel(number);
        self.alarms.insert(number, alarm);
        self.order.insert((alarm.at, number), ());
    }

    /// When the next one goes off.
    pub fn next(&self) -> Option<u64> {
        self.order.keys().next().map(|&(at, _)| at)
    }

    /// Takes one that has gone off. Of periods that have passed unseen only the last counts.
    pub fn take(&mut self, now: u64) -> Option<u64> {
        let &(at, number) = self.order.keys().next().filter(|(at, _)| *at <= now)?;
        let every = self.alarms.get(&number).map_or(0, |alarm| alarm.every);
        let passed = (now - at).checked_div(every).unwrap_or(0);
        let next = at.saturating_add(passed.saturating_add(1).saturating_mul(every));
        if next > now {
            self.set(number, Alarm { at: next, every });
        } else {
            // Once, or at the end of time.
            self.cancel(number);
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = SHORTEST_NS;

    fn take_all(alarms: &mut Alarms, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| alarms.take(now)).collect()
    }

    #[test]
    fn an_alarm_goes_off_once_or_again_and_again() {
        let mut a = Alarms::default();
        assert_eq!((a.next(), a.take(u64::MAX)), (None, None));
        a.once(1, 5 * MS);
        a.each(2, 0, 2 * MS);
        assert_eq!(a.next(), Some(2 * MS));
        assert_eq!(take_all(&mut a, 2 * MS - 1), []);
        assert_eq!(take_all(&mut a, 2 * MS), [2]);
        assert_eq!(take_all(&mut a, 5 * MS), [2, 1]);
        assert_eq!(a.next(), Some(6 * MS), "in step with the first");
        assert_eq!(take_all(&mut a, 15 * MS), [2], "once for all that have passed");
        assert_eq!(a.next(), Some(16 * MS));
        a.cancel(2);
        assert_eq!(a.next(), None);
    }

    #[test]
    fn the_last_that_was_asked_for_counts() {
        let mut a = Alarms::default();
        a.each(7, 0, MS);
        a.once(7, 9 * MS);
        assert_eq!(take_all(&mut a, 8 * MS), []);
        assert_eq!(take_all(&mut a, 9 * MS), [7]);
        assert_eq!(a.next(), None);
        a.each(7, 0, 1);
        assert_eq!(a.next(), Some(MS), "not shorter");
        a.each(7, u64::MAX - 1, u64::MAX);
        assert_eq!(take_all(&mut a, u64::MAX), [7]);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_all_ends(
            steps in prop::collection::vec((0u64..4, 0u64..4, 0u64..20_000_000), 0..60)
        ) {
            let (mut a, mut now) = (Alarms::default(), 0);
            for (what, number, ns) in steps {
                match what {
                    0 => a.once(number, now + ns),
                    1 => a.each(number, now, ns),
                    2 => a.cancel(number),
                    _ => {
                        now += ns;
                        let mut off = take_all(&mut a, now);
                        prop_assert!(a.next().is_none_or(|next| next > now));
                        off.sort_unstable();
                        off.dedup();
                        prop_assert!(off.len() <= 4);
                    }
                }
                prop_assert!(a.alarms.len() == a.order.len() && a.alarms.len() <= 4);
            }
        }
    }
}
