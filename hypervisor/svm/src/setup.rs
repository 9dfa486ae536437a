//! A new VMCB: controls, maps, and a guest state as after reset. SVM keeps host state elsewhere.

use crate::spec::{NP_ENABLE, clean, dr, reset as at_reset, rflags, tlb, vintr};
use crate::{Controls, StateSaveArea, Vmcb, VmcbSegment, cr};
use abi::ArchState;
use zerocopy::FromZeros;

/// What is different in each guest. Addresses are physical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestSetup {
    /// Root of the nested page table.
    pub n_cr3: u64,
    /// TLB tag: 1 to [`Controls::asids`] less one.
    pub asid: u32,
    /// I/O permission map: [`crate::iopm`].
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
    reset(vmcb);
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
pub fn reset(vmcb: &mut Vmcb) {
    vmcb.save.zero();
    reset_segments(&mut vmcb.save);
    let save = &mut vmcb.save;
    save.cr0 = at_reset::CR0;
    save.dr6 = dr::DR6_RESET;
    save.dr7 = dr::DR7_ONE;
    save.rflags = rflags::ONE;
    save.rip = at_reset::RIP;
    save.g_pat = at_reset::PAT;
    cr::set_efer(vmcb, 0);
    cr::set_cr8(vmcb, 0);
    vmcb.control.interrupt_shadow = 0;
    vmcb.control.eventinj = 0;
    vmcb.control.exitintinfo = 0;
    vmcb.control.software.zero();
    crate::event::arm(vmcb);
    vmcb.forget_cached();
}

/// Whether the state-save area has the host's state, whose IDT is at `idt`: some emulators write it there when they refuse
/// a VMCB. CPUs leave the guest's.
pub fn is_of_host(vmcb: &Vmcb, idt: u64) -> bool {
    vmcb.save.idtr.base == idt
}

fn reset_segments(save: &mut StateSaveArea) {
    let segment = |attrib| VmcbSegment { attrib, limit: at_reset::LIMIT, ..VmcbSegment::default() };
    save.cs = VmcbSegment { selector: at_reset::CS_SELECTOR, base: at_reset::CS_BASE, ..segment(at_reset::AR_CODE) };
    for data in [&mut save.ss, &mut save.ds, &mut save.es, &mut save.fs, &mut save.gs] {
        *data = segment(at_reset::AR_DATA);
    }
    save.ldtr = segment(at_reset::AR_LDT);
    save.tr = segment(at_reset::AR_TSS);
    save.gdtr = segment(0);
    save.idtr = segment(0);
}
