//! Counts of what went wrong on the line, and when that is worth a line of log.

use std::fmt;

use crate::spec::lsr;

/// Errors since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineErrors {
    /// Overruns: each means that one or more received bytes were lost.
    pub overruns: u64,
    /// Bytes with a parity error.
    pub parity: u64,
    /// Bytes with a framing error.
    pub framing: u64,
    /// Breaks.
    pub breaks: u64,
    /// How often the interrupt did not go away by serving it.
    pub storms: u64,
}

impl LineErrors {
    /// Counts the error bits of one value of LSR.
    pub(crate) fn note(&mut self, status: u8) {
        let has = |bit: u8| u64::from(status & bit != 0);
        self.overruns += has(lsr::OE);
        self.breaks += has(lsr::BI);
        // A break also looks like a framing error, and with parity like a parity error.
        if status & lsr::BI == 0 {
            self.parity += has(lsr::PE);
            self.framing += has(lsr::FE);
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.overruns + self.parity + self.framing + self.breaks + self.storms
    }
}

impl fmt::Display for LineErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LineErrors { overruns, parity, framing, breaks, storms } = self;
        write!(
            f,
            "line errors so far: {overruns} overruns, {framing} framing, {parity} parity, {breaks} breaks, \
             {storms} interrupt storms"
        )
    }
}

/// Says when to log: at 1, 2, 4, 8, ... errors, so that a bad line cannot flood the log.
#[derive(Debug)]
pub(crate) struct Reporter {
    next: u64,
}

impl Reporter {
    pub(crate) fn new() -> Reporter {
        Reporter { next: 1 }
    }

    /// Whether `total` errors are due for a report; true once for each.
    pub(crate) fn is_due(&mut self, total: u64) -> bool {
        let due = total >= self.next;
        if due {
            self.next = (total + 1).next_power_of_two();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bits_are_counted_by_kind() {
        let mut e = LineErrors::default();
        for status in [lsr::DR, lsr::OE | lsr::DR, lsr::FE, lsr::PE | lsr::FE, lsr::BI | lsr::FE] {
            e.note(status);
        }
        assert_eq!(e, LineErrors { overruns: 1, parity: 1, framing: 2, breaks: 1, storms: 0 });
        assert_eq!(e.total(), 5);
        assert!(e.to_string().contains("1 overruns, 2 framing, 1 parity, 1 breaks"));
    }

    #[test]
    fn reports_get_rarer() {
        let mut r = Reporter::new();
        let due: Vec<u64> = (0..=20).filter(|&n| r.is_due(n)).collect();
        assert_eq!(due, [1, 2, 4, 8, 16]);
        assert!(r.is_due(1000));
        assert!(!r.is_due(1000));
        assert!(!r.is_due(1023));
        assert!(r.is_due(1024));
    }
}
