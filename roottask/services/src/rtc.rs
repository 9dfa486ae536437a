//! Date and time of the machine's clock.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Why there is no time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, rpc::Value)]
#[repr(u8)]
pub enum RtcError {
    /// The clock does not answer.
    Silent = 1,
    /// What it shows is no date.
    NoDate = 2,
}

/// A second, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromBytes, IntoBytes, KnownLayout, Immutable, rpc::Value)]
#[repr(C)]
pub struct Date {
    /// In full.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 for Sunday, to 6.
    pub weekday: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

/// The machine's clock, which goes on while the machine is off. For time that passes there is the timer.
#[rpc::interface(version = "1.0", ram = "4K", caps = 2)]
pub trait Rtc {
    /// Date and time, in UTC.
    fn date(&mut self) -> Result<Date, RtcError>;
    /// Nanoseconds since 1970 began in UTC, without leap seconds. The clock counts seconds; what is below is counted by
    /// the server from when it saw one begin, or from when it was asked first. It never goes back, unless the clock is
    /// set back by more than a second.
    fn unix_ns(&mut self) -> Result<u64, RtcError>;
}
