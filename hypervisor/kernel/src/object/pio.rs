//! PIO space (spec 2.1.5): which ports a host or guest EC may access. A set bit denies, as the hardware has it.

use super::member::Member;
use super::{account::Account, kernel_object};
use crate::arch::{cpu::cpu, fast};
use crate::mem::pool::Pages;
use crate::mem::refs::{Header, Object, Part, Progress, Ref};
use crate::remote;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use sched::CpuSet;

/// Number of ports.
pub const PORTS: u64 = 1 << 16;

/// PIO space: three frames in a row that are I/O permission bitmap, VMX I/O bitmaps A and B, and SVM's I/O permission
/// map at once. The third is of ones: accesses beyond the last port.
#[repr(C, align(32))]
pub struct PioSpace {
    header: Header,
    bitmap: Part<Pages<3>>,
    /// A port was allowed.
    used: AtomicBool,
    /// CPUs on which a vCPU has run in the space.
    users: CpuSet,
    member: Member,
}
kernel_object!(PioSpace, Pio, member);

/// Clears a bit of a bitmap to allow, or sets it to deny.
pub fn set_bit(byte: &AtomicU8, bit: u8, allow: bool) {
    if allow {
        byte.fetch_and(!bit, Relaxed);
    } else {
        byte.fetch_or(bit, Relaxed);
    }
}

impl PioSpace {
    /// A space in which every port has the same access.
    pub fn create(a: &'static Account, allow: bool) -> Option<Ref<PioSpace>> {
        let bitmap = Pages::filled(a, 0xff)?;
        if allow {
            // SAFETY: the first two frames of ours.
            unsafe { core::ptr::write_bytes(bitmap.at::<u8>().as_ptr(), 0, PORTS as usize / 8) };
        }
        let (header, used, users) = (Header::new(Self::KIND), AtomicBool::new(allow), CpuSet::new());
        Ref::new(a, PioSpace { header, bitmap: Part::new(Some(bitmap)), used, users, member: Member::new() })
    }

    /// Physical addresses of the two halves. `None`: the space is destroyed.
    pub fn frames(&self) -> Option<[u64; 2]> {
        let first = self.bitmap.as_ref().filter(|_| !self.header.doomed())?.phys();
        Some([first, first + abi::PAGE_SIZE as u64])
    }

    /// Whether threads in the space need its bitmap. Without one all ports are denied.
    pub fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    fn byte(&self, port: u64) -> Option<&AtomicU8> {
        // SAFETY: byte of the first two frames, which belong to the space.
        self.bitmap.as_ref().map(|b| unsafe { b.at::<AtomicU8>().add((port % PORTS) as usize / 8).as_ref() })
    }

    /// Whether a port may be accessed.
    pub fn allows(&self, port: u64) -> bool {
        self.byte(port).is_some_and(|b| b.load(Relaxed) & 1 << (port & 7) == 0)
    }

    /// This CPU is about to run a vCPU in the space.
    pub fn join(&self) {
        self.users.insert(cpu().id.get().into());
    }

    /// Has vCPUs enter again after a change: a CPU may keep what it has read. Threads read the bitmap at each access.
    /// Those that run without bitmap get it when they enter again.
    pub fn changed(&self, first: bool) {
        if first {
            self.member.each_ec(|ec| ec.ipc.tag.fit.store(fast::UNFIT, Relaxed));
            remote::shoot(&CpuSet::all(), remote::ENTER);
        } else {
            remote::shoot(&self.users, remote::ENTER);
        }
    }

    /// Allows or denies a port.
    pub fn set(&self, port: u64, allow: bool) {
        if let Some(byte) = self.byte(port) {
            self.used.fetch_or(allow, Relaxed);
            set_bit(byte, 1 << (port & 7), allow);
        }
    }

    /// Gives its bitmap back.
    pub fn strip(&'static self) -> Progress {
        // SAFETY: nobody runs in the space.
        drop(unsafe { self.bitmap.take() });
        self.member.leave();
        Progress::Done
    }
}
