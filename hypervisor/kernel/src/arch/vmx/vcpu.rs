//! A virtual CPU: its VMCS, the registers that the VMCS does not hold, and the spaces it is assigned to.

use super::{Port, host_state, insn, msr_count, set_revision};
use crate::arch::cpu::cpu;
use crate::mem::pool::Page;
use crate::mem::refs::Ref;
use crate::mem::tags::Tags;
use crate::object::{ec::Ec, gst::GstSpace, msr::MsrSpace, obj::ObjSpace, pio::PioSpace};
use abi::{ArchState, perm};
use core::arch::asm;
use core::cell::Cell;
use virt::VcpuRegs;
use vmx::{GuestSetup, VmcsPort, field};

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
    /// The VMCS has its constant contents.
    complete: Cell<bool>,
    /// VMLAUNCH was done.
    launched: Cell<bool>,
    gst: Cell<Option<Ref<GstSpace>>>,
    pio: Cell<Option<Ref<PioSpace>>>,
    msr: Cell<Option<Ref<MsrSpace>>>,
    /// DR0 to DR3 and DR6 while another vCPU's are in the CPU.
    debug: Cell<[u64; 5]>,
    /// Exceptions that the VMM wants.
    pub exceptions: Cell<u32>,
    /// The space fields of the VMCS are to be written.
    moved: Cell<bool>,
    /// A frame of ones: bitmaps of a vCPU without PIO or MSR space.
    all_exit: Page,
}

impl Vcpu {
    /// A vCPU in the state after reset. `None`: no memory.
    pub fn create() -> Option<Vcpu> {
        let (block, vmcs, vapic, all_exit) = (Page::new()?, Page::new()?, Page::new()?, Page::filled(0xff)?);
        set_revision(&vmcs);
        // SAFETY: a frame of our own.
        unsafe { block.at().write(VcpuRegs::new()) };
        Some(Vcpu {
            block,
            vmcs,
            vapic,
            vpid: VPIDS.take()?,
            complete: Cell::new(false),
            launched: Cell::new(false),
            gst: Cell::new(None),
            pio: Cell::new(None),
            msr: Cell::new(None),
            debug: Cell::new([0, 0, 0, 0, DR6_RESET]),
            exceptions: Cell::new(0),
            moved: Cell::new(true),
            all_exit,
        })
    }

    /// The virtual-APIC page, which the VMM sees if the CPU uses it.
    pub fn vapic_frame(&self) -> Option<u64> {
        super::CONTROLS.get().filter(|c| c.tpr_shadow).map(|_| self.vapic.phys())
    }

    /// Whether it has memory to run in.
    pub fn has_guest_space(&self) -> bool {
        let g = self.gst.take();
        let yes = g.is_some();
        self.gst.set(g);
        yes
    }

    /// A debug exception is given to the guest: what the exit says of it goes into DR6.
    pub fn note_debug(&self, qualification: u64) {
        let mut d = read_debug();
        d[4] = d[4] & !0xf | qualification & DR6_CAUSES;
        write_debug(&d);
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
            vpid: self.vpid,
            vapic: self.vapic.phys(),
            guest_msrs: msrs,
            host_msrs: cpu().host_msrs.get(),
            msr_count: msr_count(),
            ..GuestSetup::default()
        };
        vmx::init(&mut Port, c, &host_state(cpu().cr3.get(), rsp), &setup);
        self.flush();
    }

    /// Flushes its translations.
    pub fn flush(&self) {
        // SAFETY: in VMX operation; single-context INVVPID is part of what `negotiate` requires.
        unsafe { insn::invvpid(1, self.vpid) };
    }

    /// Before an entry: what may have changed since the last one.
    pub fn prepare(&self, host_cr3: u64) {
        if !self.moved.replace(false) {
            return;
        }
        Port.write(field::HOST_CR3, host_cr3);
        let ones = self.all_exit.phys();
        let with = |cell: &Cell<Option<Ref<PioSpace>>>| {
            let r = cell.take();
            let f = r.as_ref().map_or([ones; 2], |p| p.frames());
            cell.set(r);
            f
        };
        let [a, b] = with(&self.pio);
        Port.write(field::IO_BITMAP_A, a);
        Port.write(field::IO_BITMAP_B, b);
        let m = self.msr.take();
        Port.write(field::MSR_BITMAP, m.as_ref().map_or(ones, |m| m.frame()));
        self.msr.set(m);
        let g = self.gst.take();
        Port.write(field::EPTP, g.as_ref().map_or(0, |g| vmx::eptp(g.root())));
        self.gst.set(g);
    }

    /// Assigns it to the spaces that the UTCB names. A selector without suitable capability leaves the old space.
    pub fn assign(&self, obj: &ObjSpace, s: &ArchState) {
        let assign = perm::Space::ASSIGN.bits();
        if let Some(g) = obj.find::<GstSpace>(s.sel_gst, assign) {
            self.gst.set(Some(Ref::from_found(g)));
        }
        if let Some(p) = obj.find::<PioSpace>(s.sel_pio, assign) {
            self.pio.set(Some(Ref::from_found(p)));
        }
        if let Some(m) = obj.find::<MsrSpace>(s.sel_msr, assign) {
            self.msr.set(Some(Ref::from_found(m)));
        }
        self.moved.set(true);
    }

    /// 0: the next entry is a VMLAUNCH.
    pub fn resume(&self) -> u32 {
        self.launched.get() as u32
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

/// DR6 after reset.
const DR6_RESET: u64 = 0xffff_0ff0;
/// B0 to B3, BD, BS.
const DR6_CAUSES: u64 = 0x600f;

fn read_debug() -> [u64; 5] {
    let mut d = [0; 5];
    // SAFETY: reading debug registers, which only guests use.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3", "mov {}, dr6",
            out(reg) d[0], out(reg) d[1], out(reg) d[2], out(reg) d[3], out(reg) d[4],
            options(nomem, nostack, preserves_flags));
    }
    d
}

fn write_debug(d: &[u64; 5]) {
    // SAFETY: the host runs with DR7 clear; the values were read from there, so reserved bits are right.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov dr6, {}",
            in(reg) d[0], in(reg) d[1], in(reg) d[2], in(reg) d[3], in(reg) d[4],
            options(nomem, nostack, preserves_flags));
    }
}

/// Before a vCPU runs: the debug registers become its own.
pub fn switch_debug_registers(ec: &'static Ec) {
    let old = cpu().debug_owner.replace(Some(ec));
    if old.is_some_and(|o| core::ptr::eq(o, ec)) {
        return;
    }
    if let Some(o) = old.and_then(|o| o.vcpu.as_ref()) {
        o.debug.set(read_debug());
    }
    if let Some(v) = &ec.vcpu {
        write_debug(&v.debug.get());
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
