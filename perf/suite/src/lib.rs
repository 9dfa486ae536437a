//! What the perf suite does with its samples: pure, tested on the host.
//!
//! Key types: [`Summary`] and [`Spread`], which are also the lines that are printed and that `cargo xtask perf` reads.
#![forbid(unsafe_code)]

use std::fmt;

/// Samples of a row, sorted out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// Smallest, in ticks.
    pub min: u32,
    /// Median: the upper of two.
    pub median: u32,
    /// 99th percentile: at most one in a hundred is larger.
    pub p99: u32,
    /// Largest.
    pub max: u32,
}

impl Summary {
    /// Of samples in ticks, less what reading the clock twice costs. `None`: there are none.
    pub fn of(samples: &mut [u32], overhead: u32) -> Option<Summary> {
        samples.sort_unstable();
        let at = |i: usize| samples.get(i).map(|s| s.saturating_sub(overhead));
        let n = samples.len();
        Some(Summary {
            count: n,
            min: at(0)?,
            median: at(n / 2)?,
            p99: at((n * 99).div_ceil(100) - 1)?,
            max: at(n - 1)?,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Summary { count, min, median, p99, max } = self;
        write!(f, "min {min} median {median} p99 {p99} max {max} of {count}")
    }
}

/// Most intervals of a [`Spread`].
const INTERVALS: usize = 16;

/// How samples are spread: ends of intervals, and how many samples are from there to the next end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread(Vec<(u32, usize)>);

impl Spread {
    /// Of samples in ticks, less what reading the clock twice costs. Each value for itself if there are few; else intervals of
    /// the same length up to the 99th percentile, and one for all above.
    pub fn of(samples: &mut [u32], overhead: u32) -> Spread {
        let Some(s) = Summary::of(samples, overhead) else { return Spread(vec![]) };
        let one = |c: &[u32]| Some((c.first()?.saturating_sub(overhead), c.len()));
        let values: Vec<_> = samples.chunk_by(|a, b| a == b).filter_map(one).collect();
        if values.len() <= INTERVALS {
            return Spread(values);
        }
        let length = ((s.p99 - s.min) / (INTERVALS as u32 - 1) + 1).max(1);
        let end = |v: u32| if v > s.p99 { s.p99 + 1 } else { s.min + (v - s.min) / length * length };
        let mut intervals: Vec<(u32, usize)> = Vec::new();
        for (v, n) in values {
            match intervals.last_mut() {
                Some((from, m)) if *from == end(v) => *m += n,
                _ => intervals.push((end(v), n)),
            }
        }
        Spread(intervals)
    }

    /// Whether there is more than one value.
    pub fn is_wide(&self) -> bool {
        self.0.len() > 1
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("spread")?;
        self.0.iter().try_for_each(|(from, n)| write!(f, " {from}:{n}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_sorted_out_less_the_overhead() {
        let mut s: Vec<u32> = (1..=200).rev().map(|n| n + 2).collect();
        let s = Summary::of(&mut s, 2).unwrap();
        assert_eq!(s, Summary { count: 200, min: 1, median: 101, p99: 198, max: 200 });
        assert_eq!(s.to_string(), "min 1 median 101 p99 198 max 200 of 200");
    }

    #[test]
    fn one_sample_is_all_of_them_and_none_is_none() {
        let one = Summary::of(&mut [7], 2).unwrap();
        assert_eq!((one.min, one.median, one.p99, one.max), (5, 5, 5, 5));
        assert_eq!(Summary::of(&mut [1], 2).unwrap().min, 0, "never below nothing");
        assert_eq!(Summary::of(&mut [], 0), None);
    }

    #[test]
    fn few_values_are_each_for_itself() {
        let s = Spread::of(&mut [9, 7, 9, 9], 2);
        assert!(s.is_wide());
        assert_eq!(s.to_string(), "spread 5:1 7:3");
        assert!(!Spread::of(&mut [4; 9], 0).is_wide() && !Spread::of(&mut [], 0).is_wide());
    }

    #[test]
    fn many_values_are_in_intervals_and_no_sample_is_lost() {
        let mut samples: Vec<u32> = (0..1000).map(|i| 100 + i * i % 977).chain([1 << 20]).collect();
        let p99 = Summary::of(&mut samples, 0).unwrap().p99;
        let s = Spread::of(&mut samples, 0);
        assert!(s.0.len() <= INTERVALS + 1, "{s}");
        assert_eq!(s.0.iter().map(|(_, n)| n).sum::<usize>(), samples.len());
        assert!(s.0.is_sorted_by(|a, b| a.0 < b.0), "{s}");
        let inside = |i: usize| samples.iter().filter(|v| s.0[i].0 <= **v && **v < s.0[i + 1].0).count();
        assert!((0..s.0.len() - 1).all(|i| inside(i) == s.0[i].1), "{s}");
        assert_eq!(s.0.last().unwrap().0, p99 + 1, "all above the 99th percentile are together");
    }
}
