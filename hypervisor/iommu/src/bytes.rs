//! Little-endian fields of firmware tables, and structures one after the other.

/// The word at an offset; `None` beyond the end.
pub fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// The double word at an offset.
pub fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Structures one after the other; `length` finds the length of the first in what is left. Ends before the first that
/// is empty or does not fit.
#[derive(Clone, Debug)]
pub struct Chain<'t> {
    rest: &'t [u8],
    length: fn(&[u8]) -> Option<usize>,
}

impl<'t> Chain<'t> {
    /// The structures in `rest`.
    pub fn new(rest: &'t [u8], length: fn(&[u8]) -> Option<usize>) -> Chain<'t> {
        Chain { rest, length }
    }
}

impl<'t> Iterator for Chain<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let n = (self.length)(self.rest).filter(|n| *n > 0)?;
        let (first, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(first)
    }
}
