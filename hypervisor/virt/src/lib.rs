//! What VT-x and SVM have in common: vCPU registers, exits, events, and which state a message descriptor moves.
//!
//! Key types: [`VcpuRegs`], [`MsrArea`], [`Exit`], [`Event`]; [`transfer_table`]. The back ends (`vmx`, `svm`) build on
//! these; the kernel's vCPU code sees little else.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod event;
#[cfg(any(test, feature = "groups"))]
mod groups;
mod regs;
pub mod spec;
mod table;

pub use event::{ENDLESS_EXCEPTIONS, Event, EventKind, info};
#[cfg(any(test, feature = "groups"))]
pub use groups::{Access, GROUPS, Item, KERNEL_GROUPS, items};
pub use regs::{CR4_NOT_SWITCHED, MsrArea, MsrEntry, VcpuRegs, load_gpr_8_15, next_xcr0, save_gpr_8_15};

/// Why a vCPU stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// For the host; the guest did nothing that its VMM needs to know.
    Host(HostExit),
    /// For the VMM: number of the event, to be added to the event base.
    Portal(u64),
}

/// Exits that the microhypervisor handles itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostExit {
    /// An interrupt, acknowledged already, with its vector.
    ExternalInterrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// The time given at entry is over.
    Timer,
    /// A machine-check exception.
    MachineCheck,
}
