//! What runs, and what it uses.
//!
//! Key types: [`Trace`], [`Component`], [`Client`].

use crate::pd::Account;
use rpc::Text;

/// Longest name of a component or of a service, in bytes.
pub const NAME_LEN: usize = 32;
/// Longest label of a session, in bytes.
pub const LABEL_LEN: usize = 255;
/// The parent of those that nobody else in the list started.
pub const NO_PARENT: u32 = u32::MAX;

/// How a component is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, rpc::Value)]
#[repr(u8)]
pub enum State {
    /// It runs.
    Running = 1,
    /// It has ended, and may be started again.
    Ended = 2,
    /// It was not started, or will not be started again.
    Down = 3,
}

record! {
    /// A component.
    Component {
        /// Its number, above that of its parent: of core's children the same through all their lives, of others that of a life, as only
        /// their parents know who is started again.
        id: u32,
        /// That of its parent, or [`NO_PARENT`].
        parent: u32,
        /// What its parent calls it.
        name: Text<NAME_LEN>,
        /// How it is.
        state: State,
        /// Another one each time that it is started.
        life: u64,
        /// Time of all CPUs that its threads and virtual CPUs had in this life, in ns; what servers do for it counts here.
        cpu_ns: u64,
        /// RAM in bytes.
        ram: Account,
        /// Capabilities.
        caps: Account,
        /// Kernel memory in bytes; its peak is not known.
        kmem: Account,
        /// Sessions of which it is the client, of core's children: about others their parents know.
        sessions: u32,
    }
}

record! {
    /// A session, as its client sees it.
    Client {
        /// Its number among those of its client.
        id: u64,
        /// The service.
        service: Text<NAME_LEN>,
        /// The label that its server knows it by.
        label: Text<LABEL_LEN>,
        /// Who serves it: a component's number, or [`NO_PARENT`].
        server: u32,
        /// RAM in bytes that was donated.
        ram: u64,
        /// Capabilities that were donated.
        caps: u64,
    }
}

/// What runs, and what it uses. Answers are of the time of the call, so lists may change while they are read.
#[rpc::interface(version = "1.0", ram = "4K", caps = 2)]
pub trait Trace {
    /// Nanoseconds since the machine was started.
    fn now_ns(&mut self) -> u64;
    /// How long a CPU had nothing to do, in ns; nothing behind the last one.
    fn idle_ns(&mut self, cpu: u16) -> Option<u64>;
    /// The component with that number, or the one with the next higher number that there is.
    fn component(&mut self, from: u32) -> Option<Component>;
    /// Of the component with that number, the session with that number or the next higher one.
    fn session(&mut self, component: u32, from: u64) -> Option<Client>;
}
