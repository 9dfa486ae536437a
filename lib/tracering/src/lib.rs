//! Rings of trace records in shared memory: one writer that never waits for anybody, and readers that may be too slow
//! and then know how much they have missed.
//!
//! A ring is an array of 64-bit words. Word 0 counts the records written so far; record n is in the four words from
//! `4 * (1 + n % records)` on:
//!
//! | Word | |
//! |---|---|
//! | 0 | time |
//! | 1 | tag: kind and a bit that says "whole" in 7:0, n in 31:8, who in 63:32; 0 while the record is written |
//! | 2, 3 | arguments |
//!
//! A record is whole if the tag is the one of n before and after its words were read. The writer makes the tag 0 before
//! it changes anything else and sets it last, so no mixture of two records ever looks whole.
//!
//! Key types: [`write`], [`Reader`], [`Record`], [`Words`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};

/// Words of a record, and of the header.
pub const RECORD_WORDS: usize = 4;
/// Kinds are below.
pub const KINDS: u8 = 0x80;
/// In the tag: there is a record.
const WHOLE: u64 = 0x80;

/// The memory of a ring.
pub trait Words {
    /// How many words: a header and at least one record.
    fn count(&self) -> usize;
    /// Loads a word with `Acquire`.
    fn load(&self, at: usize) -> u64;
}

/// The same for the writer.
pub trait WordsMut: Words {
    /// Stores a word with `Release`.
    fn store(&self, at: usize, v: u64);
}

impl Words for [AtomicU64] {
    fn count(&self) -> usize {
        self.len()
    }
    fn load(&self, at: usize) -> u64 {
        self[at].load(Ordering::Acquire)
    }
}

impl WordsMut for [AtomicU64] {
    fn store(&self, at: usize, v: u64) {
        self[at].store(v, Ordering::Release);
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub time: u64,
    /// What, below [`KINDS`].
    pub kind: u8,
    /// Who.
    pub who: u32,
    /// More about it.
    pub args: [u64; 2],
}

/// What a reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The next record.
    Record(Record),
    /// So many records were overwritten before they could be read.
    Lost(u64),
}

fn records(words: &(impl Words + ?Sized)) -> u64 {
    (words.count() / RECORD_WORDS).saturating_sub(1) as u64
}

/// First word of record `n`.
fn place(words: &(impl Words + ?Sized), n: u64) -> usize {
    (1 + (n % records(words).max(1)) as usize) * RECORD_WORDS
}

fn tag(n: u64, r: &Record) -> u64 {
    u64::from(r.who) << 32 | (n & 0xff_ffff) << 8 | WHOLE | u64::from(r.kind & (KINDS - 1))
}

/// Appends a record. There is one writer at a time.
pub fn write(words: &(impl WordsMut + ?Sized), r: &Record) {
    let n = words.load(0);
    let at = place(words, n);
    words.store(at + 1, 0);
    words.store(at, r.time);
    words.store(at + 2, r.args[0]);
    words.store(at + 3, r.args[1]);
    words.store(at + 1, tag(n, r));
    words.store(0, n + 1);
}

/// Reads a ring from its oldest record on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    next: u64,
}

impl Reader {
    /// What comes next; `None`: nothing yet.
    pub fn next(&mut self, words: &(impl Words + ?Sized)) -> Option<Found> {
        let written = words.load(0);
        if written <= self.next {
            return None;
        }
        let oldest = written.saturating_sub(records(words));
        if oldest > self.next {
            let lost = oldest - self.next;
            self.next = oldest;
            return Some(Found::Lost(lost));
        }
        let n = self.next;
        self.next += 1;
        Some(whole(words, n).map_or(Found::Lost(1), Found::Record))
    }
}

/// Record `n`, if it is still there.
fn whole(words: &(impl Words + ?Sized), n: u64) -> Option<Record> {
    let at = place(words, n);
    let before = words.load(at + 1);
    let (time, args) = (words.load(at), [words.load(at + 2), words.load(at + 3)]);
    let after = words.load(at + 1);
    let r = Record { time, kind: (before & 0xff & !WHOLE) as u8, who: (before >> 32) as u32, args };
    (before == after && before == tag(n, &r)).then_some(r)
}
