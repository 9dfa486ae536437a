//! The 8254 interval timer with system control port B (0x61).
//!
//! [`Pit`] numbers the clocks of its 1.193182 MHz input since the TSC was 0 and computes everything from that.
//! Counter 0 drives interrupt line 0: [`Pit::advance`] says when its output rose, [`Pit::deadline`] when it will.
//! Counter 1 exists only as the refresh bit of port B and as registers; counter 2 is gated and observed through port B.

mod counter;
mod spec;
#[cfg(test)]
mod tests;

use super::timebase::{NEVER, Timebase};
use counter::Counter;
use spec::*;

/// ISA interrupt line that counter 0 drives.
pub const PIT_IRQ: u8 = 0;

/// The three counters and port B.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pit {
    clock: Timebase,
    counters: [Counter; COUNTERS],
    port_b: u8,
    /// TSC value of counter 0's next rising output.
    deadline: u64,
}

impl Pit {
    /// Nothing programmed; counter 2 gated off.
    pub fn new(tsc_hz: u64) -> Self {
        let counters = [Counter::new(true), Counter::new(true), Counter::new(false)];
        Self { clock: Timebase::new(CLK_HZ, tsc_hz), counters, port_b: 0, deadline: NEVER }
    }

    /// Byte read at `offset` 0..=3 from port 0x40.
    pub fn read(&mut self, offset: u16, now: u64) -> u8 {
        let clk = self.clock.ticks(now);
        match offset {
            CONTROL => 0xff, // write-only
            _ => self.counters[usize::from(offset) % COUNTERS].read(clk),
        }
    }

    /// Byte write at `offset` 0..=3 from port 0x40. Edges up to `now` are to be taken with [`advance`](Self::advance) before.
    pub fn write(&mut self, offset: u16, value: u8, now: u64) {
        let clk = self.clock.ticks(now);
        match offset {
            CONTROL => self.control(value, clk),
            _ => self.counters[usize::from(offset) % COUNTERS].write(value, clk),
        }
        self.schedule(clk);
    }

    /// Reads port 0x61.
    pub fn read_port_b(&self, now: u64) -> u8 {
        let clk = self.clock.ticks(now);
        let refresh = if (clk / REFRESH_CLKS) & 1 != 0 { PORT_B_REFRESH } else { 0 };
        let out2 = if self.counters[2].output(clk) { PORT_B_OUT2 } else { 0 };
        self.port_b | refresh | out2
    }

    /// Writes port 0x61.
    pub fn write_port_b(&mut self, value: u8, now: u64) {
        self.port_b = value & PORT_B_WRITABLE;
        self.counters[2].set_gate(value & PORT_B_GATE2 != 0, self.clock.ticks(now));
    }

    /// TSC value at which counter 0's output rises next.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Whether counter 0's output has risen since the last call. Edges that were missed count as one.
    pub fn advance(&mut self, now: u64) -> bool {
        let risen = now >= self.deadline && self.deadline != NEVER;
        if risen {
            self.schedule(self.clock.ticks(now));
        }
        risen
    }

    fn control(&mut self, word: u8, clk: u64) {
        match word >> SC_SHIFT {
            SC_READ_BACK => self.read_back(word, clk),
            select => self.counters[usize::from(select)].control(word, clk),
        }
    }

    fn read_back(&mut self, command: u8, clk: u64) {
        for (index, counter) in self.counters.iter_mut().enumerate() {
            if command & (2 << index) == 0 {
                continue;
            }
            if command & READ_BACK_NO_COUNT == 0 {
                counter.latch_count(clk);
            }
            if command & READ_BACK_NO_STATUS == 0 {
                counter.latch_status(clk);
            }
        }
    }

    fn schedule(&mut self, clk: u64) {
        self.deadline = self.clock.tsc(self.counters[0].next_rising(clk));
    }
}
