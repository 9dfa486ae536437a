//! From the loader's hand-over to the root task.

pub mod acpi;
pub mod memory;
pub mod multiboot;
pub mod root;
pub mod smp;

pub use smp::cpus_online;

use crate::object::ec::Ec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Address of the root protection domain's object space: who belongs to it may control hardware.
static ROOT_OBJ: AtomicU64 = AtomicU64::new(0);

/// Whether an EC belongs to the root protection domain.
pub fn is_root(ec: &Ec) -> bool {
    ec.obj.found() as *const _ as u64 == ROOT_OBJ.load(Relaxed)
}
