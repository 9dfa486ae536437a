//! The timer of a local APIC: one-shot, periodic, TSC deadline (Intel SDM, volume 3, 11.5.4).
//!
//! The count is computed from the distance to the clock at which counting started. The timer knows nothing of vector and
//! mask: [`Timer::advance`] says that it fired.

use super::spec::*;
use crate::dev::timebase::{NEVER, Timebase};

/// A count that is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Input clock at which it started.
    since: u64,
    /// Input clocks to the first time that it reaches 0.
    first: u64,
}

/// The timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timer {
    clock: Timebase,
    /// The mode bits of the timer's entry in the local vector table.
    mode: u32,
    divide: u32,
    initial: u32,
    run: Option<Run>,
    /// IA32_TSC_DEADLINE; 0 is disarmed.
    tsc_deadline: u64,
    deadline: u64,
}

impl Timer {
    pub(super) fn new(clock: Timebase) -> Self {
        Self { clock, mode: 0, divide: 0, initial: 0, run: None, tsc_deadline: 0, deadline: NEVER }
    }

    /// The timer after INIT: everything but its clock.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.clock);
    }

    /// TSC value at which it fires next.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Whether it has fired since the last call. Periods that were missed count as one.
    pub(super) fn advance(&mut self, now: u64) -> bool {
        if now < self.deadline || self.deadline == NEVER {
            return false;
        }
        self.tsc_deadline = 0;
        self.run = self.run.and_then(|run| self.next_run(run, self.clock.ticks(now)));
        self.schedule();
        true
    }

    pub(super) fn set_mode(&mut self, mode: u32) {
        if (self.mode ^ mode) & LVT_TSC_DEADLINE != 0 {
            // Either way the other kind of timer is disarmed.
            self.tsc_deadline = 0;
            self.run = None;
            self.initial = 0;
        }
        self.mode = mode;
        self.schedule();
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) fn set_initial(&mut self, count: u32, now: u64) {
        if self.in_deadline_mode() {
            return;
        }
        self.initial = count;
        self.run = (count != 0).then(|| Run { since: self.clock.ticks(now), first: self.period() });
        self.schedule();
    }

    pub(super) fn current(&self, now: u64) -> u32 {
        let Some(run) = self.run else { return 0 };
        let left = run.since.saturating_add(run.first).saturating_sub(self.clock.ticks(now));
        u32::try_from(left.div_ceil(self.divisor())).unwrap_or(u32::MAX)
    }

    pub(super) fn divide(&self) -> u32 {
        self.divide
    }

    pub(super) fn set_divide(&mut self, divide: u32, now: u64) {
        let current = u64::from(self.current(now));
        self.divide = divide & DIVIDE_BITS;
        // A running count goes on from where it is, at the new rate.
        let since = self.clock.ticks(now);
        self.run = self.run.map(|_| Run { since, first: current * self.divisor() });
        self.schedule();
    }

    pub(super) fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    pub(super) fn set_tsc_deadline(&mut self, tsc: u64) {
        if self.in_deadline_mode() {
            self.tsc_deadline = tsc;
            self.schedule();
        }
    }

    fn in_deadline_mode(&self) -> bool {
        self.mode & LVT_TSC_DEADLINE != 0
    }

    fn divisor(&self) -> u64 {
        match (self.divide & 3) | (self.divide >> 1 & 4) {
            7 => 1,
            power => 2 << power,
        }
    }

    fn period(&self) -> u64 {
        u64::from(self.initial) * self.divisor()
    }

    /// What follows when `run` has reached 0 at or before `clk`.
    fn next_run(&self, run: Run, clk: u64) -> Option<Run> {
        let period = self.period();
        if self.mode & LVT_PERIODIC == 0 || period == 0 {
            return None;
        }
        let reached = run.since.saturating_add(run.first);
        let missed = clk.saturating_sub(reached) / period;
        Some(Run { since: reached.saturating_add(missed * period), first: period })
    }

    fn schedule(&mut self) {
        self.deadline = match (self.in_deadline_mode(), self.run) {
            (true, _) if self.tsc_deadline != 0 => self.tsc_deadline,
            (false, Some(run)) => self.clock.tsc(run.since.saturating_add(run.first)),
            _ => NEVER,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Divide by one, a clock of a tenth of the TSC.
    fn timer(mode: u32) -> Timer {
        let mut timer = Timer::new(Timebase::new(100, 1000));
        timer.set_divide(0xb, 0);
        timer.set_mode(mode);
        timer
    }

    #[test]
    fn one_shot() {
        let mut timer = timer(0);
        timer.set_initial(50, 1000);
        assert_eq!((timer.current(1000), timer.current(1205), timer.deadline()), (50, 30, 1500));
        assert!(!timer.advance(1499));
        assert!(timer.advance(1500));
        assert!(!timer.advance(9999));
        assert_eq!((timer.current(1501), timer.initial(), timer.deadline()), (0, 50, NEVER));
    }

    #[test]
    fn periodic_without_drift() {
        let mut timer = timer(LVT_PERIODIC);
        timer.set_initial(50, 0);
        assert!(timer.advance(730));
        assert_eq!((timer.deadline(), timer.current(730)), (1000, 27));
        assert!(timer.advance(5000));
        assert_eq!(timer.deadline(), 5500);
    }

    #[test]
    fn count_0_stops() {
        let mut timer = timer(LVT_PERIODIC);
        timer.set_initial(50, 0);
        timer.set_initial(0, 100);
        assert_eq!((timer.deadline(), timer.current(100)), (NEVER, 0));
    }

    #[test]
    fn divisors_of_table_11_10() {
        for (divide, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
            let mut timer = timer(0);
            timer.set_divide(divide, 0);
            timer.set_initial(10, 0);
            assert_eq!(timer.deadline(), 10 * divisor * 10);
            assert_eq!(timer.current(10 * divisor * 10 - 10), 1);
        }
    }

    #[test]
    fn new_divisor_changes_the_rate_of_a_running_count() {
        let mut timer = timer(0);
        timer.set_initial(100, 0);
        timer.set_divide(0, 500);
        assert_eq!((timer.current(500), timer.deadline()), (50, 500 + 50 * 2 * 10));
    }

    #[test]
    fn tsc_deadline_fires_once_and_disarms() {
        let mut timer = timer(LVT_TSC_DEADLINE);
        timer.set_tsc_deadline(1234);
        assert_eq!((timer.deadline(), timer.tsc_deadline()), (1234, 1234));
        assert!(!timer.advance(1233));
        assert!(timer.advance(1234));
        assert!(!timer.advance(1235));
        assert_eq!((timer.deadline(), timer.tsc_deadline()), (NEVER, 0));
    }

    #[test]
    fn modes_do_not_mix() {
        let mut timer = timer(LVT_TSC_DEADLINE);
        timer.set_initial(5, 0);
        assert_eq!((timer.initial(), timer.current(0)), (0, 0));
        timer.set_tsc_deadline(77);
        timer.set_mode(0);
        assert_eq!((timer.deadline(), timer.tsc_deadline()), (NEVER, 0));
        timer.set_tsc_deadline(77);
        assert_eq!(timer.tsc_deadline(), 0, "ignored outside its mode");
        timer.set_initial(5, 0);
        timer.set_mode(LVT_TSC_DEADLINE);
        assert_eq!((timer.deadline(), timer.initial()), (NEVER, 0));
    }

    proptest! {
        #[test]
        fn fires_when_the_count_reaches_0(hz in 1_000u64..2_000_000_000, tsc_hz in 1_000_000_000u64..4_000_000_000,
                                          count in 1u32.., start in 0u64..1 << 42, divide in 0u32..16) {
            let mut timer = Timer::new(Timebase::new(hz, tsc_hz));
            timer.set_divide(divide, start);
            timer.set_initial(count, start);
            let deadline = timer.deadline();
            prop_assert!(timer.current(deadline - 1) > 0);
            prop_assert_eq!(timer.current(deadline), 0);
            prop_assert!(!timer.advance(deadline - 1));
            prop_assert!(timer.advance(deadline));
        }
    }
}
