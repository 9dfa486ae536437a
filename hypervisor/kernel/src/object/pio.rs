//! PIO space (spec 2.1.5): which ports a host or guest EC may access. A set bit denies, as the hardware has it.

use super::{account::Account, kernel_object};
use crate::mem::pool::Pages;
use crate::mem::refs::{Header, Object, Ref};
use crate::{arch::cpu::cpu, remote};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use sched::CpuSet;

/// Number of ports.
pub const PORTS: u64 = 1 << 16;

/// PIO space: three frames in a row that are I/O permission bitmap, VMX I/O bitmaps A and B, and SVM's I/O permission
/// map at once. The third is of ones: accesses beyond the last port.
#[repr(C, align(32))]
pub struct PioSpace {
    header: Header,
    bitmap: Pages<3>,
    /// CPUs on which a vCPU has run in the space.
    users: CpuSet,
}
kernel_object!(PioSpace, Pio);

impl PioSpace {
    /// A space in which every port has the same access.
    pub fn create(a: &'static Account, allow: bool) -> Option<Ref<PioSpace>> {
        let bitmap = Pages::filled(a, 0xff)?;
        if allow {
            // SAFETY: the first two frames of ours.
            unsafe { core::ptr::write_bytes(bitmap.at::<u8>().as_ptr(), 0, PORTS as usize / 8) };
        }
        Ref::new(a, PioSpace { header: Header::new(Self::KIND), bitmap, users: CpuSet::new() })
    }

    /// Physical addresses of the two halves.
    pub fn frames(&self) -> [u64; 2] {
        [self.bitmap.phys(), self.bitmap.phys() + abi::PAGE_SIZE as u64]
    }

    fn byte(&self, port: u64) -> &AtomicU8 {
        // SAFETY: byte of the first two frames, which belong to the space.
        unsafe { self.bitmap.at::<AtomicU8>().add((port % PORTS) as usize / 8).as_ref() }
    }

    /// Whether a port may be accessed.
    pub fn allows(&self, port: u64) -> bool {
        self.byte(port).load(Relaxed) & 1 << (port & 7) == 0
    }

    /// This CPU is about to run a vCPU in the space.
    pub fn join(&self) {
        self.users.insert(cpu().id.get().into());
    }

    /// Has vCPUs enter again after a change: a CPU may keep what it has read. Threads read the bitmap at each access.
    pub fn changed(&self) {
        remote::shoot(&self.users, remote::ENTER);
    }

    /// Allows or denies a port.
    pub fn set(&self, port: u64, allow: bool) {
        let bit = 1 << (port & 7);
        if allow {
            self.byte(port).fetch_and(!bit, Relaxed);
        } else {
            self.byte(port).fetch_or(bit, Relaxed);
        }
    }
}
