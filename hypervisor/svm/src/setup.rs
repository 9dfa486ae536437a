//! A new VMCB: controls, maps, and a guest state as after reset. SVM keeps host state elsewhere.

use crate::spec::{NP_ENABLE, clean, tlb, vintr};
use crate::{Controls, Vmcb, load};
use abi::{ArchState, Mtd};
use virt::VcpuRegs;
use virt::spec::{RESET, dr};
use zerocopy::FromZeros;

/// What is different in each guest. Addresses are physical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestSetup {
    /// Root of the nested page table.
    pub n_cr3: u64,
    /// TLB tag: 1 to [`Controls::asids`] less one.
    pub asid: u32,
    /// I/O permission map: 12 KiB in a row, one bit for each port, set to exit (15.10). The first two frames are what VMX calls
    /// I/O bitmaps A and B; the third is for accesses that reach beyond port ffff.
    pub iopm: u64,
    /// MSR permission map: [`crate::msrpm`].
    pub msrpm: u64,
    /// Added to the TSC that the guest reads.
    pub tsc_offset: u64,
}

/// Writes all of a VMCB. The guest starts in real mode at the reset vector unless its VMM sets other state.
pub fn init(vmcb: &mut Vmcb, controls: &Controls, guest: &GuestSetup) {
    vmcb.zero();
    let control = &mut vmcb.control;
    control.intercepts = controls.intercepts_with(&ArchState::default());
    control.vintr = vintr::INTR_MASKING;
    control.np_enable = NP_ENABLE;
    assign(vmcb, guest);
    flush(vmcb, controls);
    reset(vmcb, controls);
}

/// Writes what is different in each guest. With another ASID or root, [`flush`] too.
pub fn assign(vmcb: &mut Vmcb, guest: &GuestSetup) {
    let control = &mut vmcb.control;
    control.n_cr3 = guest.n_cr3;
    control.guest_asid = guest.asid;
    control.iopm_base_pa = guest.iopm;
    control.msrpm_base_pa = guest.msrpm;
    control.tsc_offset = guest.tsc_offset;
    vmcb.dirty(clean::I | clean::IOPM | clean::ASID | clean::NP);
}

/// Lets the next entry flush the guest's translations.
#[inline]
pub fn flush(vmcb: &mut Vmcb, controls: &Controls) {
    vmcb.control.tlb_control = if controls.flush_by_asid { tlb::FLUSH_GUEST } else { tlb::FLUSH_ALL };
}

/// Guest state as after reset, with no event and no window. Intercepts and maps stay.
///
/// Besides new vCPUs, for VMCBs whose state-save area is lost: after a shutdown it is undefined (15.14.3), and some
/// emulators write **host** state to it when they refuse a VMCB, which no VMM may see.
pub fn reset(vmcb: &mut Vmcb, controls: &Controls) {
    vmcb.save.zero();
    vmcb.save.dr6 = dr::DR6_RESET;
    vmcb.control.exitintinfo = 0;
    vmcb.control.software.zero();
    load(Mtd::all().difference(Mtd::CTRL), &RESET, vmcb, &mut VcpuRegs::RESET.clone(), controls);
    vmcb.forget_cached();
}

/// Whether the state-save area has the host's state, whose IDT is at `idt`: some emulators write it there when they refuse
/// a VMCB. CPUs leave the guest's.
pub fn is_of_host(vmcb: &Vmcb, idt: u64) -> bool {
    vmcb.save.idtr.base == idt
}
