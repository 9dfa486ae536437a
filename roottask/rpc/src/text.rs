//! Bytes and text of bounded length, as values.
//!
//! Key types: [`Bytes`], [`Text`].

use crate::{Bad, Reader, Value, Writer, words_of};
use core::fmt;

/// At most `N` bytes.
#[derive(Clone, Copy)]
pub struct Bytes<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> Bytes<N> {
    /// These. `None`: they are more than `N`.
    pub fn new(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Bytes { len: from.len(), bytes })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Bytes { len: 0, bytes: [0; N] }
    }
}

impl<const N: usize> PartialEq for Bytes<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<const N: usize> Eq for Bytes<N> {}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// Their number in a word, then the bytes.
impl<const N: usize> Value for Bytes<N> {
    const WORDS: usize = 1 + words_of(N);
    fn put(&self, to: &mut Writer<'_>) {
        to.word(self.len as u64);
        to.bytes(self.as_slice());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let mut bytes = [0; N];
        let len = usize::try_from(from.word()?).map_err(|_| Bad::Value)?;
        from.bytes(bytes.get_mut(..len).ok_or(Bad::Value)?)?;
        Ok(Bytes { len, bytes })
    }
}

/// Text, at most `N` bytes of UTF-8.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Text<const N: usize>(Bytes<N>);

impl<const N: usize> Text<N> {
    /// That text. `None`: it is longer than `N` bytes.
    pub fn new(text: &str) -> Option<Self> {
        Bytes::new(text.as_bytes()).map(Text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Both ways to make one have seen to it.
        core::str::from_utf8(self.0.as_slice()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// As [`Bytes`].
impl<const N: usize> Value for Text<N> {
    const WORDS: usize = Bytes::<N>::WORDS;
    fn put(&self, to: &mut Writer<'_>) {
        self.0.put(to);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let bytes = Bytes::take(from)?;
        core::str::from_utf8(bytes.as_slice()).map_err(|_| Bad::Value)?;
        Ok(Text(bytes))
    }
}
