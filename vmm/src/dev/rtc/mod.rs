//! The MC146818A real-time clock with its CMOS memory, behind the index port 0x70 and the data port 0x71.
//!
//! [`Rtc`] computes the time from the TSC and the wall-clock time at which the machine started; a guest that sets the
//! clock changes an offset. Periodic, alarm and update-ended interrupts drive line 8: [`Rtc::irq`] is its level.
//! The interrupt part is in `events`.

mod events;
#[cfg(test)]
mod tests;

use super::timebase::Timebase;
use crate::layout::RTC_CENTURY;
use mc146818::Civil;
use mc146818::spec::*;

const NS: u64 = 1_000_000_000;

/// Clock, alarm and CMOS memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtc {
    clock: Timebase,
    boot_tsc: u64,
    boot_wall_ns: u64,
    /// What the guest's clock is ahead of wall-clock time, in seconds; the seconds change together.
    ahead_s: i64,
    /// The time while the guest sets it.
    held: Option<Civil>,
    index: u8,
    cmos: [u8; CMOS_BYTES],
    /// Time up to which the interrupt flags are up to date, in ns of the guest's clock.
    flagged_ns: u64,
    deadline: u64,
}

impl Rtc {
    /// A clock that showed `wall_ns` (since 1970) when the TSC was `boot_tsc`, in a machine with `ram_bytes` of RAM.
    pub fn new(tsc_hz: u64, boot_tsc: u64, wall_ns: u64, ram_bytes: u64) -> Self {
        let mut cmos = [0; CMOS_BYTES];
        cmos[usize::from(REGISTER_A)] = A_RESET;
        cmos[usize::from(REGISTER_B)] = B_24H;
        cmos[usize::from(REGISTER_D)] = D_VRT;
        for (register, value) in memory_size(ram_bytes) {
            let [low, high] = value.to_le_bytes();
            cmos[usize::from(register)] = low;
            cmos[usize::from(register) + 1] = high;
        }
        Self {
            clock: Timebase::new(NS, tsc_hz),
            boot_tsc,
            boot_wall_ns: wall_ns,
            ahead_s: 0,
            held: None,
            index: 0,
            cmos,
            flagged_ns: wall_ns,
            deadline: super::timebase::NEVER,
        }
    }

    /// Reads a byte; `offset` is 0 (index, write-only) or 1 (data).
    pub fn read(&mut self, offset: u16, now: u64) -> u8 {
        match (offset, self.index) {
            (0, _) => 0xff,
            (_, register @ (SECONDS | MINUTES | HOURS | DAY_OF_WEEK..=YEAR | RTC_CENTURY)) => {
                let civil = self.civil(now);
                self.encode(register, &civil)
            }
            (_, REGISTER_A) => self.cmos[usize::from(REGISTER_A)] | self.update_in_progress(now),
            (_, REGISTER_C) => self.take_flags(now),
            (_, register) => self.cmos[usize::from(register)],
        }
    }

    /// Writes a byte; `offset` is 0 (index) or 1 (data).
    pub fn write(&mut self, offset: u16, value: u8, now: u64) {
        match (offset, self.index) {
            (0, _) => self.index = value & INDEX_MASK,
            (_, register @ (SECONDS | MINUTES | HOURS | DAY_OF_WEEK..=YEAR | RTC_CENTURY)) => {
                let mut civil = self.civil(now);
                self.decode(register, value, &mut civil);
                match &mut self.held {
                    Some(held) => *held = civil,
                    None => self.set_time(civil, now),
                }
            }
            (_, REGISTER_A) => self.reprogram(REGISTER_A, value & !A_UIP, now),
            (_, REGISTER_B) => self.write_b(value, now),
            (_, REGISTER_C | REGISTER_D) => {}
            (_, register @ (SECONDS_ALARM | MINUTES_ALARM | HOURS_ALARM)) => self.reprogram(register, value, now),
            (_, register) => self.cmos[usize::from(register)] = value,
        }
    }

    fn control(&self) -> u8 {
        self.cmos[usize::from(REGISTER_B)]
    }

    /// The guest's clock in ns since 1970.
    fn time_ns(&self, now: u64) -> u64 {
        let elapsed = self.clock.ticks(now.saturating_sub(self.boot_tsc));
        let ahead_ns = self.ahead_s.saturating_mul(NS as i64);
        self.boot_wall_ns.saturating_add(elapsed).saturating_add_signed(ahead_ns)
    }

    /// TSC value at which the guest's clock shows `time_ns`.
    fn tsc_at(&self, time_ns: u64) -> u64 {
        let wall = time_ns.saturating_add_signed(self.ahead_s.saturating_mul(-(NS as i64)));
        self.clock.tsc(wall.saturating_sub(self.boot_wall_ns)).saturating_add(self.boot_tsc)
    }

    fn civil(&self, now: u64) -> Civil {
        self.held.unwrap_or_else(|| Civil::from_unix(self.time_ns(now) / NS))
    }

    fn set_time(&mut self, civil: Civil, now: u64) {
        self.account(now);
        let shown = self.time_ns(now) / NS;
        // Differences of calendar times are far below the limits of 64 bits in seconds.
        self.ahead_s += civil.to_unix() as i64 - shown as i64;
        self.flagged_ns = self.time_ns(now);
        self.schedule();
    }

    fn write_b(&mut self, value: u8, now: u64) {
        match (value & B_SET != 0, self.held) {
            (true, None) => self.held = Some(self.civil(now)),
            (false, Some(civil)) => {
                self.held = None;
                self.set_time(civil, now);
            }
            _ => {}
        }
        // Setting the time turns the update-ended interrupt off (data sheet, "SET").
        let value = if value & B_SET != 0 { value & !UPDATE } else { value };
        self.reprogram(REGISTER_B, value, now);
    }

    fn update_in_progress(&self, now: u64) -> u8 {
        let soon = self.time_ns(now) % NS >= NS - UPDATE_NS;
        if self.held.is_none() && soon { A_UIP } else { 0 }
    }

    fn encode(&self, register: u8, civil: &Civil) -> u8 {
        match register {
            SECONDS => self.encode_number(civil.second),
            MINUTES => self.encode_number(civil.minute),
            HOURS if self.control() & B_24H != 0 => self.encode_number(civil.hour),
            HOURS => self.encode_number((civil.hour + 11) % 12 + 1) | if civil.hour >= 12 { HOURS_PM } else { 0 },
            DAY_OF_WEEK => self.encode_number(civil.weekday + 1),
            DAY_OF_MONTH => self.encode_number(civil.day),
            MONTH => self.encode_number(civil.month),
            YEAR => self.encode_number(civil.year % 100),
            _ => self.encode_number(civil.year / 100 % 100),
        }
    }

    fn decode(&self, register: u8, value: u8, civil: &mut Civil) {
        match register {
            SECONDS => civil.second = self.decode_number(value),
            MINUTES => civil.minute = self.decode_number(value),
            HOURS => civil.hour = self.decode_hours(value),
            DAY_OF_MONTH => civil.day = self.decode_number(value),
            MONTH => civil.month = self.decode_number(value),
            YEAR => civil.year = civil.year / 100 * 100 + self.decode_number(value) % 100,
            RTC_CENTURY => civil.year = self.decode_number(value) % 100 * 100 + civil.year % 100,
            _ => {} // the day of the week follows from the date
        }
    }

    fn decode_hours(&self, value: u8) -> u64 {
        if self.control() & B_24H != 0 {
            return self.decode_number(value);
        }
        let half = if value & HOURS_PM != 0 { 12 } else { 0 };
        self.decode_number(value & !HOURS_PM) % 12 + half
    }

    /// A number of at most two digits, in BCD or binary as register B says.
    fn encode_number(&self, value: u64) -> u8 {
        match self.control() & B_DM {
            0 => ((value / 10) << 4 | (value % 10)) as u8,
            _ => value as u8,
        }
    }

    fn decode_number(&self, value: u8) -> u64 {
        match self.control() & B_DM {
            0 => u64::from(value >> 4) * 10 + u64::from(value & 0xf),
            _ => u64::from(value),
        }
    }
}

/// What a BIOS leaves in CMOS about a RAM of `ram_bytes`: register (low byte) and value.
fn memory_size(ram_bytes: u64) -> [(u8, u16); 4] {
    let units = |from: u64, unit: u64| u16::try_from(ram_bytes.saturating_sub(from) / unit).unwrap_or(u16::MAX);
    let extended = units(1 << 20, 1 << 10);
    [
        (BASE_MEMORY, 640),
        (EXTENDED_MEMORY, extended),
        (EXTENDED_MEMORY_FOUND, extended),
        (MEMORY_ABOVE_16M, units(16 << 20, 64 << 10)),
    ]
}
