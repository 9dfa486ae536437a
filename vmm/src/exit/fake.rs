//! A [`Board`] for tests: remembers what it was asked, answers with a fixed value.

use crate::board::{Board, Effect};
use crate::dev::{NEVER, Pending};

/// A device access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Port, size.
    In(u16, usize),
    /// Port, size, value.
    Out(u16, usize, u32),
    /// Address, size.
    Load(u64, usize),
    /// Address, size, value.
    Store(u64, usize, u64),
    /// MSR.
    Rdmsr(u32),
    /// MSR, value.
    Wrmsr(u32, u64),
}

/// The fake devices.
#[derive(Default)]
pub struct Fake {
    /// What was asked.
    pub io: Vec<Io>,
    /// What reads return.
    pub device: u64,
    /// Pending vectors, ascending.
    pub pending: Vec<u8>,
    /// Effect of any OUT.
    pub effect: Option<Effect>,
    /// An NMI is pending.
    pub nmi: bool,
    /// Next deadline.
    pub deadline: Option<u64>,
    /// The vector that becomes pending when time reaches the deadline, or on any write to an MSR.
    pub raises: Option<u8>,
}

impl Fake {
    /// With pending interrupts, in ascending order of their vectors.
    pub fn with_pending(vectors: &[u8]) -> Fake {
        Fake { pending: vectors.to_vec(), ..Default::default() }
    }
}

impl Board for Fake {
    fn pio_read(&mut self, port: u16, size: usize, _: u64) -> u32 {
        self.io.push(Io::In(port, size));
        self.device as u32
    }

    fn pio_write(&mut self, port: u16, size: usize, value: u32, _: u64) -> Effect {
        self.io.push(Io::Out(port, size, value));
        self.effect.unwrap_or(Effect::None)
    }

    fn mmio_read(&mut self, gpa: u64, size: usize, _: u64) -> u64 {
        self.io.push(Io::Load(gpa, size));
        self.device
    }

    fn mmio_write(&mut self, gpa: u64, size: usize, value: u64, _: u64) -> Effect {
        self.io.push(Io::Store(gpa, size, value));
        self.effect.unwrap_or(Effect::None)
    }

    fn msr_read(&mut self, msr: u32, _: u64) -> Option<u64> {
        self.io.push(Io::Rdmsr(msr));
        (msr != 0x8ff).then_some(self.device)
    }

    fn msr_write(&mut self, msr: u32, value: u64, _: u64) -> Option<Effect> {
        self.io.push(Io::Wrmsr(msr, value));
        self.pending.extend(self.raises.take());
        (msr != 0x8ff).then_some(Effect::None)
    }

    fn advance(&mut self, now: u64) {
        if self.deadline.is_some_and(|d| d <= now) {
            self.deadline = None;
            self.pending.extend(self.raises.take());
        }
    }

    fn next_deadline(&self) -> u64 {
        self.deadline.unwrap_or(NEVER)
    }

    fn pending(&self) -> Option<Pending> {
        if self.nmi { Some(Pending::Nmi) } else { self.pending.last().copied().map(Pending::Interrupt) }
    }

    fn acknowledge(&mut self) -> Option<Pending> {
        let taken = self.pending();
        if !std::mem::take(&mut self.nmi) {
            self.pending.pop();
        }
        taken
    }

    fn take_output(&mut self, _: &mut Vec<u8>) {}

    fn input(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}
