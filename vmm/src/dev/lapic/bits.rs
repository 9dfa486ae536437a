//! A set of the 256 vectors.

/// Vectors, lowest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Vectors([u64; 4]);

impl Vectors {
    pub(super) fn insert(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] |= 1 << (vector & 63);
    }

    pub(super) fn remove(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] &= !(1 << (vector & 63));
    }

    pub(super) fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0
    }

    pub(super) fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|word| *word != 0)?;
        Some((word as u8) << 6 | self.0[word].ilog2() as u8)
    }

    /// Register `index` (0..8) of the eight that show the set.
    pub(super) fn register(&self, index: u8) -> u32 {
        (self.0[usize::from(index >> 1 & 3)] >> (32 * (index & 1))) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn is_a_set(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 0..100), probe: u8) {
            let (mut set, mut model) = (Vectors::default(), BTreeSet::new());
            for (insert, vector) in steps {
                if insert { set.insert(vector); model.insert(vector); } else { set.remove(vector); model.remove(&vector); }
            }
            prop_assert_eq!(set.highest(), model.last().copied());
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
            prop_assert_eq!(set.register(probe >> 5) >> (probe & 31) & 1 != 0, model.contains(&probe));
        }
    }
}
