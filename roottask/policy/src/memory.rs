//! The book of physical memory: what is free, and who took it stays taken.
//!
//! Key types: [`Book`], [`PhysRange`]; [`chunks`] cuts a mapping into the aligned powers of two that `ctrl_pd` takes.

use init::human;
use thiserror::Error;

const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Allocations of at least this size are aligned to it, so that large pages can map them.
const LARGE: u64 = 2 << 20;

/// A range of physical memory: start and end (exclusive) in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysRange {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
}

impl PhysRange {
    /// From start and length; cut off at the end of the address space.
    pub const fn new(start: u64, len: u64) -> PhysRange {
        PhysRange { start, end: start.saturating_add(len) }
    }

    /// Length in bytes; 0 for a range that ends before it starts.
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The whole pages that touch the range.
    pub const fn outward(self) -> PhysRange {
        let end = match self.end.checked_next_multiple_of(PAGE) {
            Some(e) => e,
            None => !(PAGE - 1),
        };
        PhysRange { start: self.start & !(PAGE - 1), end }
    }

    /// The whole pages inside the range.
    pub const fn inward(self) -> PhysRange {
        let start = match self.start.checked_next_multiple_of(PAGE) {
            Some(s) => s,
            None => !(PAGE - 1),
        };
        PhysRange { start, end: self.end & !(PAGE - 1) }
    }
}

/// No memory for a request.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("{} asked, {} free, largest free block {}", human(*.asked), human(*.free), human(*.largest))]
pub struct MemoryError {
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes free in all.
    pub free: u64,
    /// Bytes in the largest free block that has the alignment asked for.
    pub largest: u64,
}

/// Free physical memory, in whole pages.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Sorted, disjoint, not adjacent, not empty, page-aligned.
    free: Vec<PhysRange>,
}

impl Book {
    /// A book of the `available` ranges of the firmware's map less the `reserved` ones. Ranges may overlap.
    pub fn new(available: impl IntoIterator<Item = PhysRange>, reserved: impl IntoIterator<Item = PhysRange>) -> Book {
        let mut book = Book::default();
        available.into_iter().for_each(|r| book.insert(r.inward()));
        reserved.into_iter().for_each(|r| book.remove(r.outward()));
        book
    }

    /// The free ranges in ascending order.
    pub fn free_ranges(&self) -> &[PhysRange] {
        &self.free
    }

    /// Bytes free in all.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|r| r.len()).sum()
    }

    /// Takes `len` bytes, rounded up to pages: contiguous, from the lowest address that fits, aligned to 2 MiB if it
    /// is that large and to a page otherwise.
    pub fn take(&mut self, len: u64) -> Result<PhysRange, MemoryError> {
        let align = if len >= LARGE { LARGE } else { PAGE };
        let found = len
            .max(1)
            .checked_next_multiple_of(PAGE)
            .and_then(|len| self.free.iter().find_map(|r| fit(*r, align).filter(|f| f.len() >= len).map(|f| (f, len))));
        let Some((fit, len)) = found else { return Err(self.shortage(len, align)) };
        let taken = PhysRange::new(fit.start, len);
        self.remove(taken);
        Ok(taken)
    }

    /// Gives a range back.
    pub fn give_back(&mut self, range: PhysRange) {
        self.insert(range.inward());
    }

    fn shortage(&self, asked: u64, align: u64) -> MemoryError {
        let largest = self.free.iter().filter_map(|r| fit(*r, align)).map(PhysRange::len).max().unwrap_or(0);
        MemoryError { asked, free: self.free_bytes(), largest }
    }

    /// Takes `r` out of the free ranges.
    fn remove(&mut self, r: PhysRange) {
        if r.is_empty() {
            return;
        }
        let pieces = |f: &PhysRange| {
            let below = PhysRange { start: f.start, end: f.end.min(r.start) };
            let above = PhysRange { start: f.start.max(r.end), end: f.end };
            [below, above]
        };
        self.free = self.free.iter().flat_map(pieces).filter(|p| !p.is_empty()).collect();
    }

    /// Unites `r` with the free ranges.
    fn insert(&mut self, mut r: PhysRange) {
        if r.is_empty() {
            return;
        }
        self.free.retain(|f| {
            let touches = f.start <= r.end && r.start <= f.end;
            if touches {
                r = PhysRange { start: r.start.min(f.start), end: r.end.max(f.end) };
            }
            !touches
        });
        let at = self.free.partition_point(|f| f.start < r.start);
        self.free.insert(at, r);
    }
}

/// The part of `r` from its first aligned address on.
fn fit(r: PhysRange, align: u64) -> Option<PhysRange> {
    let start = r.start.checked_next_multiple_of(align)?;
    Some(PhysRange { start, end: r.end }).filter(|f| !f.is_empty())
}

/// One `ctrl_pd` call: page numbers of source and destination, aligned to `1 << order` pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Source page.
    pub src: u64,
    /// Destination page.
    pub dst: u64,
    /// log2 of the number of pages.
    pub order: u32,
}

/// Cuts `count` pages (or ports, or selectors) from `src` to `dst` into naturally aligned powers of two of at most
/// `max_order`.
pub fn chunks(src: u64, dst: u64, count: u64, max_order: u32) -> impl Iterator<Item = Chunk> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = count.checked_sub(done).filter(|&l| l > 0)?;
        let (s, d) = (src.checked_add(done)?, dst.checked_add(done)?);
        let order = left.ilog2().min((s | d).trailing_zeros()).min(max_order);
        done += 1 << order;
        Some(Chunk { src: s, dst: d, order })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const M: u64 = 1 << 20;

    fn book(ranges: &[(u64, u64)]) -> Book {
        Book::new(ranges.iter().map(|&(start, end)| PhysRange { start, end }), [])
    }

    #[test]
    fn reserved_ranges_are_never_free() {
        let reserved = [PhysRange::new(0, M), PhysRange { start: 0x20_0800, end: 0x20_0801 }];
        let b = Book::new([PhysRange::new(0, 4 * M)], reserved);
        let want = [PhysRange { start: M, end: 0x20_0000 }, PhysRange { start: 0x20_1000, end: 4 * M }];
        assert_eq!(b.free_ranges(), want);
    }

    #[test]
    fn partial_pages_of_the_firmware_map_are_not_used() {
        assert_eq!(book(&[(0x1001, 0x3fff)]).free_ranges(), [PhysRange { start: 0x2000, end: 0x3000 }]);
        assert!(book(&[(0x1001, 0x1fff)]).free_ranges().is_empty());
        assert!(book(&[(5 * M, M)]).free_ranges().is_empty(), "a range that ends before it starts");
    }

    #[test]
    fn ranges_at_the_end_of_the_address_space_are_rounded_without_overflow() {
        const LAST: u64 = !(PAGE - 1);
        let top = |start| PhysRange { start, end: u64::MAX };
        assert_eq!(top(LAST - PAGE + 1).outward(), PhysRange { start: LAST - PAGE, end: LAST });
        assert!(top(LAST + 1).inward().is_empty());
        assert_eq!(top(LAST - 1).inward().len(), 0);
        let b = Book::new([top(LAST - 4 * PAGE)], [top(LAST - PAGE - 1)]);
        assert_eq!(b.free_ranges(), [PhysRange::new(LAST - 4 * PAGE, 2 * PAGE)]);
    }

    #[test]
    fn a_reserved_range_without_a_byte_takes_nothing() {
        let whole = PhysRange::new(M, M);
        let b = Book::new([whole], [PhysRange::new(M + PAGE, 0), PhysRange { start: 3 * M / 2, end: M }]);
        assert_eq!(b.free_ranges(), [whole]);
    }

    #[test]
    fn overlapping_ranges_of_the_firmware_map_merge() {
        assert_eq!(book(&[(M, 3 * M), (2 * M, 4 * M), (4 * M, 5 * M)]).free_ranges(), [PhysRange::new(M, 4 * M)]);
    }

    #[test]
    fn large_blocks_are_aligned_to_large_pages() {
        let mut b = book(&[(M, 16 * M)]);
        assert_eq!(b.take(5000), Ok(PhysRange::new(M, 8192)));
        assert_eq!(b.take(3 * M), Ok(PhysRange::new(2 * M, 3 * M)));
    }

    #[test]
    fn shortage_names_all_three_figures() {
        let mut b = book(&[(M, 3 * M), (8 * M, 11 * M)]);
        let e = b.take(4 * M).unwrap_err();
        assert_eq!(e, MemoryError { asked: 4 * M, free: 5 * M, largest: 3 * M });
        assert_eq!(e.to_string(), "4M asked, 5M free, largest free block 3M");
        assert!(b.take(u64::MAX).is_err());
        assert_eq!(Book::default().take(1).unwrap_err().largest, 0);
    }

    #[test]
    fn chunks_use_the_largest_order_that_both_alignments_allow() {
        let list: Vec<_> = chunks(0x200, 0x400, 0x601, 9).collect();
        let c = |src, dst, order| Chunk { src, dst, order };
        assert_eq!(list, [c(0x200, 0x400, 9), c(0x400, 0x600, 9), c(0x600, 0x800, 9), c(0x800, 0xa00, 0)]);
        assert_eq!(chunks(1, 2, 3, 18).map(|c| c.order).collect::<Vec<_>>(), [0, 0, 0]);
        assert_eq!(chunks(0, 0, 0, 18).count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(
            map in prop::collection::vec((0u64..64 * M, 1u64..24 * M), 0..5),
            holes in prop::collection::vec((0u64..64 * M, 1u64..2 * M), 0..5),
            asks in prop::collection::vec((1u64..5 * M, any::<bool>()), 0..30),
        ) {
            let holes: Vec<_> = holes.into_iter().map(|(s, l)| PhysRange::new(s, l)).collect();
            let mut b = Book::new(map.iter().map(|&(s, l)| PhysRange::new(s, l)), holes.iter().copied());
            let total = b.free_bytes();
            let mut held: Vec<PhysRange> = Vec::new();
            for (len, release) in asks {
                if let Ok(r) = b.take(len) {
                    prop_assert!(r.len() >= len && r.len() - len < PAGE);
                    prop_assert_eq!(r.start % if len >= LARGE { LARGE } else { PAGE }, 0);
                    for other in held.iter().chain(&holes) {
                        prop_assert!(r.end <= other.start || other.end <= r.start, "{:?} and {:?}", r, other);
                    }
                    held.push(r);
                }
                if release && !held.is_empty() {
                    b.give_back(held.swap_remove(held.len() / 2));
                }
                let taken: u64 = held.iter().map(|r| r.len()).sum();
                prop_assert_eq!(b.free_bytes() + taken, total);
                prop_assert!(b.free_ranges().windows(2).all(|w| w[0].end < w[1].start));
            }
        }

        #[test]
        fn chunks_cover_exactly(src in 0u64..5000, dst in 0u64..5000, count in 0u64..3000, max in 0u32..19) {
            let mut next = 0;
            for c in chunks(src, dst, count, max) {
                prop_assert_eq!((c.src, c.dst), (src + next, dst + next));
                prop_assert!(c.order <= max && c.src.is_multiple_of(1 << c.order) && c.dst.is_multiple_of(1 << c.order));
                next += 1 << c.order;
            }
            prop_assert_eq!(next, count);
        }
    }
}
