//! Rows of the transfer table that are more than a move: one module each, with `save` and `load` in the signature of
//! [`crate::save`] and [`crate::load`]. A direction that the specification does not have is left out.

use crate::spec::{INTERRUPT_SHADOW, clean, interruptibility};
use crate::{Controls, Vmcb, cr, event, exit, segment};
use abi::ArchState;
use virt::{VcpuRegs, next_xcr0};

/// RAX to RDI; RAX and RSP are in the VMCB.
pub mod gpr_0_7 {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &Vmcb, r: &VcpuRegs, _: &Controls) {
        u.gpr[..8].copy_from_slice(&r.gpr[..8]);
        u.gpr[ArchState::RAX] = v.save.rax;
        u.gpr[ArchState::RSP] = v.save.rsp;
    }

    #[inline]
    pub fn load(u: &ArchState, v: &mut Vmcb, r: &mut VcpuRegs, _: &Controls) {
        r.gpr[..8].copy_from_slice(&u.gpr[..8]);
        v.save.rax = u.gpr[ArchState::RAX];
        v.save.rsp = u.gpr[ArchState::RSP];
    }
}

/// R8 to R15.
pub mod gpr_8_15 {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, _: &Vmcb, r: &VcpuRegs, _: &Controls) {
        u.gpr[8..].copy_from_slice(&r.gpr[8..]);
    }

    #[inline]
    pub fn load(u: &ArchState, _: &mut Vmcb, r: &mut VcpuRegs, _: &Controls) {
        r.gpr[8..].copy_from_slice(&u.gpr[8..]);
    }
}

/// Length of the instruction and what VMX says of it.
pub mod instruction {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, c: &Controls) {
        u.inst_len = exit::instruction_length(v, c);
        u.inst_info = exit::instruction_info(v, c);
    }
}

/// Exit qualification, guest-linear and guest-physical address.
pub mod qualifications {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, c: &Controls) {
        u.qual = exit::qualifications(v, c);
    }
}

/// The exception that exited.
pub mod exception {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
        (u.exc_info, u.exc_error) = exit::exception(v);
    }
}

/// Interruptibility.
pub mod interruptible {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
        let shadow = if v.control.interrupt_shadow & INTERRUPT_SHADOW != 0 { interruptibility::STI } else { 0 };
        u.intr_state = shadow | if event::nmis_blocked(v) { interruptibility::NMI } else { 0 };
    }

    #[inline]
    pub fn load(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
        v.control.interrupt_shadow = if u.intr_state & interruptibility::SHADOW != 0 { INTERRUPT_SHADOW } else { 0 };
        event::block_nmis(v, u.intr_state & interruptibility::NMI != 0);
    }
}

/// Activity state: always active, as on VMX CPUs without state HLT. VMMs let a halted vCPU wait.
pub mod activity {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, _: &Vmcb, _: &VcpuRegs, _: &Controls) {
        u.actv_state = 0;
    }

    #[inline]
    pub fn load(_: &ArchState, _: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {}
}

/// Injection, window requests and event delivery that was interrupted.
pub mod injection {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
        event::save_injection(u, v);
    }

    #[inline]
    pub fn load(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, c: &Controls) {
        event::load_injection(u, v, c);
    }
}

/// All intercepts. Tertiary controls have no counterpart; windows belong to `injection`.
pub mod intercepts {
    use super::*;

    pub fn load(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, c: &Controls) {
        v.control.intercepts = c.intercepts_with(u);
        v.dirty(clean::I);
        event::arm(v);
    }
}

/// TPR threshold.
pub mod tpr {
    use super::*;

    pub fn load(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
        v.control.software.tpr_threshold = (u.tpr_threshold & 0xf) as u16;
        event::arm(v);
    }
}

/// SS, and the privilege level.
pub mod stack_segment {
    use super::*;

    pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
        u.ss = segment::with_cpl(segment::read(&v.save.ss), v.save.cpl);
    }

    pub fn load(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
        segment::write(&mut v.save.ss, &u.ss);
        v.save.cpl = segment::cpl(&u.ss);
        v.dirty(clean::SEG);
    }
}

/// Base and limit of a descriptor table.
macro_rules! descriptor_table {
    ($($name:ident)*) => {$(
        pub mod $name {
            use super::*;

            pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
                u.$name.limit = v.save.$name.limit;
                u.$name.base = v.save.$name.base;
            }

            pub fn load(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
                v.save.$name.limit = u.$name.limit;
                v.save.$name.base = u.$name.base;
                v.dirty(clean::DT);
            }
        }
    )*};
}

descriptor_table! { gdtr idtr }

/// Page-directory-pointer-table entries: with nested paging the CPU reads them from guest memory whenever it needs them
/// (15.25.10).
pub mod pdptes {
    use super::*;

    pub fn save(u: &mut ArchState, _: &Vmcb, _: &VcpuRegs, _: &Controls) {
        u.pdpte = [0; 4];
    }

    pub fn load(_: &ArchState, _: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {}
}

/// Registers that `cr` reads and sets.
macro_rules! control_register {
    ($($name:ident $set:ident)*) => {$(
        pub mod $name {
            use super::*;

            pub fn save(u: &mut ArchState, v: &Vmcb, _: &VcpuRegs, _: &Controls) {
                u.$name = cr::$name(v);
            }

            pub fn load(u: &ArchState, v: &mut Vmcb, _: &mut VcpuRegs, _: &Controls) {
                cr::$set(v, u.$name);
            }
        }
    )*};
}

control_register! {
    cr8 set_cr8
    efer set_efer
}

/// XCR0 and IA32_XSS; the kernel puts them in force, and must not fault over them.
pub mod xsave {
    use super::*;

    pub fn save(u: &mut ArchState, _: &Vmcb, r: &VcpuRegs, _: &Controls) {
        u.xcr0 = r.xcr0;
        u.xss = r.xss;
    }

    pub fn load(u: &ArchState, _: &mut Vmcb, r: &mut VcpuRegs, c: &Controls) {
        r.xcr0 = next_xcr0(r.xcr0, u.xcr0, c.xcr0_supported);
        r.xss = u.xss & c.xss_supported;
    }
}
