//! Pseudo-random numbers for machines without RDRAND. Not cryptographic.

/// SplitMix64 (Steele, Lea, Flood 2014), to which entropy can be added at any time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixer(u64);

impl Mixer {
    /// A start value that anyone can guess; see [`Mixer::stir`].
    pub const fn new(seed: u64) -> Mixer {
        Mixer(seed)
    }

    /// Adds what little entropy `value` holds.
    pub fn stir(&mut self, value: u64) {
        self.0 = self.0.rotate_left(23) ^ value;
        self.next();
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_is_that_of_splitmix64() {
        // Reference values of the published algorithm for seed 1234567.
        let mut m = Mixer::new(1_234_567);
        let got = [m.next(), m.next(), m.next()];
        assert_eq!(got, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn stirring_changes_what_follows() {
        let (mut a, mut b) = (Mixer::new(1), Mixer::new(1));
        a.stir(1);
        b.stir(2);
        assert_ne!(a.next(), b.next());
    }
}
