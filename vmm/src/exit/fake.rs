//! A [`Board`] for tests: remembers what it was asked, answers with a fixed value.

use crate::board::Board;
use crate::dev::{Effect, NEVER, Pending, VcpuSet};
use crate::layout;

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

/// The fake devices. What is pending is so at vCPU 0, but for `others`.
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
    /// Pending vectors of the vCPUs from 1 on.
    pub others: [Option<u8>; 3],
    /// vCPUs for which something has come.
    pub woken: VcpuSet,
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

    /// An interrupt for vCPU 0.
    pub fn raise(&mut self, vector: u8) {
        self.pending.push(vector);
        self.woken.insert(0);
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

    fn mmio_read(&mut self, _: usize, gpa: u64, size: usize, _: u64) -> u64 {
        self.io.push(Io::Load(gpa, size));
        self.device
    }

    fn mmio_write(&mut self, _: usize, gpa: u64, size: usize, value: u64, _: u64) -> Effect {
        self.io.push(Io::Store(gpa, size, value));
        self.effect.unwrap_or(Effect::None)
    }

    fn msr_read(&mut self, _: usize, msr: u32, _: u64) -> Option<u64> {
        self.io.push(Io::Rdmsr(msr));
        (msr != 0x8ff).then_some(self.device)
    }

    fn msr_write(&mut self, _: usize, msr: u32, value: u64, _: u64) -> Option<Effect> {
        self.io.push(Io::Wrmsr(msr, value));
        self.pending.extend(self.raises.take());
        (msr != 0x8ff).then_some(self.effect.unwrap_or(Effect::None))
    }

    fn cr8(&self, _: usize) -> u8 {
        self.device as u8
    }

    fn set_cr8(&mut self, _: usize, value: u8) {
        self.device = value.into();
    }

    fn advance(&mut self, now: u64) {
        if self.deadline.is_some_and(|d| d <= now) {
            self.deadline = None;
            self.raises.take().into_iter().for_each(|vector| self.raise(vector));
        }
    }

    fn next_deadline(&self) -> u64 {
        self.deadline.unwrap_or(NEVER)
    }

    fn pending(&self, vcpu: usize, nmis_blocked: bool) -> Option<Pending> {
        match vcpu {
            0 if self.nmi && !nmis_blocked => Some(Pending::Nmi),
            0 => self.pending.last().copied().map(Pending::Interrupt),
            n => self.others[n - 1].map(Pending::Interrupt),
        }
    }

    fn acknowledge(&mut self, vcpu: usize, nmis_blocked: bool) -> Option<Pending> {
        let taken = self.pending(vcpu, nmis_blocked);
        self.woken.take(vcpu);
        match (taken, vcpu) {
            (Some(Pending::Nmi), _) => self.nmi = false,
            (_, 0) => _ = self.pending.pop(),
            (_, n) => self.others[n - 1] = None,
        }
        taken
    }

    fn take_woken(&mut self) -> VcpuSet {
        std::mem::take(&mut self.woken)
    }

    fn has_output(&self) -> bool {
        self.io.iter().any(|io| matches!(io, Io::Out(layout::COM1, ..)))
    }

    fn take_output(&mut self, _: &mut Vec<u8>) {}

    fn input(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}
