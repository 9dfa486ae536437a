//! What is known of an interface when no code of it runs: names, versions, costs.
//!
//! Key types: [`Table`], [`Built`].

use crate::{Error, Size, Text, Value};
use core::fmt;

/// An interface: `dyn Timer` of trait `Timer`.
pub trait Interface {
    /// What it consists of.
    const TABLE: &'static Table;
}

/// An interface.
#[derive(PartialEq, Eq)]
pub struct Table {
    /// Name of the trait.
    pub name: &'static str,
    /// Documentation of the trait.
    pub doc: &'static str,
    /// Version.
    pub built: Built,
    /// What a session donates at least.
    pub cost: Cost,
    /// Methods, the first is number 1.
    pub methods: &'static [Method],
}

/// Its name is enough in messages.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.built.version)
    }
}

/// Quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// RAM in bytes.
    pub ram: u64,
    /// Capabilities.
    pub caps: u32,
}

/// A method.
#[derive(PartialEq, Eq, Debug)]
pub struct Method {
    /// Name.
    pub name: &'static str,
    /// Documentation.
    pub doc: &'static str,
    /// Arguments.
    pub arguments: &'static [Argument],
    /// Type of the answer.
    pub returns: &'static str,
    /// What the answer takes at most, without the word that says how it went.
    pub answer: Size,
    /// Whether call and answer go in registers.
    pub short: bool,
}

/// An argument.
#[derive(PartialEq, Eq, Debug)]
pub struct Argument {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: &'static str,
    /// What it takes at most.
    pub size: Size,
}

/// A version: a new minor one has more methods at the end, a new major one is another interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What somebody was built against; a client sends it when it asks for a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Built {
    /// Version.
    pub version: Version,
    /// Of the names and types of all methods, so that a change without a new version is noticed.
    pub fingerprint: u64,
}

impl Version {
    /// As one number: the major version in bits 31:16.
    pub const fn number(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }

    /// The version of that number.
    pub const fn from_number(n: u32) -> Version {
        Version { major: (n >> 16) as u16, minor: n as u16 }
    }
}

impl Value for Version {
    const WORDS: usize = 1;
    fn put(&self, to: &mut crate::Writer<'_>) {
        to.word(self.number().into());
    }
    fn take(from: &mut crate::Reader<'_>) -> Result<Self, crate::Bad> {
        u32::take(from).map(Version::from_number)
    }
}

impl Value for Built {
    const WORDS: usize = 2;
    fn put(&self, to: &mut crate::Writer<'_>) {
        self.version.put(to);
        to.word(self.fingerprint);
    }
    fn take(from: &mut crate::Reader<'_>) -> Result<Self, crate::Bad> {
        Ok(Built { version: Version::take(from)?, fingerprint: u64::take(from)? })
    }
}

impl Table {
    /// What its service is called in configurations: the name in small letters, `_` between words (`IoMem`: `io_mem`).
    pub fn service<const N: usize>(&self) -> Option<Text<N>> {
        let (mut name, mut len) = ([0; N], 0);
        for (i, b) in self.name.bytes().enumerate() {
            let new = b.is_ascii_uppercase() && i > 0;
            for b in new.then_some(b'_').into_iter().chain([b.to_ascii_lowercase()]) {
                *name.get_mut(len)? = b;
                len += 1;
            }
        }
        Text::new(core::str::from_utf8(&name[..len]).ok()?)
    }

    /// Whether a server of this interface serves a client that was built against `theirs`.
    ///
    /// [`Error::Incompatible`]: another major version; a newer minor one, whose methods the server may not have; or the
    /// same version with other methods.
    pub fn admits(&'static self, theirs: Built) -> Result<(), Error> {
        let ours = self.built;
        let served = ours.version.major == theirs.version.major
            && theirs.version.minor <= ours.version.minor
            && (theirs.version != ours.version || theirs.fingerprint == ours.fingerprint);
        if served { Ok(()) } else { Err(Error::Incompatible { interface: self, theirs: theirs.version }) }
    }

    /// The method with that number.
    pub fn method(&self, number: u16) -> Option<&'static Method> {
        self.methods.get(usize::from(number).checked_sub(1)?)
    }
}
