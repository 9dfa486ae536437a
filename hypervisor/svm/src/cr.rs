//! CR8 and EFER: what the guest sees, and what VMRUN demands. CR0, CR3 and CR4 are the guest's own.

use crate::Vmcb;
use crate::spec::{clean, efer, vintr};
use virt::spec::cr0;
use virt::spec::efer::{LMA, LME};

/// CR8: with V_INTR_MASKING the guest changes it in the VMCB.
pub(crate) fn cr8(vmcb: &Vmcb) -> u64 {
    vmcb.control.vintr & vintr::TPR
}

/// Sets CR8, four bits.
pub(crate) fn set_cr8(vmcb: &mut Vmcb, value: u64) {
    vmcb.control.vintr = vmcb.control.vintr & !vintr::TPR | value & vintr::TPR;
    vmcb.dirty(clean::TPR);
}

/// EFER as a guest without SVM reads it.
pub(crate) fn efer(vmcb: &Vmcb) -> u64 {
    vmcb.save.efer & !efer::SVME
}

/// Sets EFER. VMRUN refuses a guest without EFER.SVME.
pub(crate) fn set_efer(vmcb: &mut Vmcb, value: u64) {
    vmcb.save.efer = value & efer::DEFINED | efer::SVME;
    vmcb.dirty(clean::CRX);
}

/// Makes EFER.LMA follow EFER.LME and CR0.PG.
pub(crate) fn settle_long_mode(vmcb: &mut Vmcb) {
    let old = vmcb.save.efer;
    let active = old & LME != 0 && vmcb.save.cr0 & cr0::PG != 0;
    vmcb.save.efer = if active { old | LMA } else { old & !LMA };
    vmcb.dirty(clean::CRX);
}
