//! Words of messages, written and read one after the other.
//!
//! Key types: [`Writer`], [`Reader`], and [`Bad`], what can be wrong.

use abi::{Arrival, Item, Sel, UTCB_WORDS};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Bad {
    /// There is no method with that number.
    Method = 1,
    /// The message ends before it.
    Short = 2,
    /// No value of its type.
    Value = 3,
    /// The capability is not there, or there was no room for it.
    Capability = 4,
}

impl Bad {
    /// All of them.
    pub const ALL: [Bad; 4] = [Bad::Method, Bad::Short, Bad::Value, Bad::Capability];
}

/// A message that is being written.
#[derive(Debug)]
pub struct Writer<'a> {
    words: &'a mut [u64],
    at: usize,
    items: usize,
}

impl<'a> Writer<'a> {
    /// Into those words; those of a UTCB are all 512, as capabilities go to the end of it.
    #[inline]
    pub fn new(words: &'a mut [u64]) -> Writer<'a> {
        Writer { words, at: 0, items: 0 }
    }

    /// Adds a word. What does not fit is lost, but the macro sees to it that there is nothing that does not.
    #[inline]
    pub fn word(&mut self, word: u64) {
        if let Some(to) = self.words.get_mut(self.at) {
            *to = word;
            self.at += 1;
        }
    }

    /// Adds bytes, and zeroes to fill the last word.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.word(u64::from_le_bytes(word));
        }
    }

    /// Adds a capability, with the permissions that may arrive.
    pub fn item(&mut self, sel: Sel, perms: u8) {
        if self.items < Item::MAX
            && let Some(to) = self.words.get_mut(Item::word(self.items))
        {
            *to = Item::new(sel, perms).0;
            self.items += 1;
        }
    }

    /// How many words and how many capabilities there are.
    #[inline]
    pub fn written(&self) -> (usize, usize) {
        (self.at, self.items)
    }
}

/// A message that has arrived.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    words: &'a [u64],
    at: usize,
    /// The last word is the first item.
    items: &'a [u64],
    taken: usize,
}

impl<'a> Reader<'a> {
    /// Of words alone.
    #[inline]
    pub fn new(words: &'a [u64]) -> Reader<'a> {
        Reader { words, at: 0, items: &[], taken: 0 }
    }

    /// Of a UTCB, with that many words and items.
    pub fn of_utcb(utcb: &'a [u64; UTCB_WORDS], words: usize, items: usize) -> Reader<'a> {
        let items = &utcb[UTCB_WORDS - items.min(Item::MAX)..];
        Reader { words: &utcb[..words.min(UTCB_WORDS)], at: 0, items, taken: 0 }
    }

    /// The next word.
    #[inline]
    pub fn word(&mut self) -> Result<u64, Bad> {
        let word = self.words.get(self.at).ok_or(Bad::Short)?;
        self.at += 1;
        Ok(*word)
    }

    /// The first word of a message; 0, which is no method's, if there is none.
    #[inline]
    pub fn number(&mut self) -> u64 {
        self.word().unwrap_or(0)
    }

    /// The next bytes, in whole words; those that fill the last word count for nothing.
    pub fn bytes(&mut self, into: &mut [u8]) -> Result<(), Bad> {
        into.chunks_mut(8).try_for_each(|part| {
            part.copy_from_slice(&self.word()?.to_le_bytes()[..part.len()]);
            Ok(())
        })
    }

    /// The next value of a type that is known by its bytes.
    pub fn plain<T: TryFromBytes + IntoBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Bad> {
        // Words in an array, as nobody can make one of bytes whose length depends on T.
        let mut words = [0; UTCB_WORDS];
        let bytes = words.as_mut_bytes().get_mut(..size_of::<T>()).ok_or(Bad::Short)?;
        self.bytes(bytes)?;
        T::try_read_from_bytes(bytes).map_err(|_| Bad::Value)
    }

    /// How many capabilities have been read.
    pub fn items_taken(&self) -> usize {
        self.taken
    }

    /// The receiver's selector of the next capability.
    pub fn item(&mut self) -> Result<Sel, Bad> {
        let at = self.items.len().checked_sub(self.taken + 1).ok_or(Bad::Capability)?;
        self.taken += 1;
        let item = Item(self.items[at]);
        match item.arrival() {
            Some(Arrival::Known | Arrival::New) => Ok(item.sel()),
            _ => Err(Bad::Capability),
        }
    }
}
