//! The clock's interrupts: flags of register C, their deadlines and the line.
//!
//! Flags are brought up to date when someone looks ([`Rtc::account`]), from the stretch of the guest's time that has
//! passed since. Only an enabled source whose flag is still clear needs a deadline.

use super::{NS, Rtc};
use crate::dev::timebase::NEVER;
use mc146818::DAY_S;
use mc146818::spec::*;

impl Rtc {
    /// Level of interrupt line 8.
    pub fn irq(&self) -> bool {
        self.flags() & self.control() & SOURCES != 0
    }

    /// TSC value at which the line is asserted next, if nothing changes.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Sets the flags of everything that has happened up to `now`.
    pub fn advance(&mut self, now: u64) {
        self.account(now);
        self.schedule();
    }

    pub(super) fn take_flags(&mut self, now: u64) -> u8 {
        self.account(now);
        let irqf = if self.irq() { C_IRQF } else { 0 };
        let flags = self.flags() | irqf;
        self.cmos[usize::from(REGISTER_C)] = 0;
        self.schedule();
        flags
    }

    /// Changes a register on which events depend.
    pub(super) fn reprogram(&mut self, register: u8, value: u8, now: u64) {
        self.account(now);
        self.cmos[usize::from(register)] = value;
        self.schedule();
    }

    /// Sets flags for the time since the last call.
    pub(super) fn account(&mut self, now: u64) {
        let (from, to) = (self.flagged_ns, self.time_ns(now));
        if to <= from {
            return;
        }
        let happened = [PERIODIC, UPDATE, ALARM].into_iter().filter(|source| self.next(*source, from) <= to);
        let flags = happened.fold(0, |flags, source| flags | source);
        self.cmos[usize::from(REGISTER_C)] |= flags;
        self.flagged_ns = to;
    }

    pub(super) fn schedule(&mut self) {
        let awaited = self.control() & SOURCES & !self.flags();
        let next = [PERIODIC, UPDATE, ALARM]
            .into_iter()
            .filter(|source| awaited & source != 0)
            .map(|source| self.next(source, self.flagged_ns))
            .min()
            .unwrap_or(NEVER);
        // While an enabled flag is set the line is asserted already.
        self.deadline = if next == NEVER || self.irq() { NEVER } else { self.tsc_at(next) };
    }

    fn flags(&self) -> u8 {
        self.cmos[usize::from(REGISTER_C)]
    }

    /// First moment after `after` (ns of the guest's clock) at which `source` has its event.
    fn next(&self, source: u8, after: u64) -> u64 {
        match source {
            PERIODIC => self.next_period(after),
            _ if self.held.is_some() => NEVER,
            UPDATE => next_second(after),
            _ => self.next_alarm(after),
        }
    }

    fn next_period(&self, after: u64) -> u64 {
        let rate = match self.cmos[usize::from(REGISTER_A)] & A_RATE {
            0 => return NEVER,
            // With the 32.768 kHz divider the two fastest rates repeat slower ones.
            rate @ 1..=2 => rate + 7,
            rate => rate,
        };
        let hz = u128::from(BASE_HZ >> (rate - 1));
        let index = u128::from(after) * hz / u128::from(NS) + 1;
        u64::try_from((index * u128::from(NS)).div_ceil(hz)).unwrap_or(NEVER)
    }

    /// Walks forward over the time of day, skipping whole hours and minutes that do not match.
    fn next_alarm(&self, after: u64) -> u64 {
        if [(HOURS_ALARM, 24), (MINUTES_ALARM, 60), (SECONDS_ALARM, 60)]
            .iter()
            .any(|(r, end)| !self.can_match(*r, *end))
        {
            return NEVER;
        }
        let seconds = next_second(after) / NS;
        let (day, start) = (seconds / DAY_S * DAY_S, seconds % DAY_S);
        let mut at = start;
        while at < start + DAY_S {
            let time = at % DAY_S;
            at = if !self.matches(HOURS_ALARM, time / 3600) {
                (at / 3600 + 1) * 3600
            } else if !self.matches(MINUTES_ALARM, time / 60 % 60) {
                (at / 60 + 1) * 60
            } else if !self.matches(SECONDS_ALARM, time % 60) {
                at + 1
            } else {
                return (day + at).saturating_mul(NS);
            };
        }
        NEVER
    }

    fn matches(&self, register: u8, value: u64) -> bool {
        self.alarm(register).is_none_or(|alarm| alarm == value)
    }

    /// Whether there is a value below `end` that matches; else all of the day would be searched each time.
    fn can_match(&self, register: u8, end: u64) -> bool {
        self.alarm(register).is_none_or(|alarm| alarm < end)
    }

    /// Value of an alarm register, unless any will do.
    fn alarm(&self, register: u8) -> Option<u64> {
        let alarm = self.cmos[usize::from(register)];
        match register {
            _ if alarm >= DO_NOT_CARE => None,
            HOURS_ALARM => Some(self.decode_hours(alarm)),
            _ => Some(self.decode_number(alarm)),
        }
    }
}

fn next_second(after: u64) -> u64 {
    (after / NS + 1).saturating_mul(NS)
}
