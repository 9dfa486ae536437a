//! What an emulator executes, an instruction at a time: [`Step`]; and what can make it tell: [`Stepper`].

use anyhow::Result;
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// Selectors of the kernel's code and of user mode's (`arch/tables.rs`).
const KERNEL_CS: u16 = 0x08;
const USER_CS: u16 = 0x23;
/// Where the kernel is linked to.
const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// Who executes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    User,
    Kernel,
    Guest,
}

impl Mode {
    /// By code segment and address: a guest has others than ours, or others at these addresses.
    pub fn of(cs: u16, at: u64) -> Mode {
        match cs {
            KERNEL_CS if at >= KERNEL => Mode::Kernel,
            USER_CS if at >> 47 == 0 => Mode::User,
            _ => Mode::Guest,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Mode::User => "user mode",
            Mode::Kernel => "kernel",
            Mode::Guest => "guest",
        }
    }
}

/// An instruction that was executed; each repetition of one with REP is a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: u64,
    pub mode: Mode,
    /// Its bytes; none if they cannot be known, as those of a guest.
    pub code: Vec<u8>,
}

impl Step {
    /// `None`: of a guest, which has its own ways.
    pub fn decode(&self) -> Option<Instruction> {
        let known = self.mode != Mode::Guest && !self.code.is_empty();
        known.then(|| Decoder::with_ip(64, &self.code, self.at, DecoderOptions::NONE).decode())
    }
}

/// What was executed between two stops.
pub struct Trace {
    /// `None`: more than there is room for.
    pub steps: Option<Vec<Step>>,
    /// Where it stopped. `None`: the machine has ended.
    pub end: Option<u64>,
}

/// A machine that a debugger holds.
pub trait Stepper {
    /// From now on it stops at these addresses of code, and at no others.
    fn stop_at(&mut self, addresses: &[u64]) -> Result<()>;
    /// Runs until it stops; where. `None`: it has ended.
    fn go(&mut self) -> Result<Option<u64>>;
    /// The same, with all that it executes from here to there, if that is at most so much.
    fn trace(&mut self, most: usize) -> Result<Trace>;
    /// The name that RDI points to, of RSI bytes. `None`: there is none; it is another component that stopped, as all are
    /// linked to the same addresses.
    fn text(&mut self) -> Result<Option<String>>;
    /// Lets it run without us.
    fn leave(&mut self) -> Result<()>;
}

/// The longest name of a row.
pub const LONGEST_NAME: u64 = 200;

/// A row's name, if it is one.
pub fn name(bytes: Vec<u8>) -> Option<String> {
    let named = |t: &String| t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    String::from_utf8(bytes).ok().filter(|t| !t.is_empty()).filter(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_of_another_component() {
        assert_eq!(name(b"call_reply_8w".to_vec()).unwrap(), "call_reply_8w");
        assert!([&b""[..], b"\xff\xfe", b"a b"].iter().all(|b| name(b.to_vec()).is_none()));
    }

    #[test]
    fn modes_are_told_by_segment_and_address() {
        assert_eq!(Mode::of(0x08, 0xffff_ffff_8020_8000), Mode::Kernel);
        assert_eq!(Mode::of(0x23, 0x40_c000), Mode::User);
        assert_eq!(Mode::of(0, 0x13f8), Mode::Guest);
        assert_eq!(Mode::of(0x08, 0x10_0000), Mode::Guest, "a flat segment of its own");
        let step = |mode, code: &[u8]| Step { at: 0, mode, code: code.into() };
        assert_eq!(step(Mode::Kernel, &[0x0f, 0xa2]).decode().unwrap().len(), 2);
        assert!(step(Mode::Guest, &[0x0f, 0xa2]).decode().is_none());
        assert!(step(Mode::User, &[]).decode().is_none());
    }
}
