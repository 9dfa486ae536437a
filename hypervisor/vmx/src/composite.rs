//! Rows of the transfer table that are more than a move: one module each, with `save` and `load` in the signature of
//! [`crate::save`] and [`crate::load`]. A direction that the specification does not have is left out.

use crate::spec::proc1;
use crate::{Controls, Field, VmcsPort, cr, event, field};
use abi::ArchState;
use virt::{CR4_NOT_SWITCHED, VcpuRegs, next_xcr0};

/// RAX to RDI; RSP is in the VMCS.
pub mod gpr_0_7 {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &impl VmcsPort, r: &VcpuRegs) {
        u.gpr[..8].copy_from_slice(&r.gpr[..8]);
        u.gpr[ArchState::RSP] = v.read(field::GUEST_RSP);
    }

    #[inline]
    pub fn load(u: &ArchState, v: &mut impl VmcsPort, r: &mut VcpuRegs, _: &Controls) {
        r.gpr[..8].copy_from_slice(&u.gpr[..8]);
        v.write(field::GUEST_RSP, u.gpr[ArchState::RSP]);
    }
}

/// R8 to R15.
pub mod gpr_8_15 {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, _: &impl VmcsPort, r: &VcpuRegs) {
        u.gpr[8..].copy_from_slice(&r.gpr[8..]);
    }

    #[inline]
    pub fn load(u: &ArchState, _: &mut impl VmcsPort, r: &mut VcpuRegs, _: &Controls) {
        r.gpr[8..].copy_from_slice(&u.gpr[8..]);
    }
}

/// Exit qualification, guest-linear and guest-physical address.
pub mod qualifications {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs) {
        u.qual =
            [field::EXIT_QUALIFICATION, field::GUEST_LINEAR_ADDRESS, field::GUEST_PHYSICAL_ADDRESS].map(|f| v.read(f));
    }
}

/// The exception that exited.
pub mod exception {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs) {
        event::save_exception(u, v);
    }
}

/// Injection, window requests and IDT vectoring.
pub mod injection {
    use super::*;

    #[inline]
    pub fn save(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs) {
        event::save_injection(u, v);
    }

    #[inline]
    pub fn load(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, c: &Controls) {
        event::load_injection(u, v, c);
    }
}

/// Execution controls and CR intercepts. Tertiary controls are not used; windows belong to `injection`.
pub mod controls {
    use super::*;

    pub fn load(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, c: &Controls) {
        let windows = v.read(field::PRIMARY_PROCESSOR_CONTROLS) as u32 & proc1::WINDOWS;
        v.write(field::PRIMARY_PROCESSOR_CONTROLS, (c.proc1_with(u.ctrl[0]) | windows).into());
        v.write(field::SECONDARY_PROCESSOR_CONTROLS, c.proc2_with(u.ctrl[1]).into());
        cr::CR0.own(v, u.intcpt_cr0 | c.cr0_owned, c);
        cr::CR4.own(v, u.intcpt_cr4 | c.cr4_fixed | CR4_NOT_SWITCHED, c);
    }
}

/// TPR threshold: VM entry fails if more than bits 3:0 are set, and the field exists with a TPR shadow only.
pub mod tpr {
    use super::*;

    pub fn load(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, c: &Controls) {
        if c.tpr_shadow {
            v.write(field::TPR_THRESHOLD, (u.tpr_threshold & 0xf).into());
        }
    }
}

/// Base and limit of a descriptor table.
macro_rules! descriptor_table {
    ($($name:ident $limit:ident $base:ident)*) => {$(
        pub mod $name {
            use super::*;

            pub fn save(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs) {
                u.$name.limit = v.read(field::$limit) as u32;
                u.$name.base = v.read(field::$base);
            }

            pub fn load(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, _: &Controls) {
                v.write(field::$limit, u.$name.limit.into());
                v.write(field::$base, u.$name.base);
            }
        }
    )*};
}

descriptor_table! {
    gdtr GUEST_GDTR_LIMIT GUEST_GDTR_BASE
    idtr GUEST_IDTR_LIMIT GUEST_IDTR_BASE
}

/// Page-directory-pointer-table entries.
pub mod pdptes {
    use super::*;

    const FIELDS: [Field; 4] = [field::GUEST_PDPTE0, field::GUEST_PDPTE1, field::GUEST_PDPTE2, field::GUEST_PDPTE3];

    pub fn save(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs) {
        u.pdpte = FIELDS.map(|f| v.read(f));
    }

    pub fn load(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, _: &Controls) {
        for (f, value) in FIELDS.into_iter().zip(u.pdpte) {
            v.write(f, value);
        }
    }
}

/// CR0 and CR4, as the guest sees them.
macro_rules! control_register {
    ($($name:ident $register:ident)*) => {$(
        pub mod $name {
            use super::*;

            pub fn save(u: &mut ArchState, v: &impl VmcsPort, _: &VcpuRegs) {
                u.$name = cr::$register.visible(v);
            }

            pub fn load(u: &ArchState, v: &mut impl VmcsPort, _: &mut VcpuRegs, c: &Controls) {
                cr::$register.set(v, u.$name, c);
            }
        }
    )*};
}

control_register! {
    cr0 CR0
    cr4 CR4
}

/// CR8, four bits.
pub mod cr8 {
    use super::*;

    pub fn save(u: &mut ArchState, _: &impl VmcsPort, r: &VcpuRegs) {
        u.cr8 = r.cr8;
    }

    pub fn load(u: &ArchState, _: &mut impl VmcsPort, r: &mut VcpuRegs, _: &Controls) {
        r.cr8 = u.cr8 & 0xf;
    }
}

/// XCR0 and IA32_XSS; the kernel puts them in force, and must not fault over them.
pub mod xsave {
    use super::*;

    pub fn save(u: &mut ArchState, _: &impl VmcsPort, r: &VcpuRegs) {
        u.xcr0 = r.xcr0;
        u.xss = r.xss;
    }

    pub fn load(u: &ArchState, _: &mut impl VmcsPort, r: &mut VcpuRegs, c: &Controls) {
        r.xcr0 = next_xcr0(r.xcr0, u.xcr0, c.xcr0_supported);
        r.xss = u.xss & c.xss_supported;
    }
}
