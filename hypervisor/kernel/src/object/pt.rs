//! Portal (spec 2.4): an entry point into a local thread.

use super::{account::Account, ec::Ec, kernel_object};
use crate::mem::layout::USER_END;
use crate::mem::refs::{Header, Object, Progress, Ref};
use abi::Mtd;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Portal.
#[repr(C, align(32))]
pub struct Pt {
    header: Header,
    /// The local thread that it enters.
    pub ec: Ref<Ec>,
    /// Where it enters.
    pub ip: u64,
    /// Identifier.
    pub pid: AtomicU64,
    mtd: AtomicU32,
    /// Its EC takes messages in registers.
    pub registers: AtomicBool,
}
kernel_object!(Pt, Pt);

impl Pt {
    /// A portal with identifier 0 and empty MTD. Its address is cut to those of user mode: `sysret` must not fault.
    pub fn create(a: &'static Account, ec: Ref<Ec>, ip: u64) -> Option<Ref<Pt>> {
        let ip = ip & (USER_END - 1);
        let (pid, mtd, registers) = (AtomicU64::new(0), AtomicU32::new(0), AtomicBool::new(false));
        Ref::new(a, Pt { header: Header::new(Self::KIND), ec, ip, pid, mtd, registers })
    }

    /// What the EC knows it by.
    pub fn key(&self) -> usize {
        (&raw const *self).addr()
    }

    /// Identifier.
    pub fn pid(&self) -> u64 {
        self.pid.load(Relaxed)
    }

    /// Which state an event message carries.
    pub fn mtd(&self) -> Mtd {
        Mtd::from_bits_truncate(self.mtd.load(Relaxed))
    }

    /// It is destroyed, on the CPU of its EC.
    pub fn end(&self) {
        ipc::expel(self.ec.found(), self.key());
    }

    /// Its cell may become another portal, by which who is inside has not come.
    pub fn strip(&self) -> Progress {
        self.ec.ipc.forget_entrance(self.key());
        Progress::Done
    }

    /// Sets all that can be changed.
    pub fn configure(&self, pid: u64, mtd: u32, registers: bool) {
        self.pid.store(pid, Relaxed);
        self.mtd.store(mtd, Relaxed);
        self.registers.store(registers, Relaxed);
    }
}
