//! Why a call did not come back with its answer.
//!
//! Key types: [`Error`], [`Refusal`].

use crate::{Bad, Table, Version};
use abi::Status;
use core::fmt;

/// Why a call failed, or a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no such object: it was dissolved, its server has died, or never was there. Another session may help.
    Gone,
    /// The object is served on another CPU, and its caller can have no courier there.
    OtherCpu,
    /// The kernel says so.
    Kernel(Status),
    /// The server found a mistake in the message.
    Refused(Refusal),
    /// We found a mistake in its answer.
    Answer(Refusal),
    /// A client was built against another version.
    Incompatible {
        /// The server's interface.
        interface: &'static Table,
        /// The client's version.
        theirs: Version,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone => f.write_str("the object is gone"),
            Error::OtherCpu => f.write_str("the object is served on another CPU, where no courier can be had"),
            Error::Kernel(status) => write!(f, "the kernel refused the call: {status:?}"),
            Error::Refused(r) => write!(f, "the server refused the call: {r}"),
            Error::Answer(r) => write!(f, "the server's answer is wrong: {r}"),
            Error::Incompatible { interface, theirs } => {
                let ours = interface.built.version;
                write!(f, "{}: the server has version {ours}, the client was built against {theirs}", interface.name)?;
                if ours == *theirs { f.write_str(" with other methods") } else { Ok(()) }
            }
        }
    }
}

impl core::error::Error for Error {}

/// A mistake in a message: where, and what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The interface.
    pub table: &'static Table,
    /// The method's number.
    pub method: u16,
    /// The argument's number, from 1; 0: the message as a whole, or the answer.
    pub argument: u8,
    /// What is wrong.
    pub bad: Bad,
}

impl Refusal {
    /// What the first word of an answer says: 0 for success, else [`Bad`] in bits 7:0, the argument above.
    pub(crate) fn word(argument: u8, bad: Bad) -> u64 {
        u64::from(argument) << 8 | bad as u64
    }

    /// What that word says of a call; `None`: success.
    #[inline]
    pub(crate) fn from_word(word: u64, table: &'static Table, method: u16) -> Option<Error> {
        if word == 0 { None } else { Some(Self::other(word, table, method)) }
    }

    #[cold]
    fn other(word: u64, table: &'static Table, method: u16) -> Error {
        let refusal = |argument, bad| Refusal { table, method, argument, bad };
        let bad = Bad::ALL.into_iter().find(|b| *b as u64 == word & 0xff && word >> 16 == 0);
        match bad {
            Some(bad) => Error::Refused(refusal((word >> 8) as u8, bad)),
            None => Error::Answer(refusal(0, Bad::Value)),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.table.method(self.method);
        match method {
            Some(m) => write!(f, "{}.{}", self.table.name, m.name)?,
            None => write!(f, "{}, method {}", self.table.name, self.method)?,
        }
        let argument = method.zip(self.argument.checked_sub(1)).and_then(|(m, i)| m.arguments.get(usize::from(i)));
        match argument {
            Some(a) => write!(f, ", argument `{}`", a.name)?,
            None if self.argument != 0 => write!(f, ", argument {}", self.argument)?,
            None => {}
        }
        f.write_str(match self.bad {
            Bad::Method => ": there is no such method",
            Bad::Short => ": the message is too short",
            Bad::Value => ": not a value of its type",
            Bad::Capability => ": there is no capability, or no room for it",
        })
    }
}
