//! What the perf suite does with its samples: pure, tested on the host.
//!
//! Key type: [`Summary`], which is also the line that is printed and that `cargo xtask perf` reads.
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
}
