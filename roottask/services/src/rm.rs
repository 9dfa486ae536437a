//! Region maps: what is attached where.

use crate::{Dataspace, pd::NoQuota};
use core::fmt;
use rpc::{Cap, Signal};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// What is attached, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable, rpc::Value)]
#[repr(C)]
pub struct Attr {
    /// How many bytes, whole pages; 0: all from `offset` on.
    pub size: u64,
    /// From which byte of the dataspace on; whole pages.
    pub offset: u64,
    /// Where in the map, whole pages, if `use_at`.
    pub at: u64,
    /// Otherwise where there is room.
    pub use_at: bool,
    /// To be written, too.
    pub writeable: bool,
    /// To be executed, too; not both.
    pub executable: bool,
    /// Zero.
    pub _zero: [u8; 5],
}

impl Attr {
    /// All of it, to be read, where there is room.
    pub const READ: Attr =
        Attr { size: 0, offset: 0, at: 0, use_at: false, writeable: false, executable: false, _zero: [0; 5] };
    /// All of it, to be read and written, where there is room.
    pub const WRITE: Attr = Attr { writeable: true, ..Attr::READ };

    /// At that address.
    pub const fn at(self, at: u64) -> Attr {
        Attr { at, use_at: true, ..self }
    }
}

/// Why something is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(u64)]
pub enum NotAttachedReason {
    /// The map is gone.
    NoMap = 1,
    /// The dataspace is gone, or none of core's.
    NoDataspace = 2,
    /// `value` is no whole number of pages, or none.
    Pages = 3,
    /// The dataspace has only `value` bytes.
    Range = 4,
    /// The map is from `value` to `end`.
    Outside = 5,
    /// There is a region from `value` to `end`.
    Taken = 6,
    /// There is no hole of `value` bytes.
    NoHole = 7,
    /// The dataspace is read-only.
    ReadOnly = 8,
    /// A region is writeable or executable, not both.
    WriteExecute = 9,
    /// The map would be in itself.
    Cycle = 10,
    /// Too many maps in each other: at most `value`.
    Depth = 11,
    /// A map has at most `value` others in it.
    Nested = 12,
    /// It would be seen at more than `value` places.
    Places = 13,
    /// The map's owner has as many regions as it may, `value`.
    Regions = 14,
    /// The dataspace is attached as often as it may be, `value` times.
    Users = 15,
    /// The component's kernel memory does not suffice to map it.
    KernelMemory = 16,
    /// The memory of a guest has no managed dataspaces in it.
    Managed = 17,
    /// Memory of a device is attached in address spaces only.
    Device = 18,
}

/// The same with figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable, rpc::Value)]
#[repr(C)]
pub struct NotAttached {
    /// Why.
    pub why: NotAttachedReason,
    /// What the reason says.
    pub value: u64,
    /// What the reason says.
    pub end: u64,
}

impl fmt::Display for NotAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use NotAttachedReason as R;
        let NotAttached { why, value, end } = *self;
        match why {
            R::NoMap => write!(f, "the region map is gone"),
            R::NoDataspace => write!(f, "the dataspace is gone, or is none"),
            R::Pages => write!(f, "{value:#x} is no whole number of pages, or none"),
            R::Range => write!(f, "the dataspace has only {value:#x} bytes"),
            R::Outside => write!(f, "the map is from {value:#x} to {end:#x}"),
            R::Taken => write!(f, "there is a region from {value:#x} to {end:#x}"),
            R::NoHole => write!(f, "there is no hole of {value:#x} bytes"),
            R::ReadOnly => write!(f, "the dataspace is read-only"),
            R::WriteExecute => write!(f, "a region is writeable or executable, not both"),
            R::Cycle => write!(f, "the map would be in itself"),
            R::Depth => write!(f, "more than {value} managed dataspaces would be in each other"),
            R::Nested => write!(f, "the map has {value} managed dataspaces in it, and may have no more"),
            R::Places => write!(f, "something would be seen at more than {value} places"),
            R::Regions => write!(f, "the map's owner has {value} regions, and may have no more"),
            R::Users => write!(f, "the dataspace is attached {value} times, and may not be more often"),
            R::Device => write!(f, "memory of a device is attached in address spaces only"),
            R::KernelMemory => write!(f, "the component's kernel memory does not suffice"),
            R::Managed => write!(f, "the memory of a guest has no managed dataspaces in it"),
        }
    }
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(u64)]
pub enum Access {
    /// Reading.
    Read = 1,
    /// Writing.
    Write = 2,
    /// Executing.
    Execute = 3,
}

/// A fault in a managed dataspace that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable, rpc::Value)]
#[repr(C)]
pub struct Fault {
    /// Where in the map: the page's first byte.
    pub offset: u64,
    /// What was tried.
    pub access: Access,
}

/// There is nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum NotThere {
    /// Nothing.
    NotThere = 1,
}

/// A region map and the dataspace that it is.
pub type Created = (Cap<dyn Rm>, Cap<dyn Dataspace>);

/// A region map: the address space of a component, or one that is a dataspace.
#[rpc::interface(version = "1.1", ram = "0", caps = 1)]
pub trait Rm {
    /// Attaches a part of a dataspace; where it is.
    fn attach(&mut self, dataspace: Cap<dyn Dataspace>, attr: Attr) -> Result<u64, NotAttached>;
    /// Detaches the region that starts there.
    fn detach(&mut self, at: u64) -> Result<(), NotThere>;
    /// A new region map of so many bytes, from address 0 on, which is the component's, whatever map is asked. It costs two
    /// capabilities, and is gone when its dataspace is freed.
    fn create(&mut self, size: u64) -> Result<Created, NoQuota>;
    /// What is raised when somebody faults in this map where nothing is attached; the fault waits. Without it, or when nobody
    /// can be signalled any more, who faults ends. Not for address spaces, where nobody waits.
    fn fault_handler(&mut self, signal: Signal);
    /// The oldest fault that waits and was not told before. It waits until something is attached there, or it is refused.
    fn state(&mut self) -> Option<Fault>;
    /// Nothing will be attached at that page: who waits for it ends.
    fn refuse(&mut self, offset: u64) -> Result<(), NotThere>;
    /// At `at` are the rings of a session (`services::stream`), whole and to be written. The component is the client, the
    /// dataspace's owner the server: when that has ended or withdraws it they break, and the signal is raised. If it is a
    /// `log`, what the server has not taken is printed as lines of the component's. What is withdrawn the component pays for
    /// until it detaches it; it is detached at once only if it cannot. Only in address spaces.
    fn stream(&mut self, at: u64, log: bool, wake: Signal) -> Result<(), NotThere>;
}
