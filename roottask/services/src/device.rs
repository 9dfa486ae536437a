//! Devices: ports, interrupts and memory of theirs. What a session is for its arguments say; a device is in one session at a
//! time. What a component may open its description says (`io_ports`, `irqs`, `io_mem`).

use crate::{Dataspace, Pd};
use core::fmt;
use rpc::{Cap, Space};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Arguments of a session [`IoPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// Arguments of a session [`Irq`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Pin {
    /// Global system interrupt.
    pub gsi: u32,
}

/// Arguments of a session [`IoMem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Memory {
    /// First physical address, at a page.
    pub first: u64,
    /// Last one, before a page.
    pub last: u64,
}

/// Why a component does not get what a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum NotGiven {
    /// That is nobody's protection domain, or its component has ended.
    Nobody = 1,
    /// Its description does not say that it may have that.
    Denied = 2,
    /// The kernel refused: the selector cannot be used, or the component's kernel memory does not suffice.
    Kernel = 3,
}

impl fmt::Display for NotGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotGiven::Nobody => "that is no component's protection domain",
            NotGiven::Denied => "the component's description does not say that it may have this",
            NotGiven::Kernel => "the kernel refused",
        })
    }
}

/// A range of I/O ports.
#[rpc::interface(version = "1.0", ram = "0", caps = 2)]
pub trait IoPort {
    /// The component with that protection domain can use the ports from now on, until the session is closed, or another one
    /// has got them.
    fn give(&mut self, to: Cap<dyn Pd>) -> Result<(), NotGiven>;
    /// A guest can use the ports without an exit from now on, likewise: whoever uses that PIO space, which is to be one that a
    /// component has created for it.
    fn give_guest(&mut self, space: Space) -> Result<(), NotGiven>;
    /// Nobody has them any more.
    fn take_back(&mut self);
}

/// An interrupt.
#[rpc::interface(version = "1.0", ram = "0", caps = 2)]
pub trait Irq {
    /// The component with that protection domain has the interrupt's semaphore at its selector `at` from now on, to wait for
    /// it, until the session is closed, or another one has got it. It is upped on the component's first CPU; trigger and
    /// polarity are as the firmware says. A level-triggered interrupt comes again when somebody waits again.
    fn give(&mut self, to: Cap<dyn Pd>, at: u64) -> Result<(), NotGiven>;
    /// It is silent, and nobody has it any more; the selector can be used for something else.
    fn take_back(&mut self);
}

/// Memory of a device.
#[rpc::interface(version = "1.0", ram = "0", caps = 2)]
pub trait IoMem {
    /// The memory, not cached, to be attached in address spaces. When the session is closed it is detached wherever it is.
    fn dataspace(&mut self) -> Cap<dyn Dataspace>;
}
