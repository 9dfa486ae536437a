//! VT-x without the instructions: controls, state transfer between VMCS and UTCB, events and exits.
//!
//! The kernel implements [`VmcsPort`] with VMREAD and VMWRITE and owns everything that executes an instruction.
//! Start: [`negotiate`] once a CPU, [`init`] once a vCPU, then per exit [`decode_exit`], [`requeue`], [`save`],
//! and per reply [`load`]. Vendor-neutral parts are in `virt`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod composite;
mod controls;
mod cr;
mod event;
mod segment;
mod setup;
pub mod spec;
mod state;

pub use controls::{CapabilityMsrs, Controls, negotiate};
pub use event::{decode_exit, is_plain, requeue, restore_nmi_blocking};
pub use setup::{GuestSetup, HostState, eptp, init};
pub use state::{PLAIN, RARE, load, load_plain, save, save_plain};
pub use x86::vmx::vmcs::{control, guest, host, ro};

/// Encoding of a VMCS field: [`control`], [`guest`], [`host`], [`ro`]. Of 64-bit fields those called `FULL`.
pub type Field = u32;

/// Access to the current VMCS.
pub trait VmcsPort {
    /// VMREAD. Fields narrower than 64 bits are zero-extended.
    fn read(&self, field: Field) -> u64;
    /// VMWRITE.
    fn write(&mut self, field: Field, value: u64);
}
