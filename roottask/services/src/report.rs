//! What a component tells whoever wants to know.

use rpc::Bytes;

/// Most that one call adds to a report, in bytes.
pub const PART: usize = 2048;

/// Why a report is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, rpc::Value)]
#[repr(u8)]
pub enum ReportError {
    /// Longer than the server allows.
    TooLong = 1,
    /// Longer than what the session has donated pays for: twice its length, as the last report stays until the new one is
    /// complete, and what the server takes for itself.
    Unpaid = 2,
}

/// Reports: texts, each of which takes the place of the one before. They are written in pieces, as they go in messages and
/// not by shared memory: whoever reads one has what was complete at some time.
#[rpc::interface(version = "1.0", ram = "16K", caps = 2)]
pub trait Report {
    /// Adds to the report that is being written. After an error nothing of it is left.
    fn append(&mut self, part: Bytes<PART>) -> Result<(), ReportError>;
    /// What was written is complete, and is the report from now on.
    fn submit(&mut self);
    /// What was written since the last report is forgotten.
    fn discard(&mut self);
}
