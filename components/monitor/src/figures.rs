//! Numbers in a few characters.

/// Bytes in at most five characters: `0`, `999`, `64K`, `9.5M`, `262M`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if n < 1024 {
        return n.to_string();
    }
    let mut unit = 0;
    while unit + 1 < UNITS.len() && n >> (10 * (unit + 2)) > 0 {
        unit += 1;
    }
    let shift = 10 * (unit + 1);
    let (whole, rest) = (n >> shift, n & ((1 << shift) - 1));
    let tenth = (u128::from(rest) * 10) >> shift;
    if whole < 10 && tenth > 0 { format!("{whole}.{tenth}{}", UNITS[unit]) } else { format!("{whole}{}", UNITS[unit]) }
}

/// A time, up to 100 days in at most eight characters: `0.004`, `59.999`, `59:59.9`, `23:59:59`, `99d23h`.
pub(crate) fn time(ns: u64) -> String {
    let (ms, s) = (ns / 1_000_000, ns / 1_000_000_000);
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}.{:03}", s, ms % 1000),
        (0, 0, _) => format!("{minutes}:{:02}.{}", s % 60, ms / 100 % 10),
        (0, ..) => format!("{hours}:{:02}:{:02}", minutes % 60, s % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A share of one CPU, in per mille of it, as percent.
pub(crate) fn percent(per_mille: u64) -> String {
    format!("{}.{}", per_mille / 10, per_mille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (n, want) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1.5K"),
            (65_536, "64K"),
            (1_048_575, "1023K"),
            (10 << 20, "10M"),
            ((9 << 20) + (900 << 10), "9.8M"),
            (262 << 20, "262M"),
            (u64::MAX, "15E"),
        ] {
            assert_eq!(bytes(n), want);
        }
    }

    #[test]
    fn times() {
        for (ns, want) in [
            (0, "0.000"),
            (4_999_999, "0.004"),
            (59_999_000_000, "59.999"),
            (60_000_000_000, "1:00.0"),
            (3_599_900_000_000, "59:59.9"),
            (3_600_000_000_000, "1:00:00"),
            (86_399_000_000_000, "23:59:59"),
            (86_400_000_000_000, "1d00h"),
        ] {
            assert_eq!(time(ns), want);
        }
        assert_eq!([0, 5, 1000, 12_345].map(percent), ["0.0", "0.5", "100.0", "1234.5"]);
    }

    proptest! {
        #[test]
        fn figures_are_short(n: u64) {
            prop_assert!(bytes(n).len() <= 5);
            prop_assert!(time(n).len() <= 10 && time(n % 8_640_000_000_000_000).len() <= 8);
        }
    }
}
