//! Assembles lines out of writes of any length.

/// Holds the beginning of a line until its end arrives; `N` bytes at most.
#[derive(Debug)]
pub struct LineBuffer<const N: usize> {
    held: [u8; N],
    len: usize,
}

impl<const N: usize> LineBuffer<N> {
    /// An empty one.
    pub const fn new() -> Self {
        LineBuffer { held: [0; N], len: 0 }
    }

    /// Adds `text`. `sink` gets each piece that is complete: one or more whole lines, or, of a line longer than the
    /// buffer, the part that does not fit any more. No byte is lost or comes out of order.
    pub fn push(&mut self, mut text: &[u8], sink: &mut impl FnMut(&[u8])) {
        let Some(last) = text.iter().rposition(|&b| b == b'\n') else { return self.hold(text, sink) };
        if self.len > 0 {
            // The held beginning needs the rest of its line; what follows can go out as it is.
            let first = text.iter().position(|&b| b == b'\n').map_or(last, |f| f.min(last));
            self.hold(&text[..=first], sink);
            self.flush(sink);
            text = &text[first + 1..];
        }
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |l| l + 1);
        if whole > 0 {
            sink(&text[..whole]);
        }
        self.hold(&text[whole..], sink);
    }

    /// Hands out what is held, if anything.
    pub fn flush(&mut self, sink: &mut impl FnMut(&[u8])) {
        if self.len > 0 {
            sink(&self.held[..self.len]);
            self.len = 0;
        }
    }

    /// Whether a line has begun and not ended.
    pub const fn is_open(&self) -> bool {
        self.len > 0
    }

    fn hold(&mut self, mut text: &[u8], sink: &mut impl FnMut(&[u8])) {
        while !text.is_empty() {
            if self.len == N {
                self.flush(sink);
            }
            let n = text.len().min(N - self.len);
            self.held[self.len..self.len + n].copy_from_slice(&text[..n]);
            self.len += n;
            text = &text[n..];
        }
    }
}

impl<const N: usize> Default for LineBuffer<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn feed(writes: &[Vec<u8>]) -> (Vec<Vec<u8>>, LineBuffer<8>) {
        let mut b = LineBuffer::<8>::new();
        let mut out = Vec::new();
        for w in writes {
            b.push(w, &mut |p| out.push(p.to_vec()));
        }
        (out, b)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_short_lines_stay_whole(
            writes in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"ab\n"[..]), 0..12), 0..12),
        ) {
            let (mut out, mut b) = feed(&writes);
            let open = b.is_open();
            let whole: Vec<u8> = writes.concat();
            prop_assert_eq!(open, whole.last().is_some_and(|&c| c != b'\n'));
            b.flush(&mut |p| out.push(p.to_vec()));
            prop_assert_eq!(out.concat(), whole.clone());
            // A piece that does not end a line is from a line that is too long for the buffer, or the flushed rest.
            for (i, p) in out.iter().enumerate() {
                prop_assert!(!p.is_empty());
                prop_assert!(p.ends_with(b"\n") || p.len() == 8 || i == out.len() - 1);
            }
        }
    }

    #[test]
    fn lines_come_out_whole() {
        let (out, b) = feed(&[b"ab".to_vec(), b"c\nd\ne\nf".to_vec(), b"g\n".to_vec()]);
        assert_eq!(out, [b"abc\n".to_vec(), b"d\ne\n".to_vec(), b"fg\n".to_vec()]);
        assert!(!b.is_open());
    }

    #[test]
    fn a_line_longer_than_the_buffer_comes_in_parts() {
        let (out, _) = feed(&[b"0123456789".to_vec(), b"\n".to_vec()]);
        assert_eq!(out, [b"01234567".to_vec(), b"89\n".to_vec()]);
        let (out, _) = feed(&[b"0123456789abc\n".to_vec()]);
        assert_eq!(out, [b"0123456789abc\n".to_vec()], "needs no buffer at all");
    }
}
