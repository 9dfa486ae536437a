//! Time: signals after or each so many microseconds.

use rpc::Signal;

/// A clock, and one alarm. Times are counted from the start of the session.
#[rpc::interface(version = "1.0", ram = "4K", caps = 4)]
pub trait Timer {
    /// What is raised at the alarm, in place of what was before.
    fn heed(&mut self, signal: Signal);
    /// Raises the signal once in `us` microseconds, in place of what was asked for before; 0: at once.
    fn after(&mut self, us: u64);
    /// Raises the signal each `us` microseconds from now on, in place of what was asked for before; 0: never more. A period
    /// below what the server can keep is lengthened to that.
    fn every(&mut self, us: u64);
    /// Microseconds since the session began.
    fn elapsed(&mut self) -> u64;
}
