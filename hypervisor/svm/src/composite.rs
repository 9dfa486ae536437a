//! Rows of the transfer table that are more than a move: functions for the directions that the specification has.

use crate::spec::{INTERRUPT_SHADOW, clean};
use crate::{Controls, Vmcb, event, segment};
use abi::ArchState;
use virt::VcpuRegs;
use virt::spec::interruptibility;

/// RAX to RDI; RAX and RSP are in the VMCB.
#[inline]
pub fn save_gpr_0_7(u: &mut ArchState, v: &Vmcb, r: &VcpuRegs, _: &Controls) {
    u.gpr[..8].copy_from_slice(&r.gpr[..8]);
    u.gpr[ArchState::RAX] = v.save.rax;
    u.gpr[ArchState::RSP] = v.save.rsp;
}

#[inline]
pub fn load_gpr_0_7(u: &ArchState, v: &mut Vmcb, r: &mut VcpuRegs, _: &Controls) {
    r.gpr[..8].copy_from_slice(&u.gpr[..8]);
    v.save.rax = u.gpr[ArchState::RAX];
    v.save.rsp = u.gpr[ArchState::RSP];
}

/// Interruptibility.
#[inline]
pub fn save_interruptibility(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
    let shadow = if v.control.interrupt_shadow & INTERRUPT_SHADOW != 0 { interruptibility::STI } else { 0 };
    u.intr_state = shadow | if event::nmis_blocked(v) { interruptibility::NMI } else { 0 };
}

#[inline]
pub fn load_interruptibility(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
    v.control.interrupt_shadow = if u.intr_state & interruptibility::SHADOW != 0 { INTERRUPT_SHADOW } else { 0 };
    event::block_nmis(v, u.intr_state & interruptibility::NMI != 0);
}

/// [`load_interruptibility`] where NMIs are not blocked and are not to be; otherwise it does nothing and says `false`.
#[inline(always)]
pub fn load_shadow(u: &ArchState, v: &mut Vmcb) -> bool {
    let open = u.intr_state & interruptibility::NMI == 0 && !event::nmis_blocked(v);
    if open {
        v.control.interrupt_shadow = if u.intr_state & interruptibility::SHADOW != 0 { INTERRUPT_SHADOW } else { 0 };
    }
    open
}

/// All intercepts. Tertiary controls have no counterpart; windows belong to INJ.
pub fn load_intercepts(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, c: &Controls) {
    v.control.intercepts = c.intercepts_with(u);
    v.dirty(clean::I);
    event::arm(v);
}

/// TPR threshold.
pub fn load_tpr_threshold(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
    v.control.software.tpr_threshold = (u.tpr_threshold & 0xf) as u16;
    event::arm(v);
}

/// SS, and the privilege level.
pub fn save_stack_segment(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
    u.ss = segment::with_cpl(segment::read(&v.save.ss), v.save.cpl);
}

pub fn load_stack_segment(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
    segment::write(&mut v.save.ss, &u.ss);
    v.save.cpl = segment::cpl(&u.ss);
    v.dirty(clean::SEG);
}
