//! Conversion between TSC ticks and the ticks of a slower device clock.
//!
//! [`Timebase`] is exact in both directions: a device clock shows tick `n` from the first TSC value at which `n` whole
//! periods have passed, and [`Timebase::tsc`] names exactly that value. All deadlines rest on that.

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// A free-running device clock that started with the TSC at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timebase {
    hz: u64,
    tsc_hz: u64,
}

impl Timebase {
    /// A clock of `hz`, on a TSC of `tsc_hz`. A frequency of 0 counts as 1.
    pub fn new(hz: u64, tsc_hz: u64) -> Self {
        Self { hz: hz.max(1), tsc_hz: tsc_hz.max(1) }
    }

    /// Whole device ticks that have passed at TSC value `tsc`.
    pub fn ticks(&self, tsc: u64) -> u64 {
        scale(tsc, self.hz, self.tsc_hz, 0)
    }

    /// First TSC value at which `ticks` device ticks have passed; [`NEVER`] if that is beyond the TSC's range.
    pub fn tsc(&self, ticks: u64) -> u64 {
        scale(ticks, self.tsc_hz, self.hz, self.hz - 1)
    }
}

/// `(value * mul + round) / div`, saturating.
fn scale(value: u64, mul: u64, div: u64, round: u64) -> u64 {
    // Nearly always the product fits; a 128-bit division costs several times more.
    match value.checked_mul(mul).and_then(|product| product.checked_add(round)) {
        Some(product) => product / div,
        None => {
            let wide = (u128::from(value) * u128::from(mul) + u128::from(round)) / u128::from(div);
            u64::try_from(wide).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_ratios() {
        let clock = Timebase::new(1000, 1_000_000);
        assert_eq!(clock.ticks(999), 0);
        assert_eq!(clock.ticks(1000), 1);
        assert_eq!(clock.tsc(3), 3000);
    }

    #[test]
    fn saturates_instead_of_wrapping() {
        assert_eq!(Timebase::new(1, 1 << 40).tsc(1 << 40), NEVER);
        assert_eq!(Timebase::new(0, 0).ticks(7), 7);
    }

    proptest! {
        #[test]
        fn deadline_is_the_first_moment(n in 1u64..1 << 40, hz in 1u64..1 << 31, tsc_hz in 1u64..1 << 33) {
            let clock = Timebase::new(hz, tsc_hz);
            let at = clock.tsc(n);
            prop_assume!(at != NEVER);
            prop_assert!(clock.ticks(at) >= n);
            prop_assert!(clock.ticks(at - 1) < n);
        }
    }
}
