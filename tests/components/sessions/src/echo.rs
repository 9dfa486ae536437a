//! What is served: an interface, and the same a major version later.

use rpc::{Bytes, Text};

/// Says what its session was opened with.
#[rpc::interface(version = "1.3", ram = "8K", caps = 2)]
pub trait Echo {
    /// The session's label, as it has come to the server.
    fn label(&mut self) -> Text<255>;
    /// The session's arguments.
    fn args(&mut self) -> Bytes<112>;
    /// Adds to the session's count, and returns it.
    fn add(&mut self, n: u64) -> u64;
    /// What has been donated, all told, in bytes.
    fn donated(&mut self) -> u64;
    /// Ends the server, with this code.
    fn end(&mut self, code: u64);
    /// Ends the server by a fault.
    fn crash(&mut self);
    /// Never returns: the server answers nobody any more.
    fn hang(&mut self);
}

/// A later version.
pub mod newer {
    use rpc::Text;

    /// Says what its session was opened with.
    #[allow(dead_code, reason = "nobody gets that far")]
    #[rpc::interface(version = "2.0", ram = "8K", caps = 2)]
    pub trait Echo {
        /// The session's label, as it has come to the server.
        fn label(&mut self) -> Text<255>;
    }
}
