//! A virtual CPU under VT-x: its VMCS, and the registers that the VMCS does not hold.

use super::quick::Known;
use super::{Port, host_state, insn, msr_count, set_revision};
use crate::arch::{cpu::cpu, guest::Spaces, paging, speculation};
use crate::mem::pool::Page;
use crate::mem::tags::Tags;
use crate::object::account::Account;
use core::cell::Cell;
use virt::VcpuRegs;
use vmx::{Controls, GuestSetup, VmcsPort, control, host};

/// Offset of the TPR in the virtual-APIC page.
const VTPR: usize = 0x80;
static VPIDS: Tags<4096> = Tags::new();

/// Virtual CPU.
pub struct Vcpu {
    /// [`VcpuRegs`] at its start.
    block: Page,
    vmcs: Page,
    vapic: Page,
    vpid: u16,
    tsc_offset: Cell<u64>,
    /// See there.
    pub known: Known,
    /// Of all vCPUs.
    pub controls: &'static Controls,
    /// The VMCS has its constant contents.
    complete: Cell<bool>,
    /// VMLAUNCH was done.
    launched: Cell<bool>,
    /// A frame of ones: bitmaps of a vCPU without PIO or MSR space.
    all_exit: Page,
}

impl Vcpu {
    /// A vCPU in the state after reset. `None`: no memory.
    pub fn create(a: &'static Account) -> Option<Vcpu> {
        let (block, vmcs, vapic, all_exit) = (Page::new(a)?, Page::new(a)?, Page::new(a)?, Page::filled(a, 0xff)?);
        set_revision(&vmcs);
        // SAFETY: a frame of our own.
        unsafe { block.at().write(VcpuRegs::RESET) };
        Some(Vcpu {
            block,
            vmcs,
            vapic,
            vpid: VPIDS.take()?,
            tsc_offset: Cell::new(0),
            known: Known::default(),
            controls: super::CONTROLS.get()?,
            complete: Cell::new(false),
            launched: Cell::new(false),
            all_exit,
        })
    }

    /// What is added to the TSC that the guest reads. Before the VMCS gets its contents.
    pub fn offset_time(&self, by: u64) {
        self.tsc_offset.set(by);
    }

    /// The virtual-APIC page, which the VMM sees if the CPU uses it.
    pub fn vapic_frame(&self) -> Option<u64> {
        super::CONTROLS.get().filter(|c| c.tpr_shadow).map(|_| self.vapic.phys())
    }

    /// Registers that the VMCS does not hold.
    #[allow(clippy::mut_from_ref, reason = "they belong to the vCPU's CPU, and no two borrows live at once")]
    pub fn regs(&self) -> &mut VcpuRegs {
        // SAFETY: the block holds them as long as the vCPU lives.
        unsafe { self.block.at().as_mut() }
    }

    /// Makes its VMCS current.
    pub fn make_current(&self) {
        let phys = self.vmcs.phys();
        if cpu().vmcs.replace(phys) == phys {
            return;
        }
        // SAFETY: the frame is a VMCS and nothing else; VMCLEAR before first use.
        unsafe {
            if !self.complete.get() {
                insn::vmclear(phys).expect("VMCLEAR");
            }
            insn::vmptrld(phys).expect("VMPTRLD");
        }
        if !self.complete.get() {
            self.first();
        }
    }

    /// Constant contents, so that state can be loaded before the vCPU first runs.
    fn first(&self) {
        let Some(c) = super::CONTROLS.get() else { return };
        self.complete.set(true);
        let rsp = &raw const self.regs().gpr as u64 + 16 * 8;
        let msrs = self.block.phys() + core::mem::offset_of!(VcpuRegs, msrs) as u64;
        let setup = GuestSetup {
            eptp: 0,
            tsc_offset: self.tsc_offset.get(),
            vpid: self.vpid,
            vapic: self.vapic.phys(),
            guest_msrs: msrs,
            host_msrs: cpu().host_msrs.get(),
            msr_count: msr_count(),
            ..GuestSetup::default()
        };
        vmx::init(&mut Port, c, &host_state(paging::cr3(), rsp), &setup);
        self.flush();
    }

    /// Flushes its translations.
    pub fn flush(&self) {
        // SAFETY: in VMX operation; single-context INVVPID is part of what `negotiate` requires.
        unsafe { insn::invvpid(1, self.vpid) };
    }

    /// Before an entry: what may have changed since the last one.
    pub fn prepare(&self, spaces: &Spaces, host_cr3: u64) {
        if !spaces.take_moved() {
            return;
        }
        let ones = self.all_exit.phys();
        let [a, b] = spaces.pio.with(|p| p.and_then(|p| p.frames())).unwrap_or([ones; 2]);
        Port.write(host::CR3, host_cr3);
        Port.write(control::IO_BITMAP_A_ADDR_FULL, a);
        Port.write(control::IO_BITMAP_B_ADDR_FULL, b);
        Port.write(control::MSR_BITMAPS_ADDR_FULL, spaces.msr.with(|m| m.and_then(|m| m.frame())).unwrap_or(ones));
        Port.write(control::EPTP_FULL, spaces.gst.with(|g| g.map_or(0, |g| vmx::eptp(g.root()))));
    }

    /// Whether the next entry is a VMRESUME.
    pub fn launched(&self) -> bool {
        self.launched.get()
    }

    /// Whether its VMCS is the current one, and the next entry needs nothing but a VMRESUME.
    pub fn is_whole(&self) -> bool {
        self.launched() && cpu().vmcs.get() == self.vmcs.phys() && !speculation::plan().flush_l1d
    }

    /// A VM exit came: the VMLAUNCH has worked.
    pub fn entered(&self) {
        self.launched.set(true);
    }

    fn vtpr(&self) -> *mut u32 {
        // SAFETY: inside the frame.
        unsafe { self.vapic.at::<u8>().add(VTPR) }.as_ptr().cast()
    }

    /// CR8 out of the virtual-APIC page.
    pub fn fetch_cr8(&self) {
        if super::CONTROLS.get().is_some_and(|c| c.tpr_shadow) {
            // SAFETY: the page is the vCPU's; the VMM may write it, and any value will do.
            self.regs().cr8 = unsafe { self.vtpr().read_volatile() } as u64 >> 4 & 0xf;
        }
    }

    /// CR8 into the virtual-APIC page.
    pub fn store_cr8(&self) {
        // SAFETY: as above.
        unsafe { self.vtpr().write_volatile((self.regs().cr8 as u32 & 0xf) << 4) };
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        let phys = self.vmcs.phys();
        if self.complete.get() {
            // SAFETY: written back, so that the CPU does not touch the frame any more.
            let _ = unsafe { insn::vmclear(phys) };
            if cpu().vmcs.get() == phys {
                cpu().vmcs.set(0);
            }
        }
        self.flush();
        VPIDS.give(self.vpid);
    }
}
