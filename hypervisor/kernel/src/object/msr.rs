//! MSR space (spec 2.1.6): which model-specific registers a guest EC may access without an exit.
//!
//! The layout is the VMX MSR bitmap (Intel SDM vol. 3, 26.6.9): read low, read high, write low, write high, 1 KiB
//! each; a set bit exits.

use super::member::Member;
use super::{account::Account, kernel_object, pio::set_bit};
use crate::arch::svm;
use crate::mem::pool::{Page, Pages};
use crate::mem::refs::{Header, Object, Part, Progress, Ref};
use crate::{arch::cpu::cpu, remote};
use abi::perm;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use sched::CpuSet;

/// Selectors of MSRs: all that the low and high range of the bitmap can hold are below this.
pub const MSRS: u64 = 0xc000_2000;

/// MSR space.
#[repr(C, align(32))]
pub struct MsrSpace {
    header: Header,
    bitmap: Part<Page>,
    /// The same as SVM wants it.
    map: Part<Pages<2>>,
    /// CPUs on which a vCPU has run in the space.
    users: CpuSet,
    member: Member,
}
kernel_object!(MsrSpace, Msr, member);

/// Offset of the bit for reading; writing is 2 KiB behind.
fn position(msr: u64) -> Option<(usize, u8)> {
    let base = match msr {
        0..0x2000 => 0,
        0xc000_0000..0xc000_2000 => 0x400,
        _ => return None,
    };
    Some((base + (msr as usize & 0x1fff) / 8, 1 << (msr & 7)))
}

impl MsrSpace {
    /// A space in which every access exits.
    pub fn create(a: &'static Account) -> Option<Ref<MsrSpace>> {
        let bitmap = Part::new(Some(Page::filled(a, 0xff)?));
        let map = Part::new(if svm::active() { Some(Pages::filled(a, 0xff)?) } else { None });
        let (header, users) = (Header::new(Self::KIND), CpuSet::new());
        Ref::new(a, MsrSpace { header, bitmap, map, users, member: Member::new() })
    }

    /// Physical address of the bitmap. `None`: the space is destroyed.
    pub fn frame(&self) -> Option<u64> {
        self.bitmap.as_ref().filter(|_| !self.header.doomed()).map(Page::phys)
    }

    /// Physical address of SVM's permission map, if SVM is in use.
    pub fn map(&self) -> Option<u64> {
        self.map.as_ref().filter(|_| !self.header.doomed()).map(Pages::phys)
    }

    fn byte(&self, i: usize) -> Option<&AtomicU8> {
        // SAFETY: byte of a frame that belongs to the space.
        self.bitmap.as_ref().map(|b| unsafe { b.at::<AtomicU8>().add(i % abi::PAGE_SIZE).as_ref() })
    }

    /// This CPU is about to run a vCPU in the space.
    pub fn join(&self) {
        self.users.insert(cpu().id.get().into());
    }

    /// Has vCPUs enter again after a change: a CPU may keep what it has read.
    pub fn changed(&self) {
        remote::shoot(&self.users, remote::ENTER);
    }

    /// Permissions of an MSR.
    pub fn get(&self, msr: u64) -> perm::Msr {
        let Some((i, bit)) = position(msr) else { return perm::Msr::empty() };
        let allows = |i| self.byte(i).is_some_and(|b| b.load(Relaxed) & bit == 0);
        let mut p = perm::Msr::empty();
        p.set(perm::Msr::R, allows(i));
        p.set(perm::Msr::W, allows(i + 0x800));
        p
    }

    /// Sets permissions of an MSR; none outside the two ranges.
    pub fn set(&self, msr: u64, p: perm::Msr) {
        let Some((i, bit)) = position(msr) else { return };
        for (i, allow) in [(i, p.contains(perm::Msr::R)), (i + 0x800, p.contains(perm::Msr::W))] {
            if let Some(byte) = self.byte(i) {
                set_bit(byte, bit, allow);
            }
        }
        self.set_map(msr as u32, p);
    }

    fn set_map(&self, msr: u32, p: perm::Msr) {
        let Some(at) = ::svm::msrpm::position(msr) else { return };
        let Some(map) = self.map.as_ref() else { return };
        // SAFETY: byte of the two frames, which belong to the space.
        let byte = unsafe { map.at::<AtomicU8>().add(at.byte).as_ref() };
        for (bit, allow) in [(at.read, p.contains(perm::Msr::R)), (at.write, p.contains(perm::Msr::W))] {
            set_bit(byte, bit, allow);
        }
    }

    /// Gives its bitmaps back.
    pub fn strip(&'static self) -> Progress {
        // SAFETY: nobody runs in the space.
        drop(unsafe { (self.bitmap.take(), self.map.take()) });
        self.member.leave();
        Progress::Done
    }
}
