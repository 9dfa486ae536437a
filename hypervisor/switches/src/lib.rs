//! What the kernel uses only where a CPU has it, and the words of its command line that turn it off, to see what it brings
//! (docs/design/0017, "What the CPU offers").
//!
//! Key types: [`Switches`], a set of features; [`CommandLine`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use bitflags::bitflags;
use core::fmt::{self, Write};

bitflags! {
    /// Features, a bit each.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Switches: u16 {
        /// Translations of an address space stay over switches.
        const PCID = 1 << 0;
        /// Pages of 1 GiB, for host and guests.
        const GIANT_PAGES = 1 << 1;
        /// The local APIC's timer fires at a time of the TSC.
        const TSC_DEADLINE = 1 << 2;
        /// XSAVEOPT in place of XSAVE.
        const XSAVEOPT = 1 << 3;
        /// The fast path of calls and the quick ones of semaphores and VM exits: of the kernel, on every CPU.
        const FAST_PATH = 1 << 4;
        /// CR8 of a guest is in memory (VT-x).
        const TPR_SHADOW = 1 << 5;
        /// A guest's time ends without an interrupt (VT-x).
        const PREEMPTION_TIMER = 1 << 6;
        /// Exits tell the address of the next instruction (SVM).
        const NRIPS = 1 << 7;
        /// Exits tell operands (SVM).
        const DECODE_ASSISTS = 1 << 8;
        /// The translations of one guest can be flushed alone (SVM).
        const FLUSH_BY_ASID = 1 << 9;
        /// State that has not changed is not loaded again (SVM).
        const CLEAN_BITS = 1 << 10;
    }
}

/// What they are called, in the order of their bits.
const NAMES: &[u8] = b"pcid 1g-pages tsc-deadline xsaveopt fast-path tpr-shadow preemption-timer nrips decode-assists \
                       flush-by-asid clean-bits";
/// Before a name: it is turned off.
const NOT: &[u8] = b"no-";

/// Takes the next word off a line: bytes up to a space, a control character, such as a zero at the end, or the end.
#[inline(never)]
fn next<'a>(line: &mut &'a [u8]) -> Option<&'a [u8]> {
    loop {
        let (first, rest) = line.split_first()?;
        if *first > b' ' {
            break;
        }
        *line = rest;
    }
    let end = line.iter().position(|b| *b <= b' ').unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end)?;
    *line = rest;
    Some(word)
}

/// What a word turns off; nothing: it means nothing.
#[inline(never)]
fn turned_off(word: &[u8]) -> Switches {
    let Some(name) = word.strip_prefix(NOT) else { return Switches::empty() };
    let (mut names, mut bit) = (NAMES, 1);
    while let Some(n) = next(&mut names) {
        if n == name {
            return Switches::from_bits_retain(bit);
        }
        bit <<= 1;
    }
    Switches::empty()
}

/// Writes a word behind a space.
#[inline(never)]
fn put(f: &mut fmt::Formatter, word: &[u8]) -> fmt::Result {
    f.write_char(' ')?;
    word.iter().try_for_each(|b| f.write_char(char::from(*b)))
}

/// The names, each behind a space.
impl fmt::Display for Switches {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (mut names, mut left) = (NAMES, self.bits());
        while let Some(name) = next(&mut names) {
            if left & 1 != 0 {
                put(f, name)?;
            }
            left >>= 1;
        }
        Ok(())
    }
}

/// The kernel's command line: words behind spaces. It is printed as what it does, and which of its words mean nothing.
pub struct CommandLine<'a>(pub &'a [u8]);

impl CommandLine<'_> {
    /// What it turns off; `None`: there is no word.
    pub fn off(&self) -> Option<Switches> {
        let (mut line, mut all) = (self.0, None);
        while let Some(word) = next(&mut line) {
            all = Some(all.unwrap_or_default() | turned_off(word));
        }
        all
    }
}

impl fmt::Display for CommandLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("turned off:")?;
        self.off().unwrap_or_default().fmt(f)?;
        let (mut line, mut any) = (self.0, false);
        while let Some(word) = next(&mut line) {
            if turned_off(word).is_empty() {
                if !any {
                    f.write_str("; unknown:")?;
                }
                any = true;
                put(f, word)?;
            }
        }
        if any {
            f.write_str("; known, each behind no-:")?;
            Switches::all().fmt(f)?;
        }
        Ok(())
    }
}
