//! A virtual CPU under SVM: its VMCB, and the registers that the VMCB does not hold.

use super::DENY;
use crate::arch::cpu::cpu;
use crate::arch::guest::Spaces;
use crate::arch::trap::Regs;
use crate::mem::pool::Page;
use crate::object::account::Account;
use core::cell::Cell;
use svm::{Asid, Controls, GuestSetup, Vmcb};
use virt::VcpuRegs;

/// Room for the rest of a trap frame that ends where the general-purpose registers do: see entry.S, `svm_exited`.
const ROOM: usize = 64;

const _: () = assert!(size_of::<Regs>() <= ROOM + size_of::<[u64; 16]>());

/// Virtual CPU.
pub struct Vcpu {
    /// [`VcpuRegs`] behind [`ROOM`] bytes.
    block: Page,
    vmcb: Page,
    vmcb_phys: u64,
    /// Of all vCPUs.
    pub controls: &'static Controls,
    asid: Cell<Asid>,
    /// Changes of the guest space that it has flushed for.
    epoch: Cell<u32>,
}

impl Vcpu {
    /// A vCPU in the state after reset. `None`: no memory.
    pub fn create(a: &'static Account) -> Option<Vcpu> {
        let c = super::CONTROLS.get()?;
        let (block, vmcb) = (Page::new(a)?, Page::new(a)?);
        let vmcb_phys = vmcb.phys();
        let v = Vcpu { block, vmcb, vmcb_phys, controls: c, asid: Cell::default(), epoch: Cell::new(0) };
        // SAFETY: a frame of our own.
        unsafe { v.block.at().byte_add(ROOM).write(VcpuRegs::RESET) };
        svm::init(v.vmcb(), c, &v.setup(0, None, None)?);
        Some(v)
    }

    /// What is added to the TSC that the guest reads.
    pub fn offset_time(&self, by: u64) {
        self.vmcb().control.tsc_offset = by;
    }

    fn setup(&self, n_cr3: u64, ports: Option<u64>, msrs: Option<u64>) -> Option<GuestSetup> {
        let deny = DENY.get()?;
        Some(GuestSetup {
            n_cr3,
            asid: self.asid.get().number.max(1),
            iopm: ports.unwrap_or(deny.ports.phys()),
            msrpm: msrs.unwrap_or(deny.msrs.phys()),
            tsc_offset: self.vmcb().control.tsc_offset,
        })
    }

    /// Registers that the VMCB does not hold.
    #[allow(clippy::mut_from_ref, reason = "they belong to the vCPU's CPU, and no two borrows live at once")]
    pub fn regs(&self) -> &mut VcpuRegs {
        // SAFETY: the block holds them as long as the vCPU lives.
        unsafe { self.block.at().byte_add(ROOM).as_mut() }
    }

    /// Its VMCB.
    #[allow(clippy::mut_from_ref, reason = "as for `regs`")]
    pub fn vmcb(&self) -> &mut Vmcb {
        // SAFETY: any frame is a valid VMCB value, and this one lives as long as the vCPU.
        unsafe { self.vmcb.at().as_mut() }
    }

    /// Its physical address.
    pub fn vmcb_phys(&self) -> u64 {
        self.vmcb_phys
    }

    /// Before an entry: what may have changed since the last one.
    pub fn prepare(&self, c: &Controls, spaces: &Spaces) {
        let (root, epoch) = spaces.gst.with(|g| g.map_or((0, 0), |g| (g.root(), g.epoch())));
        let asid = cpu().asids.renew(self.asid.get(), c.asids);
        if let Some(asid) = asid {
            self.asid.set(asid);
        }
        let changed = self.epoch.replace(epoch) != epoch;
        let moved = spaces.take_moved() || asid.is_some();
        if moved {
            let ports = spaces.pio.with(|p| p.and_then(|p| p.frames())).map(|f| f[0]);
            let msrs = spaces.msr.with(|m| m.and_then(|m| m.map()));
            if let Some(s) = self.setup(root, ports, msrs) {
                svm::assign(self.vmcb(), &s);
            }
        }
        if moved || changed {
            svm::flush(self.vmcb(), c);
        }
    }
}
