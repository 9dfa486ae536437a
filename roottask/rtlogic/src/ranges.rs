//! Which numbers (pages, selectors) of a range are taken: first fit over a bitmap, so neighbours that become free
//! merge by themselves and giving back needs no memory.

use crate::bits;

/// From which end to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// From the lowest number upwards.
    Low,
    /// From the highest number downwards.
    High,
}

/// A range that is given back was not taken, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTaken;

/// The numbers `base..base + len`, one bit of `W` for each. Alignments are those of the numbers, not of the offsets.
#[derive(Debug)]
pub struct Ranges<W> {
    words: W,
    base: u64,
    len: usize,
    /// No bit below is clear.
    lowest: usize,
}

impl<W: AsRef<[u64]> + AsMut<[u64]>> Ranges<W> {
    /// All numbers free. `words` must be zero and is cut to what it has room for.
    pub fn new(words: W, base: u64, len: u64) -> Ranges<W> {
        let room = words.as_ref().len() * 64;
        let len = usize::try_from(len).map_or(room, |l| l.min(room));
        Ranges { words, base, len, lowest: 0 }
    }

    /// First number behind the range.
    pub fn end(&self) -> u64 {
        self.base + self.len as u64
    }

    /// Numbers that are free.
    pub fn free_count(&self) -> u64 {
        (self.len - bits::count(self.words.as_ref(), 0, self.len)) as u64
    }

    /// Takes `count` adjacent numbers (at least one), the first of them a multiple of `align` (a power of two).
    pub fn alloc(&mut self, count: u64, align: u64, end: End) -> Option<u64> {
        let count = usize::try_from(count.max(1)).ok().filter(|&c| c <= self.len)?;
        let at = match end {
            End::Low => self.find_low(count, align)?,
            End::High => self.find_high(count, align)?,
        };
        bits::set(self.words.as_mut(), at, at + count);
        if at == self.lowest {
            self.lowest = at + count;
        }
        Some(self.base + at as u64)
    }

    /// Takes exactly these numbers; `false` if one of them is taken or out of range.
    pub fn reserve(&mut self, first: u64, count: u64) -> bool {
        let Some((from, to)) = self.offsets(first, count) else { return false };
        if bits::next(self.words.as_ref(), from, to, true).is_some() {
            return false;
        }
        bits::set(self.words.as_mut(), from, to);
        true
    }

    /// Gives numbers back: any part of what was taken.
    pub fn free(&mut self, first: u64, count: u64) -> Result<(), NotTaken> {
        if !self.is_taken(first, count) {
            return Err(NotTaken);
        }
        let (from, to) = self.offsets(first, count).ok_or(NotTaken)?;
        bits::clear(self.words.as_mut(), from, to);
        self.lowest = self.lowest.min(from);
        Ok(())
    }

    /// Whether all of these numbers are taken.
    pub fn is_taken(&self, first: u64, count: u64) -> bool {
        self.offsets(first, count).is_some_and(|(from, to)| bits::next(self.words.as_ref(), from, to, false).is_none())
    }

    /// Offsets of a range of numbers, if all of them are ours.
    fn offsets(&self, first: u64, count: u64) -> Option<(usize, usize)> {
        let from = first.checked_sub(self.base)?;
        let to = from.checked_add(count).filter(|&t| t <= self.len as u64)?;
        Some((from as usize, to as usize))
    }

    /// Offset of the first number at or above that of `at` that is a multiple of `align`.
    fn align_up(&self, at: usize, align: u64) -> Option<usize> {
        let number = (self.base + at as u64).checked_next_multiple_of(align)?;
        usize::try_from(number - self.base).ok()
    }

    /// Offset of the last number at or below that of `at` that is a multiple of `align`.
    fn align_down(&self, at: usize, align: u64) -> Option<usize> {
        let number = (self.base + at as u64) & !(align - 1);
        number.checked_sub(self.base).map(|o| o as usize)
    }

    fn find_low(&mut self, count: usize, align: u64) -> Option<usize> {
        let words = self.words.as_ref();
        self.lowest = bits::next(words, self.lowest, self.len, false).unwrap_or(self.len);
        let mut at = self.lowest;
        loop {
            at = self.align_up(at, align).filter(|a| a + count <= self.len)?;
            let Some(taken) = bits::next(words, at, at + count, true) else { return Some(at) };
            at = bits::next(words, taken, self.len, false)?;
        }
    }

    fn find_high(&self, count: usize, align: u64) -> Option<usize> {
        let mut at = self.align_down(self.len - count, align)?;
        // Whatever lies between `at` and a place that ends at the first taken number would contain that number.
        while let Some(taken) = bits::next(self.words.as_ref(), at, at + count, true) {
            at = self.align_down(taken.checked_sub(count)?, align)?;
        }
        Some(at)
    }
}

impl<const N: usize> Ranges<[u64; N]> {
    /// No numbers at all: for statics, to be replaced.
    pub const fn empty() -> Self {
        Ranges { words: [0; N], base: 0, len: 0, lowest: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const LEN: u64 = 200;

    fn fresh(base: u64) -> Ranges<Vec<u64>> {
        Ranges::new(vec![0; 4], base, LEN)
    }

    #[derive(Clone, Debug)]
    enum Op {
        Alloc { count: u64, align: u64, end: End },
        FreeAll(usize),
        FreeTail(usize),
        Reserve { first: u64, count: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let end = prop_oneof![Just(End::Low), Just(End::High)];
        prop_oneof![
            4 => (1..40u64, 0..6u32, end).prop_map(|(count, a, end)| Op::Alloc { count, align: 1 << a, end }),
            2 => any::<usize>().prop_map(Op::FreeAll),
            1 => any::<usize>().prop_map(Op::FreeTail),
            1 => (0..LEN + 10, 1..20u64).prop_map(|(first, count)| Op::Reserve { first, count }),
        ]
    }

    /// The first place that a search by hand finds.
    fn search(model: &[bool], base: u64, count: u64, align: u64, end: End) -> Option<u64> {
        let fits = |&at: &u64| {
            (base + at).is_multiple_of(align)
                && at + count <= LEN
                && model[at as usize..(at + count) as usize].iter().all(|t| !t)
        };
        match end {
            End::Low => (0..LEN).find(fits),
            End::High => (0..LEN).rev().find(fits),
        }
        .map(|at| base + at)
    }

    proptest! {
        #[test]
        fn first_fit_agrees_with_a_search_by_hand(base in 0..100u64, ops in prop::collection::vec(op(), 0..60)) {
            let mut r = fresh(base);
            let mut model = vec![false; LEN as usize];
            let mut held: Vec<(u64, u64)> = Vec::new();
            let mark = |model: &mut Vec<bool>, first: u64, count: u64, taken| {
                model[(first - base) as usize..(first - base + count) as usize].fill(taken);
            };
            for op in ops {
                match op {
                    Op::Alloc { count, align, end } => {
                        let want = search(&model, base, count, align, end);
                        prop_assert_eq!(r.alloc(count, align, end), want);
                        if let Some(first) = want {
                            mark(&mut model, first, count, true);
                            held.push((first, count));
                        }
                    }
                    Op::FreeAll(i) if !held.is_empty() => {
                        let (first, count) = held.swap_remove(i % held.len());
                        prop_assert_eq!(r.free(first, count), Ok(()));
                        mark(&mut model, first, count, false);
                        prop_assert_eq!(r.free(first, 1), Err(NotTaken));
                    }
                    Op::FreeTail(i) if !held.is_empty() => {
                        let i = i % held.len();
                        let (first, count) = held[i];
                        let keep = count / 2;
                        prop_assert_eq!(r.free(first + keep, count - keep), Ok(()));
                        mark(&mut model, first + keep, count - keep, false);
                        if keep == 0 { held.swap_remove(i); } else { held[i].1 = keep; }
                    }
                    Op::Reserve { first, count } => {
                        let free = first + count <= LEN
                            && model[first as usize..(first + count) as usize].iter().all(|t| !t);
                        prop_assert_eq!(r.reserve(base + first, count), free);
                        if free {
                            mark(&mut model, base + first, count, true);
                            held.push((base + first, count));
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(r.free_count(), model.iter().filter(|t| !**t).count() as u64);
            }
            for (first, count) in held {
                prop_assert_eq!(r.free(first, count), Ok(()));
            }
            // Everything has merged again.
            prop_assert_eq!(r.alloc(LEN, 1, End::Low), Some(base));
        }
    }

    #[test]
    fn a_large_request_from_above_leaves_the_small_ones_room() {
        let mut r = fresh(0);
        let small = r.alloc(8, 1, End::Low).unwrap();
        let large = r.alloc(128, 64, End::High).unwrap();
        assert_eq!((small, large), (0, 64));
        assert_eq!(r.alloc(57, 1, End::Low), None, "there are 56 below and 8 above");
        assert_eq!(r.alloc(56, 1, End::Low), Some(8));
        assert_eq!(r.alloc(8, 1, End::Low), Some(192));
    }

    #[test]
    fn foreign_numbers_are_refused() {
        let mut r = fresh(1000);
        assert_eq!(r.free(999, 1), Err(NotTaken));
        assert_eq!(r.free(1000 + LEN, 1), Err(NotTaken));
        assert_eq!(r.free(u64::MAX, 2), Err(NotTaken));
        assert!(!r.reserve(1000 + LEN - 1, 2));
        assert_eq!(r.alloc(LEN + 1, 1, End::High), None);
        assert_eq!(r.alloc(1, 1 << 40, End::Low), None);
        assert_eq!(r.alloc(1, 1 << 40, End::High), None);
    }

    #[test]
    fn length_is_cut_to_the_bitmap() {
        let r = Ranges::new([0u64; 2], 5, 1 << 40);
        assert_eq!(r.end(), 5 + 128);
        assert_eq!(Ranges::<[u64; 2]>::empty().free_count(), 0);
    }
}
