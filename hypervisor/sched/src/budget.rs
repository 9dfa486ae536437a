//! Budget of a scheduling context: how long it may run before others of its priority get their turn.

/// Budget in ticks of the system time counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    full: u64,
    left: u64,
}

impl Budget {
    /// A full budget of `ticks`, at least 1.
    pub const fn new(ticks: u64) -> Budget {
        let full = if ticks == 0 { 1 } else { ticks };
        Budget { full, left: full }
    }

    /// Ticks left in this turn.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Takes `ticks` off. When the budget is used up it is replenished and the turn is over: `true`.
    pub fn charge(&mut self, ticks: u64) -> bool {
        let over = ticks >= self.left;
        self.left = if over { self.full } else { self.left - ticks };
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_when_the_budget_is_used_up() {
        let mut b = Budget::new(100);
        assert!(!b.charge(60));
        assert!(!b.charge(39));
        assert_eq!(b.left(), 1);
        assert!(b.charge(1));
        assert_eq!(b.left(), 100);
        assert!(b.charge(1000), "an overrun is one turn, not ten");
        assert_eq!(b.left(), 100);
        assert_eq!(Budget::new(0).left(), 1);
    }
}
