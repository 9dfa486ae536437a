//! The lines of a log.
//!
//! Key types: [`Journal`], [`Line`].

use rpc::{Signal, Text};

/// Longest line in bytes.
pub const LINE: usize = 1024;

record! {
    /// A line.
    Line {
        /// Lines are numbered from 0 as they come.
        number: u64,
        /// When it ended, in µs of the server's clock.
        us: u64,
        /// Whose it is: the label of the session by which it came.
        label: Text<255>,
        /// Its text, without control characters but tabs.
        text: Text<LINE>,
    }
}

/// A log for reading. The server keeps as many lines as it has room for; which are gone, their numbers tell.
#[rpc::interface(version = "1.0", ram = "4K", caps = 4)]
pub trait Journal {
    /// The line with that number, or the first that there is behind it. `None`: there is none yet.
    fn line(&mut self, from: u64) -> Option<Line>;
    /// Number of the line that comes next.
    fn next(&mut self) -> u64;
    /// What is raised when there are new lines, in place of what was before.
    fn heed(&mut self, signal: Signal);
}
