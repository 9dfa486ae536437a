//! The clock chip (MC146818A and compatible): date and time, read once at boot.
//!
//! Key types: [`Cmos`], the chip's registers; [`unix_seconds`].

/// The registers of the chip.
pub trait Cmos {
    /// Reads a register.
    fn read(&mut self, register: u8) -> u8;
}

mod spec {
    //! Registers and bits of the MC146818A.
    pub const SECONDS: u8 = 0x00;
    pub const MINUTES: u8 = 0x02;
    pub const HOURS: u8 = 0x04;
    pub const DAY: u8 = 0x07;
    pub const MONTH: u8 = 0x08;
    pub const YEAR: u8 = 0x09;
    pub const A: u8 = 0x0a;
    pub const B: u8 = 0x0b;
    /// Register A: update in progress.
    pub const A_UIP: u8 = 1 << 7;
    /// Register B: binary, not BCD.
    pub const B_DM: u8 = 1 << 2;
    /// Register B: 24 hours.
    pub const B_24: u8 = 1 << 1;
    /// Hours: afternoon, in 12-hour mode.
    pub const PM: u8 = 1 << 7;
}

/// An update takes 2 ms; at 1 µs for a port access this is far more.
const UPDATE_TRIES: u32 = 100_000;
/// Readings until two in a row are the same.
const READ_TRIES: u32 = 10;

/// Seconds since 1970 UTC; years are 1970 to 2069. `None` if the chip does not answer with a date.
pub fn unix_seconds(cmos: &mut impl Cmos) -> Option<u64> {
    let mut last = read_stable(cmos)?;
    for _ in 0..READ_TRIES {
        let now = read_stable(cmos)?;
        if now == last {
            return decode(now, cmos.read(spec::B));
        }
        last = now;
    }
    None
}

/// Second, minute, hour, day, month, year as the chip has them.
type Reading = [u8; 6];

fn read_stable(cmos: &mut impl Cmos) -> Option<Reading> {
    (0..UPDATE_TRIES).find(|_| cmos.read(spec::A) & spec::A_UIP == 0)?;
    Some([spec::SECONDS, spec::MINUTES, spec::HOURS, spec::DAY, spec::MONTH, spec::YEAR].map(|r| cmos.read(r)))
}

fn decode(r: Reading, b: u8) -> Option<u64> {
    let number = |v: u8| match b & spec::B_DM {
        0 if v & 0xf > 9 || v >> 4 > 9 => None,
        0 => Some((v >> 4) * 10 + (v & 0xf)),
        _ => Some(v),
    };
    let pm = r[2] & spec::PM != 0;
    let hour = match b & spec::B_24 {
        0 => number(r[2] & !spec::PM).filter(|h| (1..=12).contains(h))? % 12 + if pm { 12 } else { 0 },
        _ => number(r[2])?,
    };
    let [second, minute, day, month, year] = [r[0], r[1], r[3], r[4], r[5]].map(number);
    let (second, minute, day, month, year) = (second?, minute?, day?, month?, year?);
    let year = u64::from(year) + if year < 70 { 2000 } else { 1900 };
    let valid = second < 60 && minute < 60 && hour < 24 && (1..=12).contains(&month) && year < 2070;
    if !valid || day == 0 || u64::from(day) > days_in_month(year, month) {
        return None;
    }
    let days = days_before(year, month) + u64::from(day) - 1;
    Some(((days * 24 + u64::from(hour)) * 60 + u64::from(minute)) * 60 + u64::from(second))
}

/// 1970 to 2069: no century year but 2000, which is a leap year.
fn leap(year: u64) -> bool {
    year.is_multiple_of(4)
}

fn days_in_month(year: u64, month: u8) -> u64 {
    match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the first of that month.
fn days_before(year: u64, month: u8) -> u64 {
    let years: u64 = (1970..year).map(|y| 365 + u64::from(leap(y))).sum();
    years + (1..month).map(|m| days_in_month(year, m)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chip that shows `reading`, is busy for a while, and ticks in the middle of the first reading.
    struct Chip {
        reading: Reading,
        b: u8,
        busy: u32,
        tick_after: u32,
        reads: u32,
    }

    impl Chip {
        fn new(reading: Reading, b: u8) -> Chip {
            Chip { reading, b, busy: 3, tick_after: u32::MAX, reads: 0 }
        }
    }

    impl Cmos for Chip {
        fn read(&mut self, register: u8) -> u8 {
            self.reads += 1;
            if self.reads == self.tick_after {
                self.reading[0] += 1;
            }
            match register {
                spec::A if self.busy > 0 => {
                    self.busy -= 1;
                    0x26 | spec::A_UIP
                }
                spec::A => 0x26,
                spec::B => self.b,
                r => self.reading[[0, 2, 4, 7, 8, 9].iter().position(|x| *x == r).unwrap()],
            }
        }
    }

    fn seconds(reading: Reading, b: u8) -> Option<u64> {
        unix_seconds(&mut Chip::new(reading, b))
    }

    #[test]
    fn dates_in_all_modes() {
        // 2026-11-22 17:06:40
        let want = Some(1_795_367_200);
        assert_eq!(seconds([40, 6, 17, 22, 11, 26], spec::B_DM | spec::B_24), want);
        assert_eq!(seconds([0x40, 0x06, 0x17, 0x22, 0x11, 0x26], spec::B_24), want);
        assert_eq!(seconds([0x40, 0x06, 0x85, 0x22, 0x11, 0x26], 0), want);
        assert_eq!(seconds([40, 6, 0x85, 22, 11, 26], spec::B_DM), want);
    }

    #[test]
    fn edges_of_the_calendar() {
        let at = |r| seconds(r, spec::B_DM | spec::B_24);
        assert_eq!(at([0, 0, 0, 1, 1, 70]), Some(0));
        assert_eq!(at([59, 59, 23, 31, 12, 99]), Some(946_684_799));
        assert_eq!(at([0, 0, 0, 29, 2, 0]), Some(951_782_400));
        assert_eq!(at([0, 0, 0, 1, 3, 0]), Some(951_868_800));
        assert_eq!(seconds([0, 0, 0x92, 1, 1, 0x70], 0), Some(12 * 3600), "12 pm is noon");
        assert_eq!(seconds([0, 0, 0x12, 1, 1, 0x70], 0), Some(0), "12 am is midnight");
    }

    #[test]
    fn what_is_no_date() {
        for r in [
            [60, 0, 0, 1, 1, 26],
            [0, 60, 0, 1, 1, 26],
            [0, 0, 24, 1, 1, 26],
            [0, 0, 0, 0, 1, 26],
            [0, 0, 0, 29, 2, 26],
            [0, 0, 0, 1, 13, 26],
            [0, 0, 0, 1, 0, 26],
            [0xff; 6],
        ] {
            assert_eq!(seconds(r, spec::B_DM | spec::B_24), None, "{r:?}");
        }
        assert_eq!(seconds([0x0a, 0, 0, 1, 1, 0x26], spec::B_24), None, "no BCD");
        assert_eq!(seconds([0, 0, 0x13, 1, 1, 0x26], 0), None, "13 am");
    }

    #[test]
    fn a_tick_between_two_readings_is_noticed() {
        let mut chip = Chip::new([9, 0, 0, 1, 1, 70], spec::B_DM | spec::B_24);
        chip.tick_after = 8;
        assert_eq!(unix_seconds(&mut chip), Some(10));
    }

    #[test]
    fn a_chip_that_is_always_busy_is_given_up() {
        let mut chip = Chip::new([0; 6], 0);
        chip.busy = u32::MAX;
        assert_eq!(unix_seconds(&mut chip), None);
    }
}
