//! Whether figures that scatter differ: a rank test, as nothing is known of how they are distributed, and an interval for
//! the ratio of their medians.

use anyhow::{Result, anyhow};
use statrs::stats_tests::Alternative;
use statrs::stats_tests::mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu};

/// Resamplings of the bootstrap.
const RESAMPLINGS: usize = 2000;
/// Share of them that the interval leaves out at each end.
const TAIL: f64 = 0.025;

/// The middle one, or the mean of the two in the middle. `None`: of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    Some((sorted.get(n / 2)? + sorted.get(n.checked_sub(1)? / 2)?) / 2.0)
}

/// How probable it is that two samples of the same distribution differ in rank as these do, or more (Mann and Whitney's U,
/// two-sided).
pub fn same_distribution(a: &[f64], b: &[f64]) -> Result<f64> {
    if a.iter().chain(b).all(|v| Some(v) == a.first()) {
        // The test divides by the variance of ranks.
        return Ok(1.0);
    }
    // The exact method of statrs 0.19 gives 1 - p unless the first sample is the longer one. The normal approximation errs to
    // caution with few figures: 0.012 for 0.008 with five and five that do not overlap.
    let method = MannWhitneyUMethod::AsymptoticInclContinuityCorrection;
    let (_, p) = mannwhitneyu(a, b, method, Alternative::TwoSided).map_err(|e| anyhow!("{e}"))?;
    Ok(p.clamp(0.0, 1.0))
}

/// The ratio of the medians of `b` and `a` in 95 of 100 resamplings (bootstrap, percentiles). The same in each run.
pub fn ratio_interval(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut again = |of: &[f64]| {
        let drawn: Vec<f64> = of.iter().filter_map(|_| of.get(random.usize(..of.len())).copied()).collect();
        median(&drawn)
    };
    let mut ratios = Vec::with_capacity(RESAMPLINGS);
    for _ in 0..RESAMPLINGS {
        ratios.push(again(b)? / again(a)?);
    }
    ratios.sort_by(f64::total_cmp);
    let out = (RESAMPLINGS as f64 * TAIL) as usize;
    Some((*ratios.get(out)?, *ratios.get(RESAMPLINGS - 1 - out)?))
}

/// Of many tests some would succeed by chance: each probability as it counts among all of them (Holm).
pub fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&i, &j| probabilities[i].total_cmp(&probabilities[j]));
    let (mut adjusted, mut least) = (vec![1.0; probabilities.len()], 0.0f64);
    for (rank, &i) in order.iter().enumerate() {
        least = least.max(probabilities[i] * (probabilities.len() - rank) as f64).min(1.0);
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn medians() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[9.0, 1.0, 2.0])], [None, Some(3.0), Some(2.0)]);
        assert_eq!(median(&[1.0, 4.0, 2.0, 9.0]), Some(3.0));
    }

    /// The first is the example of scipy's documentation, with what that says of this approximation. The others: near
    /// what can be counted by hand, 2 of the 70 ways to choose four of eight, 2 of 252 to choose five of ten.
    #[test]
    fn the_rank_test_gives_known_probabilities() {
        let near = |a: &[f64], b: &[f64], p: f64, off: f64| {
            let (got, turned) = (same_distribution(a, b).unwrap(), same_distribution(b, a).unwrap());
            assert!((got - p).abs() < off && (got - turned).abs() < 1e-9, "{got}, {turned} for {p}");
        };
        near(&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0], 0.1113, 1e-4);
        near(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], 2.0 / 70.0, 2e-3);
        near(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0], 2.0 / 252.0, 5e-3);
        near(&[5.0; 4], &[5.0; 9], 1.0, 1e-9);
    }

    #[test]
    fn large_samples_with_ties_are_told_apart() {
        let a: Vec<f64> = (0..500).map(|i| f64::from(i % 10)).collect();
        let b: Vec<f64> = a.iter().map(|v| v + 2.0).collect();
        assert!(same_distribution(&a, &b).unwrap() < 1e-6);
        assert!(same_distribution(&a, &a).unwrap() > 0.9);
        assert!(same_distribution(&[], &a).is_err());
    }

    #[test]
    fn the_interval_holds_the_ratio() {
        let (a, b) = ([10.0, 11.0, 10.5, 9.5], [20.0, 22.0, 21.0, 19.0]);
        let (low, high) = ratio_interval(&a, &b).unwrap();
        assert!((1.7..=2.0).contains(&low) && (2.0..2.4).contains(&high), "{low} {high}");
        assert_eq!(ratio_interval(&a, &b), Some((low, high)));
        assert_eq!(ratio_interval(&[], &b), None);
    }

    #[test]
    fn many_tests_count_less_each() {
        let got = holm(&[0.01, 0.04, 0.03]);
        [0.03, 0.06, 0.06].iter().zip(&got).for_each(|(want, got)| assert!((want - got).abs() < 1e-12, "{got}"));
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn probabilities_stay_such(a in prop::collection::vec(0u16..50, 1..12), b in prop::collection::vec(0u16..50, 1..12)) {
            let float = |v: &[u16]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let p = same_distribution(&float(&a), &float(&b)).unwrap();
            prop_assert!((0.0..=1.0).contains(&p), "{p}");
        }

        #[test]
        fn none_becomes_more_probable(p in prop::collection::vec(0.0f64..1.0, 0..20)) {
            prop_assert!(holm(&p).iter().zip(&p).all(|(after, before)| after >= before && *after <= 1.0));
        }
    }
}
