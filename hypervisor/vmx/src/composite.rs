//! Rows of the transfer table that are more than a move: functions for the directions that the specification has.

use crate::controls::WINDOWS;
use crate::{Controls, Field, VmcsPort, control, cr, guest, ro};
use abi::ArchState;
use virt::{CR4_NOT_SWITCHED, VcpuRegs};

/// RAX to RDI; RSP is in the VMCS.
#[inline]
pub fn save_gpr_0_7(u: &mut ArchState, v: &impl VmcsPort, r: &VcpuRegs, (): &()) {
    u.gpr[..8].copy_from_slice(&r.gpr[..8]);
    u.gpr[ArchState::RSP] = v.read(guest::RSP);
}

#[inline]
pub fn load_gpr_0_7(u: &ArchState, v: &mut impl VmcsPort, r: &mut VcpuRegs, _: &Controls) {
    r.gpr[..8].copy_from_slice(&u.gpr[..8]);
    v.write(guest::RSP, u.gpr[ArchState::RSP]);
}

/// Exit qualification, guest-linear and guest-physical address.
#[inline]
pub fn save_qualifications(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs, (): &()) {
    u.qual[0] = v.read(ro::EXIT_QUALIFICATION);
    u.qual[1] = v.read(ro::GUEST_LINEAR_ADDR);
    u.qual[2] = v.read(ro::GUEST_PHYSICAL_ADDR_FULL);
}

/// Execution controls and CR intercepts. Tertiary controls are not used; windows belong to INJ.
pub fn load_controls(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, c: &Controls) {
    let windows = v.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS) as u32 & WINDOWS;
    v.write(control::PRIMARY_PROCBASED_EXEC_CONTROLS, (c.proc1_with(u.ctrl[0]) | windows).into());
    v.write(control::SECONDARY_PROCBASED_EXEC_CONTROLS, c.proc2_with(u.ctrl[1]).into());
    cr::CR0.own(v, u.intcpt_cr0 | c.cr0_owned, c);
    cr::CR4.own(v, u.intcpt_cr4 | c.cr4_fixed | CR4_NOT_SWITCHED, c);
}

/// TPR threshold: VM entry fails if more than bits 3:0 are set, and the field exists with a TPR shadow only.
pub fn load_tpr_threshold(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, c: &Controls) {
    if c.tpr_shadow {
        v.write(control::TPR_THRESHOLD, (u.tpr_threshold & 0xf).into());
    }
}

/// Page-directory-pointer-table entries.
const PDPTES: [Field; 4] = [guest::PDPTE0_FULL, guest::PDPTE1_FULL, guest::PDPTE2_FULL, guest::PDPTE3_FULL];

pub fn save_pdptes(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs, (): &()) {
    u.pdpte = PDPTES.map(|f| v.read(f));
}

pub fn load_pdptes(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, _: &Controls) {
    PDPTES.into_iter().zip(u.pdpte).for_each(|(f, value)| v.write(f, value));
}
