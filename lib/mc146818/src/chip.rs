//! Reading the time from the chip.
//!
//! Key types: [`Cmos`], its registers; [`ChipError`].

use crate::calendar::Civil;
use crate::spec::*;
use thiserror::Error;

/// The registers of the chip.
pub trait Cmos {
    /// Reads a register.
    fn read(&mut self, register: u8) -> u8;
}

/// Why there is no time.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ChipError {
    /// Register A says for much longer than an update takes that one is in progress.
    #[error("the clock chip is always updating (register A is {0:#04x}): is there one?")]
    Busy(u8),
    /// No two readings in a row were the same.
    #[error("the clock chip shows something else each time")]
    Restless,
    /// Not a date, in the format that register B says.
    #[error(
        "the clock chip shows no date: second {:#04x}, minute {:#04x}, hour {:#04x}, day {:#04x}, month {:#04x}, \
         year {:#04x}, register B {:#04x}", .0[0], .0[1], .0[2], .0[3], .0[4], .0[5], .1
    )]
    NoDate([u8; 6], u8),
}

/// An update takes 2 ms; at 1 µs for a port access this is far more.
const UPDATE_TRIES: u32 = 100_000;
/// Readings until two in a row are the same.
const READ_TRIES: u32 = 10;
/// Years of the century from here on are of the last one: there is no century in the chip.
const PIVOT: u64 = 70;

/// Date and time as the chip has them, UTC on the machines that we run on; years are 1970 to 2069.
pub fn read(cmos: &mut impl Cmos) -> Result<Civil, ChipError> {
    let mut last = stable(cmos)?;
    for _ in 0..READ_TRIES {
        let now = stable(cmos)?;
        if now == last {
            let b = cmos.read(REGISTER_B);
            return decode(now, b).ok_or(ChipError::NoDate(now, b));
        }
        last = now;
    }
    Err(ChipError::Restless)
}

/// Whether the chip says that it had power since its time was set.
pub fn keeps_time(cmos: &mut impl Cmos) -> bool {
    cmos.read(REGISTER_D) & D_VRT != 0
}

/// Second, minute, hour, day, month, year as the chip has them.
type Reading = [u8; 6];

fn stable(cmos: &mut impl Cmos) -> Result<Reading, ChipError> {
    let mut a = 0;
    let ended = (0..UPDATE_TRIES).any(|_| {
        a = cmos.read(REGISTER_A);
        a & A_UIP == 0
    });
    if !ended {
        return Err(ChipError::Busy(a));
    }
    Ok([SECONDS, MINUTES, HOURS, DAY_OF_MONTH, MONTH, YEAR].map(|r| cmos.read(r)))
}

fn decode(r: Reading, b: u8) -> Option<Civil> {
    let number = |v: u8| match b & B_DM {
        0 if v & 0xf > 9 || v >> 4 > 9 => None,
        0 => Some(u64::from((v >> 4) * 10 + (v & 0xf))),
        _ => Some(u64::from(v)),
    };
    let pm = r[2] & HOURS_PM != 0;
    let hour = match b & B_24H {
        0 => number(r[2] & !HOURS_PM).filter(|h| (1..=12).contains(h))? % 12 + if pm { 12 } else { 0 },
        _ => number(r[2])?,
    };
    let [second, minute, day, month, year] = [r[0], r[1], r[3], r[4], r[5]].map(number);
    let year = year.filter(|&y| y < 100)?;
    let year = year + if year < PIVOT { 2000 } else { 1900 };
    let date = Civil { year, month: month?, day: day?, weekday: 0, hour, minute: minute?, second: second? };
    let is_time = date.second < 60 && date.minute < 60 && date.hour < 24;
    let is_date = (1..=date.days_in_month()).contains(&date.day);
    // The chip counts days of the week for itself, and nobody sets them.
    (is_time && is_date).then(|| Civil::from_unix(date.to_unix()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    /// A chip that shows `reading`, is busy for a while, and ticks in the middle of the first reading.
    struct Chip {
        reading: Reading,
        b: u8,
        busy: u32,
        tick_after: u32,
        reads: u32,
        restless: bool,
    }

    impl Chip {
        fn new(reading: Reading, b: u8) -> Chip {
            Chip { reading, b, busy: 3, tick_after: u32::MAX, reads: 0, restless: false }
        }
    }

    impl Cmos for Chip {
        fn read(&mut self, register: u8) -> u8 {
            self.reads += 1;
            if self.reads == self.tick_after || self.restless {
                self.reading[0] = self.reading[0].wrapping_add(1);
            }
            match register {
                REGISTER_A if self.busy > 0 => {
                    self.busy -= 1;
                    A_RESET | A_UIP
                }
                REGISTER_A => A_RESET,
                REGISTER_B => self.b,
                REGISTER_D => D_VRT,
                r => self.reading[[0, 2, 4, 7, 8, 9].iter().position(|x| *x == r).unwrap()],
            }
        }
    }

    fn seconds(reading: Reading, b: u8) -> Option<u64> {
        read(&mut Chip::new(reading, b)).ok().map(Civil::to_unix)
    }

    #[test]
    fn dates_in_all_modes() {
        // 2026-11-22 17:06:40, a Sunday
        let want = Some(1_795_367_200);
        assert_eq!(seconds([40, 6, 17, 22, 11, 26], B_DM | B_24H), want);
        assert_eq!(seconds([0x40, 0x06, 0x17, 0x22, 0x11, 0x26], B_24H), want);
        assert_eq!(seconds([0x40, 0x06, 0x85, 0x22, 0x11, 0x26], 0), want);
        assert_eq!(seconds([40, 6, 0x85, 22, 11, 26], B_DM), want);
        assert_eq!(read(&mut Chip::new([40, 6, 17, 22, 11, 26], B_DM | B_24H)).unwrap().weekday, 0);
    }

    #[test]
    fn edges_of_the_calendar() {
        let at = |r| seconds(r, B_DM | B_24H);
        assert_eq!(at([0, 0, 0, 1, 1, 70]), Some(0));
        assert_eq!(at([59, 59, 23, 31, 12, 99]), Some(946_684_799));
        assert_eq!(at([0, 0, 0, 29, 2, 0]), Some(951_782_400));
        assert_eq!(at([0, 0, 0, 1, 3, 0]), Some(951_868_800));
        assert_eq!(at([59, 59, 23, 31, 12, 69]), Some(3_155_759_999));
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
            [0, 0, 0, 1, 1, 100],
            [0xff; 6],
        ] {
            assert_eq!(seconds(r, B_DM | B_24H), None, "{r:?}");
        }
        assert_eq!(seconds([0x0a, 0, 0, 1, 1, 0x26], B_24H), None, "no BCD");
        assert_eq!(seconds([0, 0, 0x13, 1, 1, 0x26], 0), None, "13 am");
        let e = read(&mut Chip::new([0xff; 6], B_24H)).unwrap_err().to_string();
        assert!(e.contains("second 0xff") && e.contains("register B 0x02"), "{e}");
    }

    #[test]
    fn a_tick_between_two_readings_is_noticed() {
        let mut chip = Chip::new([9, 0, 0, 1, 1, 70], B_DM | B_24H);
        chip.tick_after = 8;
        assert_eq!(read(&mut chip).map(Civil::to_unix), Ok(10));
    }

    #[test]
    fn what_is_no_chip_is_given_up() {
        let mut chip = Chip::new([0; 6], 0);
        chip.busy = u32::MAX;
        assert_eq!(read(&mut chip), Err(ChipError::Busy(A_RESET | A_UIP)));
        let mut chip = Chip::new([0; 6], B_DM);
        chip.restless = true;
        assert_eq!(read(&mut chip), Err(ChipError::Restless));
    }

    #[test]
    fn a_chip_says_whether_it_had_power() {
        assert!(keeps_time(&mut Chip::new([0; 6], 0)));
        struct Dead;
        impl Cmos for Dead {
            fn read(&mut self, _: u8) -> u8 {
                0
            }
        }
        assert!(!keeps_time(&mut Dead));
    }

    proptest! {
        #[test]
        fn every_second_of_its_years_is_read_as_it_is(at in 0u64..3_155_760_000) {
            let c = Civil::from_unix(at);
            let reading = [c.second, c.minute, c.hour, c.day, c.month, c.year % 100];
            prop_assert_eq!(read(&mut Chip::new(reading.map(|n| n as u8), B_DM | B_24H)), Ok(c));
            let bcd = reading.map(|n| ((n / 10) << 4 | (n % 10)) as u8);
            prop_assert_eq!(read(&mut Chip::new(bcd, B_24H)), Ok(c));
        }

        #[test]
        fn any_bytes_are_read_or_refused(reading: Reading, b: u8) {
            if let Ok(c) = read(&mut Chip::new(reading, b)) {
                prop_assert!(c.to_unix() < 3_155_760_000);
            }
        }
    }
}
