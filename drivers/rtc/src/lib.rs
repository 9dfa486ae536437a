//! Driver for the PC's clock chip: everything but the wiring.
//!
//! The chip counts seconds; [`Clock`] asks it each time and adds what is below a second from a counter of the CPU's, so
//! that a client gets times that never go back and never differ from the chip's by a second.
//!
//! Key types: [`Clock`]; [`mc146818::Cmos`], how it reaches the chip.
#![forbid(unsafe_code)]

use mc146818::{ChipError, Civil, Cmos};
use services::{Date, Rtc, RtcError};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// The chip, and a counter of nanoseconds that goes on evenly.
pub struct Clock<C, F> {
    chip: C,
    counter_ns: F,
    last: Option<Mark>,
}

/// A time that was told.
#[derive(Clone, Copy)]
struct Mark {
    unix_ns: u64,
    counter_ns: u64,
}

impl<C: Cmos, F: FnMut() -> u64> Clock<C, F> {
    /// A clock that has told nothing yet.
    pub fn new(chip: C, counter_ns: F) -> Self {
        Clock { chip, counter_ns, last: None }
    }

    /// What the chip shows, and whether it says that it had power since its time was set.
    pub fn check(&mut self) -> Result<(Date, bool), ChipError> {
        Ok((date(mc146818::read(&mut self.chip)?), mc146818::keeps_time(&mut self.chip)))
    }
}

impl<C: Cmos, F: FnMut() -> u64> Rtc for Clock<C, F> {
    fn date(&mut self) -> Result<Date, RtcError> {
        mc146818::read(&mut self.chip).map(date).map_err(refusal)
    }

    fn unix_ns(&mut self) -> Result<u64, RtcError> {
        let shown = mc146818::read(&mut self.chip).map_err(refusal)?.to_unix() * SECOND;
        let counter_ns = (self.counter_ns)();
        let unix_ns = self.last.map_or(shown, |last| last.goes_on(counter_ns, shown));
        self.last = Some(Mark { unix_ns, counter_ns });
        Ok(unix_ns)
    }
}

impl Mark {
    /// The time at that count, if the chip shows that second.
    fn goes_on(self, counter_ns: u64, shown: u64) -> u64 {
        let counted = self.unix_ns.saturating_add(counter_ns.saturating_sub(self.counter_ns));
        let in_second = counted.clamp(shown, shown + SECOND - 1);
        // The counter was a little fast: wait for the chip. Farther back it goes only if somebody has set it.
        if in_second < self.unix_ns && self.unix_ns - in_second <= SECOND { self.unix_ns } else { in_second }
    }
}

fn refusal(e: ChipError) -> RtcError {
    match e {
        ChipError::Busy(_) | ChipError::Restless => RtcError::Silent,
        ChipError::NoDate(..) => RtcError::NoDate,
    }
}

/// The chip's time as it goes to clients.
fn date(c: Civil) -> Date {
    let small = |n: u64| n as u8;
    Date {
        year: c.year as u16,
        month: small(c.month),
        day: small(c.day),
        weekday: small(c.weekday),
        hour: small(c.hour),
        minute: small(c.minute),
        second: small(c.second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mc146818::spec::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// A chip and a counter that the test moves on.
    #[derive(Default)]
    struct Machine {
        seconds: Cell<u64>,
        counter: Cell<u64>,
        broken: Cell<Option<u8>>,
    }

    impl Cmos for &Machine {
        fn read(&mut self, register: u8) -> u8 {
            let c = Civil::from_unix(self.seconds.get());
            match (register, self.broken.get()) {
                (_, Some(byte)) => byte,
                (SECONDS, _) => c.second as u8,
                (MINUTES, _) => c.minute as u8,
                (HOURS, _) => c.hour as u8,
                (DAY_OF_MONTH, _) => c.day as u8,
                (MONTH, _) => c.month as u8,
                (YEAR, _) => (c.year % 100) as u8,
                (REGISTER_A, _) => A_RESET,
                (REGISTER_B, _) => B_24H | B_DM,
                _ => D_VRT,
            }
        }
    }

    fn clock(m: &Machine) -> Clock<&Machine, impl FnMut() -> u64> {
        Clock::new(m, || m.counter.get())
    }

    #[test]
    fn the_date_is_what_the_chip_shows() {
        let m = Machine::default();
        m.seconds.set(1_795_367_200);
        let want = Date { year: 2026, month: 11, day: 22, weekday: 0, hour: 17, minute: 6, second: 40 };
        assert_eq!(clock(&m).date(), Ok(want));
        assert_eq!(clock(&m).check(), Ok((want, true)));
    }

    #[test]
    fn what_is_below_a_second_is_counted() {
        let m = Machine::default();
        let mut c = clock(&m);
        m.seconds.set(100);
        assert_eq!(c.unix_ns(), Ok(100 * SECOND), "nobody knows better yet");
        m.counter.set(300);
        assert_eq!(c.unix_ns(), Ok(100 * SECOND + 300));
        m.seconds.set(101);
        assert_eq!(c.unix_ns(), Ok(101 * SECOND), "so that is where seconds begin");
        m.seconds.set(102);
        m.counter.set(300 + SECOND + 5);
        assert_eq!(c.unix_ns(), Ok(102 * SECOND + 5));
        m.counter.set(300 + 10 * SECOND);
        assert_eq!(c.unix_ns(), Ok(103 * SECOND - 1), "not beyond the second that the chip shows");
        m.seconds.set(50);
        assert_eq!(c.unix_ns(), Ok(51 * SECOND - 1), "somebody has set the chip back");
    }

    #[test]
    fn without_a_time_there_is_an_error() {
        let m = Machine::default();
        for (byte, want) in [(0xff, RtcError::Silent), (0x7f, RtcError::NoDate)] {
            m.broken.set(Some(byte));
            assert_eq!(clock(&m).date(), Err(want));
            assert_eq!(clock(&m).unix_ns(), Err(want));
            assert!(clock(&m).check().is_err());
        }
        m.broken.set(Some(0));
        assert!(clock(&m).date().is_err(), "day 0");
    }

    proptest! {
        #[test]
        fn time_never_goes_back_and_is_in_the_second_that_the_chip_shows(
            phase in 0..SECOND,
            // The counter's rate, in thousandths.
            rate in 990u64..1010,
            steps in prop::collection::vec(0..3 * SECOND, 1..50),
        ) {
            let m = Machine::default();
            let mut c = clock(&m);
            let (mut real, mut before) = (1_000 * SECOND + phase, 0);
            for step in steps {
                real += step;
                m.seconds.set(real / SECOND);
                m.counter.set((u128::from(real) * u128::from(rate) / 1000) as u64);
                let told = c.unix_ns().unwrap();
                prop_assert!(told >= before, "{} after {}", told, before);
                prop_assert_eq!(told / SECOND, real / SECOND);
                before = told;
            }
        }
    }
}
