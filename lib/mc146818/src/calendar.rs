//! Seconds since 1970 to calendar and back (proleptic Gregorian, no leap seconds).
//!
//! The day arithmetic shifts the year to start in March, so that the leap day is the last one.

/// Seconds of a day.
pub const DAY_S: u64 = 86_400;

/// A moment in civil time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// In full.
    pub year: u64,
    /// 1..=12
    pub month: u64,
    /// 1..=31
    pub day: u64,
    /// Sunday is 0.
    pub weekday: u64,
    /// 0..=23
    pub hour: u64,
    /// 0..=59
    pub minute: u64,
    /// 0..=59
    pub second: u64,
}

/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;

impl Civil {
    /// The moment so many seconds after 1970 began.
    pub fn from_unix(seconds: u64) -> Self {
        let (days, of_day) = (seconds / DAY_S, seconds % DAY_S);
        let (era, day_of_era) = ((days + EPOCH_DAYS) / ERA_DAYS, (days + EPOCH_DAYS) % ERA_DAYS);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            weekday: (days + 4) % 7, // 1970-01-01 was a Thursday
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// Days of its month, 0 if there is none of that number.
    pub fn days_in_month(self) -> u64 {
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        match self.month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        }
    }

    /// Seconds since 1970; fields out of range carry over, moments before 1970 give 0.
    pub fn to_unix(self) -> u64 {
        let month = self.month.clamp(1, 12);
        let year = self.year - u64::from(month <= 2 && self.year > 0);
        let (era, year_of_era) = (year / 400, year % 400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + self.day;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (era * ERA_DAYS + day_of_era).saturating_sub(EPOCH_DAYS + 1);
        days * DAY_S + self.hour * 3600 + self.minute * 60 + self.second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(seconds: u64) -> [u64; 7] {
        let c = Civil::from_unix(seconds);
        [c.year, c.month, c.day, c.weekday, c.hour, c.minute, c.second]
    }

    #[test]
    fn known_moments() {
        assert_eq!(fields(0), [1970, 1, 1, 4, 0, 0, 0]);
        assert_eq!(fields(951_827_696), [2000, 2, 29, 2, 12, 34, 56]);
        assert_eq!(fields(1_709_251_199), [2024, 2, 29, 4, 23, 59, 59]);
        assert_eq!(fields(4_107_542_400), [2100, 3, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn months_have_their_days() {
        let days = |year, month| Civil { year, month, ..Civil::from_unix(0) }.days_in_month();
        assert_eq!([2000, 2023, 2024, 2100].map(|y| days(y, 2)), [29, 28, 29, 28]);
        assert_eq!([0, 1, 4, 12, 13].map(|m| days(2026, m)), [0, 31, 30, 31, 0]);
    }

    #[test]
    fn before_1970_is_1970() {
        assert_eq!(Civil { year: 0, month: 1, ..Civil::from_unix(0) }.to_unix(), 0);
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in 0u64..300_000_000_000) {
            let civil = Civil::from_unix(seconds);
            prop_assert_eq!(civil.to_unix(), seconds);
            prop_assert!((1..=civil.days_in_month()).contains(&civil.day));
        }
    }
}
