//! What travels.
//!
//! Key types: [`Value`]; [`Size`], what one takes of a message.

use crate::{Bad, REGISTERS, Reader, Writer};
use abi::{Item, UTCB_WORDS};

/// A value in a message: plain data, or capabilities.
pub trait Value: Sized {
    /// Most words that it takes.
    const WORDS: usize;
    /// Capabilities that it takes.
    const ITEMS: usize = 0;
    /// Adds it to a message.
    fn put(&self, to: &mut Writer<'_>);
    /// The next one of a message, or what is wrong with it: the sender may have put anything there.
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad>;
}

/// What a value takes of a message at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Words.
    pub words: usize,
    /// Capabilities.
    pub items: usize,
}

/// That of a type.
pub const fn size<T: Value>() -> Size {
    Size { words: T::WORDS, items: T::ITEMS }
}

const fn sum(all: &[Size]) -> Size {
    let (mut of, mut i) = (Size { words: 0, items: 0 }, 0);
    while i < all.len() {
        of = Size { words: of.words + all[i].words, items: of.items + all[i].items };
        i += 1;
    }
    of
}

/// Whether these fit a message, behind its first word.
pub const fn fits(all: &[Size]) -> bool {
    let s = sum(all);
    // Capabilities have the place of the last words.
    s.items <= Item::MAX && s.words + s.items < UTCB_WORDS
}

/// Whether a call with these arguments and that answer goes in registers both ways.
pub const fn short(arguments: &[Size], answer: Size) -> bool {
    let a = sum(arguments);
    a.items + answer.items == 0 && a.words < REGISTERS && answer.words < REGISTERS
}

/// Words that so many bytes take.
pub const fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

macro_rules! integers {
    ($($t:ty),*) => { $(
        impl Value for $t {
            const WORDS: usize = 1;
            #[inline]
            fn put(&self, to: &mut Writer<'_>) {
                to.word(*self as u64);
            }
            #[inline]
            fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
                let word = from.word()?;
                // As the sender has made it: with the sign in all upper bits.
                if word as $t as u64 == word { Ok(word as $t) } else { Err(Bad::Value) }
            }
        }
    )* };
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Value for bool {
    const WORDS: usize = 1;
    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        to.word(u64::from(*self));
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        match from.word()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Bad::Value),
        }
    }
}

impl Value for () {
    const WORDS: usize = 0;
    #[inline]
    fn put(&self, _: &mut Writer<'_>) {}
    #[inline]
    fn take(_: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(())
    }
}

/// A word that says which, and then the one or the other.
impl<T: Value, E: Value> Value for Result<T, E> {
    const WORDS: usize = 1 + larger(T::WORDS, E::WORDS);
    const ITEMS: usize = larger(T::ITEMS, E::ITEMS);
    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        match self {
            Ok(v) => {
                to.word(0);
                v.put(to);
            }
            Err(e) => {
                to.word(1);
                e.put(to);
            }
        }
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        match from.word()? {
            0 => Ok(Ok(T::take(from)?)),
            1 => Ok(Err(E::take(from)?)),
            _ => Err(Bad::Value),
        }
    }
}

/// A word that says whether, and then the value.
impl<T: Value> Value for Option<T> {
    const WORDS: usize = 1 + T::WORDS;
    const ITEMS: usize = T::ITEMS;
    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        to.word(u64::from(self.is_some()));
        if let Some(v) = self {
            v.put(to);
        }
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        match from.word()? {
            0 => Ok(None),
            1 => Ok(Some(T::take(from)?)),
            _ => Err(Bad::Value),
        }
    }
}

macro_rules! tuples {
    ($(($($t:ident $n:tt),*)),*) => { $(
        impl<$($t: Value),*> Value for ($($t,)*) {
            const WORDS: usize = 0 $(+ $t::WORDS)*;
            const ITEMS: usize = 0 $(+ $t::ITEMS)*;
            #[inline]
            fn put(&self, to: &mut Writer<'_>) {
                $(self.$n.put(to);)*
            }
            #[inline]
            fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
                Ok(($($t::take(from)?,)*))
            }
        }
    )* };
}

tuples!((A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));
