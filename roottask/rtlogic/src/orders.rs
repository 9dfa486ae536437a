//! How a delegation of any length becomes `ctrl_pd` calls: each takes 2^order selectors, both bases order-aligned.

/// Highest order of one call in this implementation of `ctrl_pd`.
pub const MAX_ORDER: u32 = 18;

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Source selector base.
    pub src: u64,
    /// Destination selector base.
    pub dst: u64,
    /// Order.
    pub order: u32,
}

/// The fewest pieces that cover `count` selectors from `src` to `dst`, in ascending order. Addresses wrap.
pub fn orders(src: u64, dst: u64, count: u64) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let left = count.checked_sub(done).filter(|&l| l > 0)?;
        let (src, dst) = (src.wrapping_add(done), dst.wrapping_add(done));
        let order = (src | dst).trailing_zeros().min(left.ilog2()).min(MAX_ORDER);
        done += 1 << order;
        Some(Piece { src, dst, order })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn pieces_cover_exactly_and_are_aligned(src in 0..1u64 << 40, dst in 0..1u64 << 40, count in 0..1u64 << 21) {
            let mut done = 0;
            for p in orders(src, dst, count) {
                prop_assert_eq!((p.src, p.dst), (src + done, dst + done));
                prop_assert!(p.order <= MAX_ORDER);
                prop_assert_eq!((p.src | p.dst) & ((1 << p.order) - 1), 0);
                done += 1 << p.order;
                prop_assert!(done <= count);
            }
            prop_assert_eq!(done, count);
        }
    }

    #[test]
    fn equally_aligned_ranges_take_few_calls() {
        let got: Vec<_> = orders(0x200, 0x8000_0200, 256 << 8).map(|p| p.order).collect();
        assert_eq!(got, [9, 10, 11, 12, 13, 14, 15, 9]);
        assert_eq!(orders(0, 0, 1 << 20).count(), 4);
        assert_eq!(orders(1, 2, 4).count(), 4, "differently aligned: page by page");
    }
}
