//! Little-endian fields of firmware tables, structures one after the other, and whether a table is sound.

use core::fmt;

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

    /// Whether they fill `rest`.
    pub fn whole(mut self) -> bool {
        while self.next().is_some() {}
        self.rest.is_empty()
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

/// Why a firmware table is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its bytes do not add up to 0.
    Checksum,
    /// Its structures do not fill it: what would be left out might be an IOMMU.
    Structures,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Checksum => "a wrong checksum",
            Damage::Structures => "structures that do not fit",
        })
    }
}

/// The structures that begin at an offset of a table and have their length at [`LENGTH`].
pub fn structures(table: &[u8], at: usize) -> Result<Chain<'_>, Damage> {
    if table.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) != 0 {
        return Err(Damage::Checksum);
    }
    let all = Chain::new(table.get(at..).ok_or(Damage::Structures)?, |b| u16_at(b, LENGTH).map(usize::from));
    if all.clone().whole() { Ok(all) } else { Err(Damage::Structures) }
}

/// Where a structure has its length.
const LENGTH: usize = 2;

/// Makes the bytes of a table add up.
#[cfg(test)]
pub fn sum_up(table: &mut [u8]) {
    table[9] = 0;
    table[9] = table.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
}
