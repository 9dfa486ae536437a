//! Operations on ranges of bits in a slice of words. Bit `i` is bit `i % 64` of word `i / 64`.

/// Calls `f` with each word that the bits `[from, to)` touch and the mask of those bits in it.
fn each_word(from: usize, to: usize, mut f: impl FnMut(usize, u64)) {
    let mut at = from;
    while at < to {
        let end = to.min((at / 64 + 1) * 64);
        let mask = (u64::MAX >> (64 - (end - at))) << (at % 64);
        f(at / 64, mask);
        at = end;
    }
}

/// Sets the bits `[from, to)`.
pub fn set(words: &mut [u64], from: usize, to: usize) {
    each_word(from, to, |w, mask| words[w] |= mask);
}

/// Clears the bits `[from, to)`.
pub fn clear(words: &mut [u64], from: usize, to: usize) {
    each_word(from, to, |w, mask| words[w] &= !mask);
}

/// The first bit in `[from, to)` that is `value`.
pub fn next(words: &[u64], from: usize, to: usize, value: bool) -> Option<usize> {
    let mut at = from;
    while at < to {
        let word = if value { words[at / 64] } else { !words[at / 64] };
        let rest = word >> (at % 64);
        if rest != 0 {
            let found = at + rest.trailing_zeros() as usize;
            return (found < to).then_some(found);
        }
        at = (at / 64 + 1) * 64;
    }
    None
}

/// Number of set bits in `[from, to)`.
pub fn count(words: &[u64], from: usize, to: usize) -> usize {
    let mut n = 0;
    each_word(from, to, |w, mask| n += (words[w] & mask).count_ones() as usize);
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const BITS: usize = 300;

    fn plain(words: &[u64]) -> Vec<bool> {
        (0..BITS).map(|i| words[i / 64] >> (i % 64) & 1 == 1).collect()
    }

    fn range() -> impl Strategy<Value = (usize, usize)> {
        (0..=BITS, 0..=BITS).prop_map(|(a, b)| (a.min(b), a.max(b)))
    }

    proptest! {
        #[test]
        fn agree_with_a_vector_of_bools(
            ops in prop::collection::vec((range(), any::<bool>()), 0..20),
            (from, to) in range(),
            value: bool,
        ) {
            let mut words = [0u64; BITS.div_ceil(64)];
            let mut model = std::vec![false; BITS];
            for ((a, b), on) in ops {
                if on { set(&mut words, a, b) } else { clear(&mut words, a, b) }
                model[a..b].fill(on);
            }
            prop_assert_eq!(plain(&words), model.clone());
            prop_assert_eq!(next(&words, from, to, value), (from..to).find(|&i| model[i] == value));
            prop_assert_eq!(count(&words, from, to), model[from..to].iter().filter(|b| **b).count());
        }
    }

    #[test]
    fn empty_range_touches_nothing() {
        let mut words = [0u64; 1];
        set(&mut words, 64, 64);
        assert_eq!(words, [0]);
        assert_eq!(next(&words, 64, 64, false), None);
    }
}
