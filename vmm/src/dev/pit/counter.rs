//! One counter of the 8254: count, output and the latches, computed from the number of the current input clock.
//!
//! Nothing here ticks: a counter remembers the clock at which it was loaded and everything else follows from the
//! distance to it. Clocks are numbered since the TSC was 0. A count is loaded with the clock after the write, and, other
//! than in the chip, in modes 2 and 3 at once and not at the end of the running period.

use super::spec::*;
use crate::dev::timebase::NEVER;

/// What the counter does (data sheet, "Mode definitions").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    InterruptOnTerminalCount,
    HardwareOneShot,
    RateGenerator,
    SquareWave,
    SoftwareStrobe,
    HardwareStrobe,
}

impl Mode {
    fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::InterruptOnTerminalCount,
            1 => Self::HardwareOneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    fn bits(self) -> u8 {
        self as u8
    }

    fn triggered_by_gate(self) -> bool {
        matches!(self, Self::HardwareOneShot | Self::HardwareStrobe)
    }

    fn periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }
}

/// Where the counting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No count since the control word, or waiting for a trigger.
    Idle,
    /// Loaded at this clock (it may still be to come).
    Since(u64),
    /// The gate stopped it after so many clocks.
    Stopped(u64),
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counter {
    mode: Mode,
    access: u8,
    bcd: bool,
    /// Count as programmed: 1..=65536.
    reload: u64,
    progress: Progress,
    gate: bool,
    /// Least significant byte of a count of which the other is still to come.
    low_byte: Option<u8>,
    /// The next read of a two-byte count gives the most significant byte.
    high_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Counter {
    pub(super) fn new(gate: bool) -> Self {
        Self {
            mode: Mode::InterruptOnTerminalCount,
            access: RW_LSB | RW_MSB,
            bcd: false,
            reload: 0x1_0000,
            progress: Progress::Idle,
            gate,
            low_byte: None,
            high_next: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// A control word for this counter, at clock `clk`.
    pub(super) fn control(&mut self, word: u8, clk: u64) {
        let access = (word >> RW_SHIFT) & 3;
        if access == RW_LATCH {
            return self.latch_count(clk);
        }
        *self =
            Self { mode: Mode::from_bits(word >> MODE_SHIFT), access, bcd: word & BCD != 0, ..Self::new(self.gate) };
    }

    pub(super) fn latch_count(&mut self, clk: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.encode(self.count(clk)));
        }
    }

    pub(super) fn latch_status(&mut self, clk: u64) {
        let output = if self.output(clk) { STATUS_OUTPUT } else { 0 };
        let null = match self.progress {
            Progress::Since(load) if clk >= load => 0,
            Progress::Stopped(_) => 0,
            _ => STATUS_NULL_COUNT,
        };
        let status = output | null | (self.access << RW_SHIFT) | (self.mode.bits() << MODE_SHIFT) | u8::from(self.bcd);
        self.latched_status.get_or_insert(status);
    }

    pub(super) fn write(&mut self, value: u8, clk: u64) {
        let raw = match (self.access, self.low_byte) {
            (RW_LSB, _) => u16::from(value),
            (RW_MSB, _) => u16::from(value) << 8,
            (_, Some(low)) => u16::from(low) | (u16::from(value) << 8),
            (_, None) => {
                self.low_byte = Some(value);
                // The first byte of a count stops mode 0 (data sheet, "Mode 0").
                if self.mode == Mode::InterruptOnTerminalCount {
                    self.progress = Progress::Idle;
                }
                return;
            }
        };
        self.low_byte = None;
        self.reload = self.decode(raw);
        if !self.mode.triggered_by_gate() {
            self.progress = if self.gate { Progress::Since(clk + 1) } else { Progress::Stopped(0) };
        }
    }

    pub(super) fn read(&mut self, clk: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let count = self.latched_count.unwrap_or_else(|| self.encode(self.count(clk)));
        let both = self.access == RW_LSB | RW_MSB;
        let high = self.access == RW_MSB || (both && self.high_next);
        if both {
            self.high_next = !self.high_next;
        }
        if !self.high_next {
            self.latched_count = None;
        }
        if high { (count >> 8) as u8 } else { count as u8 }
    }

    /// Drives the gate input.
    pub(super) fn set_gate(&mut self, gate: bool, clk: u64) {
        let (rising, falling) = (gate && !self.gate, !gate && self.gate);
        self.gate = gate;
        self.progress = match self.progress {
            _ if rising && self.mode.triggered_by_gate() => Progress::Since(clk + 1),
            Progress::Since(load) if falling && !self.mode.triggered_by_gate() => {
                Progress::Stopped(clk.saturating_sub(load))
            }
            Progress::Stopped(_) if rising && self.mode.periodic() => Progress::Since(clk + 1),
            Progress::Stopped(done) if rising => Progress::Since((clk + 1).saturating_sub(done)),
            progress => progress,
        };
    }

    /// State of the output pin at clock `clk`.
    pub(super) fn output(&self, clk: u64) -> bool {
        let (done, n) = (self.done(clk), self.reload);
        match (self.mode, done) {
            (Mode::InterruptOnTerminalCount, done) => done.is_some_and(|done| done >= n),
            (_, None) => true,
            (Mode::HardwareOneShot, Some(done)) => done >= n,
            // A stopped periodic counter keeps its output high.
            (Mode::RateGenerator | Mode::SquareWave, _) if !self.gate => true,
            (Mode::RateGenerator, Some(done)) => done % n != n - 1,
            (Mode::SquareWave, Some(done)) => done % n < n.div_ceil(2),
            (Mode::SoftwareStrobe | Mode::HardwareStrobe, Some(done)) => done != n,
        }
    }

    /// First clock after `clk` at which the output goes from low to high, or `NEVER`.
    pub(super) fn next_rising(&self, clk: u64) -> u64 {
        let Progress::Since(load) = self.progress else { return NEVER };
        let n = self.reload;
        let first = load.saturating_add(match self.mode {
            Mode::SoftwareStrobe | Mode::HardwareStrobe => n + 1,
            _ => n,
        });
        if first > clk {
            return first;
        }
        if !self.mode.periodic() || n < 2 {
            return NEVER;
        }
        let passed = (clk - load) / n;
        load.saturating_add((passed + 1).saturating_mul(n))
    }

    /// Clocks counted since the load: `None` if the counter has not been loaded.
    fn done(&self, clk: u64) -> Option<u64> {
        match self.progress {
            Progress::Idle => None,
            Progress::Since(load) => Some(clk.saturating_sub(load)),
            Progress::Stopped(done) => Some(done),
        }
    }

    /// The counting element, before BCD encoding.
    fn count(&self, clk: u64) -> u64 {
        let n = self.reload;
        let Some(done) = self.done(clk) else { return n };
        match self.mode {
            Mode::RateGenerator => n - done % n,
            // Counts down by two, once per half of the wave.
            Mode::SquareWave => {
                let phase = done % n;
                let half = if phase < n.div_ceil(2) { phase } else { phase - n.div_ceil(2) };
                (n & !1).saturating_sub(2 * half).max(1)
            }
            _ => n.wrapping_sub(done) % self.modulus(),
        }
    }

    fn modulus(&self) -> u64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    fn decode(&self, raw: u16) -> u64 {
        let value = match self.bcd {
            false => u64::from(raw),
            true => (0..4).rev().fold(0, |sum, digit| sum * 10 + u64::from((raw >> (digit * 4)) & 0xf)) % 10_000,
        };
        if value == 0 { self.modulus() } else { value }
    }

    fn encode(&self, count: u64) -> u16 {
        let count = count % self.modulus();
        match self.bcd {
            false => count as u16,
            true => (0..4).fold(0, |raw, digit| raw | ((count / 10u64.pow(digit) % 10) as u16) << (digit * 4)),
        }
    }
}
