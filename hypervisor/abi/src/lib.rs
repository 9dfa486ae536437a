//! The hypercall interface: all of the hypervisor that user land may import.
//!
//! Layouts and numbers are those of the NOVA Microhypervisor Interface Specification (January 2024), x86-64
//! binding; section numbers in this crate refer to it. Extensions of this system are marked as such.
//!
//! What only user land needs is in `user`, behind a feature that is on unless switched off; the kernel switches it off.
//!
//! Key types: [`Hypercall`], [`Status`], [`Mtd`], [`ArchState`], [`Hip`], the permission sets in [`perm`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(any(feature = "user", feature = "inject"))]
mod attempt;
pub mod event;
mod ext;
mod hip;
mod hypercall;
mod item;
mod mtd;
pub mod perm;
pub mod trace;
#[cfg(feature = "user")]
mod user;
mod utcb;

#[cfg(any(feature = "user", feature = "inject"))]
pub use attempt::Attempt;
pub use ext::{BOUND, ExtOp, IN_REGISTERS, REGISTER_MTD, REGISTER_WORDS, WITH_ITEMS};
pub use hip::{EXT_SIGNATURE, ExtFeatures, Features, HIP_SIGNATURE, Hip, VirtMissing};
pub use hypercall::{CreatePdOp, HwOp, Hypercall, Mad, Scd, Status};
pub use item::{Arrival, Item, WINDOW_MAX};
pub use mtd::Mtd;
pub use trace::TraceKinds;
#[cfg(feature = "user")]
pub use user::EXT_NUMBER;
pub use utcb::{ArchState, Segment, UTCB_WORDS, Utcb};

/// Size of a page, of a UTCB, and the granularity of memory capabilities, in bytes.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_BITS: u32 = 12;

/// A selector: the index of a slot in an object, host, guest, PIO or MSR space (4.2).
pub type Sel = u64;

/// Number of selectors of an object space. Conveyed in [`Hip::sel_num`]; user land takes it from there.
pub const SEL_NUM: Sel = 1 << 18;

/// Selectors of the NOVA object space (6.1.3.1), from which the root task takes them.
pub mod nova_obj {
    use super::{SEL_NUM, Sel};
    /// Console semaphore: upped at the end of each line of the memory-buffer console.
    pub const CONSOLE_SM: Sel = SEL_NUM - 1;
    /// The NOVA object space itself, TAKE.
    pub const NOVA_OBJ: Sel = SEL_NUM - 2;
    /// The NOVA host space: physical memory, TAKE.
    pub const NOVA_HST: Sel = SEL_NUM - 3;
    /// The NOVA PIO space: all ports that may be delegated, TAKE.
    pub const NOVA_PIO: Sel = SEL_NUM - 4;
    /// The NOVA MSR space: all MSRs that may be delegated, TAKE.
    pub const NOVA_MSR: Sel = SEL_NUM - 5;
    /// The root task's object space, all permissions.
    pub const ROOT_OBJ: Sel = SEL_NUM - 6;
    /// The root task's host space, all permissions.
    pub const ROOT_HST: Sel = SEL_NUM - 7;
    /// The root task's PIO space, all permissions.
    pub const ROOT_PIO: Sel = SEL_NUM - 8;
    /// First interrupt semaphore; pin-based ones first (GSI n is `INT_BASE + n`), message-signalled ones after them.
    pub const INT_BASE: Sel = 1 << 16;
}

/// Selectors of the root task's object space at boot (6.2.3.1).
pub mod root_obj {
    use super::{SEL_NUM, Sel};
    /// The NOVA object space, TAKE.
    pub const NOVA_OBJ: Sel = SEL_NUM - 1;
    /// The root task's own object space, all permissions.
    pub const ROOT_OBJ: Sel = SEL_NUM - 2;
    /// The root protection domain, all permissions.
    pub const ROOT_PD: Sel = SEL_NUM - 3;
    /// The root execution context, all permissions.
    pub const ROOT_EC: Sel = SEL_NUM - 4;
    /// The root scheduling context, all permissions.
    pub const ROOT_SC: Sel = SEL_NUM - 5;
}
