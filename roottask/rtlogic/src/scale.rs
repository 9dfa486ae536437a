//! Ticks of the time-stamp counter and nanoseconds.

/// Nanoseconds in a second.
pub const NS: u64 = 1_000_000_000;

/// A factor as `mult / 2^shift`, as precise as 64 bits allow.
#[derive(Clone, Copy, Debug)]
struct Factor {
    mult: u64,
    shift: u32,
}

impl Factor {
    const fn new(num: u64, den: u64) -> Factor {
        let mut shift = 64;
        let mut mult = ((num as u128) << 64) / den as u128;
        while mult > u64::MAX as u128 {
            mult >>= 1;
            shift -= 1;
        }
        Factor { mult: mult as u64, shift }
    }

    /// Rounds down; saturates.
    const fn apply(self, v: u64) -> u64 {
        let product = (v as u128 * self.mult as u128) >> self.shift;
        if product > u64::MAX as u128 { u64::MAX } else { product as u64 }
    }
}

/// Conversion between ticks and nanoseconds by one 64x64 multiplication, without division.
///
/// The result is at most one or two units below the exact one, however long the machine runs: the error does not add
/// up, since it is always the whole count that is converted.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    to_ns: Factor,
    to_ticks: Factor,
}

impl Scale {
    /// For a counter of `hz`; 0 counts as 1 GHz (a machine that does not tell has no right time anyway).
    pub const fn new(hz: u64) -> Scale {
        let hz = if hz == 0 { NS } else { hz };
        Scale { to_ns: Factor::new(NS, hz), to_ticks: Factor::new(hz, NS) }
    }

    /// Nanoseconds that `ticks` take, rounded down.
    pub const fn ns(&self, ticks: u64) -> u64 {
        self.to_ns.apply(ticks)
    }

    /// The tick at which `ns` nanoseconds have surely passed: never too early, for deadlines.
    pub const fn ticks(&self, ns: u64) -> u64 {
        self.to_ticks.apply(ns).saturating_add(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn conversion_is_exact_to_the_last_units(hz in 1_000_000..10_000_000_000u64, t: u64) {
            let s = Scale::new(hz);
            let exact = u64::try_from(u128::from(t) * u128::from(NS) / u128::from(hz)).unwrap_or(u64::MAX);
            prop_assert!(s.ns(t) <= exact);
            // The factor is off by less than 2^-63 of itself, so 2^64 ticks by less than two nanoseconds.
            prop_assert!(exact - s.ns(t) <= 2, "{} for {}", s.ns(t), exact);
        }

        #[test]
        fn deadlines_are_never_early(hz in 1_000_000..10_000_000_000u64, ns in 0..u64::MAX / 16) {
            let s = Scale::new(hz);
            let exact = (u128::from(ns) * u128::from(hz)).div_ceil(u128::from(NS));
            prop_assert!(u128::from(s.ticks(ns)) >= exact);
            prop_assert!(u128::from(s.ticks(ns)) - exact <= 2);
        }

        #[test]
        fn time_is_monotonic(hz in 1_000_000..10_000_000_000u64, t in 0..u64::MAX - 1000, d in 0..1000u64) {
            let s = Scale::new(hz);
            prop_assert!(s.ns(t + d) >= s.ns(t));
        }
    }

    #[test]
    fn round_values() {
        let s = Scale::new(2_000_000_000);
        assert_eq!(s.ns(2_000_000_000 * 3600 * 24 * 365), 3600 * 24 * 365 * NS);
        assert_eq!(Scale::new(1).ns(u64::MAX), u64::MAX, "saturates");
        assert_eq!(Scale::new(0).ns(7), Scale::new(NS).ns(7));
    }
}
