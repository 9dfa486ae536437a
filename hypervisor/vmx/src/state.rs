//! State transfer between a vCPU and a UTCB: one table from which [`save`], [`load`] and [`rows`] are made.
//!
//! Each row names the group, the direction, the field of [`ArchState`] and where its value lives. The groups of
//! frequent exits come first; one test skips all others.

use crate::composite::*;
use crate::spec::{FORCED_EXCEPTIONS, activity, dr7, efer, interruptibility, rflags};
use crate::{Controls, Field, VmcsPort, cr, field, segment};
use abi::{ArchState, Mtd};
use virt::{Access, VcpuRegs};

/// Where a field of the UTCB lives in a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A VMCS field.
    Vmcs(Field),
    /// The four VMCS fields of a segment register, by its name.
    Segment(&'static str),
    /// A field of [`VcpuRegs`], or of its MSR area, by its name.
    Register(&'static str),
    /// Moved by the functions of the named module of `composite`.
    Composite(&'static str),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The group.
    pub mtd: Mtd,
    /// Field of [`ArchState`].
    pub name: &'static str,
    /// Directions.
    pub access: Access,
    /// Where the value lives.
    pub slot: Slot,
}

/// Statement that moves a row's value to the UTCB.
macro_rules! save_row {
    ($u:ident $v:ident $r:ident W $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $access:ident $field:ident vmcs $from:ident $($clean:ident)?) => {
        $u.$field = $v.read(field::$from) as _;
    };
    ($u:ident $v:ident $r:ident $access:ident $field:ident segment $from:ident) => {
        $u.$field = segment::read(&segment::$from, $v);
    };
    ($u:ident $v:ident $r:ident $access:ident $field:ident register $from:ident) => {
        $u.$field = $r.$from;
    };
    ($u:ident $v:ident $r:ident $access:ident $field:ident msr $get:ident $set:ident) => {
        $u.$field = $r.msrs.$get();
    };
    ($u:ident $v:ident $r:ident $access:ident $field:ident composite $of:ident) => {
        $of::save($u, $v, $r);
    };
    ($u:ident $v:ident $r:ident $access:ident $field:ident part_of $of:ident) => {};
}

/// Statement that moves a row's value from the UTCB.
macro_rules! load_row {
    ($u:ident $v:ident $r:ident $c:ident R $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident vmcs $to:ident) => {
        $v.write(field::$to, $u.$field as u64);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident vmcs $to:ident $clean:ident) => {
        $v.write(field::$to, $clean($u.$field, $c) as u64);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident segment $to:ident) => {
        segment::write(&segment::$to, $v, &$u.$field);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident register $to:ident) => {
        $r.$to = $u.$field;
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident msr $get:ident $set:ident) => {
        $r.msrs.$set($u.$field);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident composite $of:ident) => {
        $of::load($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident part_of $of:ident) => {};
}

/// Slot of a row, for [`rows`].
macro_rules! slot {
    (vmcs $field:ident $($clean:ident)?) => {
        Slot::Vmcs(field::$field)
    };
    (segment $name:ident) => {
        Slot::Segment(stringify!($name))
    };
    (register $name:ident) => {
        Slot::Register(stringify!($name))
    };
    (msr $get:ident $set:ident) => {
        Slot::Register(stringify!($get))
    };
    (composite $name:ident) => {
        Slot::Composite(stringify!($name))
    };
    (part_of $name:ident) => {
        Slot::Composite(stringify!($name))
    };
}

macro_rules! transfer {
    ($rows:ident $bits:ident $save:ident $load:ident
     $($mtd:ident { $($access:ident $field:ident: $kind:ident $($arg:ident)*;)* })*) => {
        const $bits: Mtd = Mtd::empty()$(.union(Mtd::$mtd))*;

        const $rows: &[Row] = &[$($(Row {
            mtd: Mtd::$mtd,
            name: stringify!($field),
            access: Access::$access,
            slot: slot!($kind $($arg)*),
        },)*)*];

        #[inline]
        fn $save(mtd: Mtd, u: &mut ArchState, v: &impl VmcsPort, r: &VcpuRegs) {
            $(if mtd.contains(Mtd::$mtd) {
                $(save_row!(u v r $access $field $kind $($arg)*);)*
            })*
        }

        #[inline]
        fn $load(mtd: Mtd, u: &ArchState, v: &mut impl VmcsPort, r: &mut VcpuRegs, c: &Controls) {
            $(if mtd.contains(Mtd::$mtd) {
                $(load_row!(u v r c $access $field $kind $($arg)*);)*
            })*
        }
    };
}

transfer! {
    FREQUENT_ROWS FREQUENT save_frequent load_frequent
    GPR_0_7 { RW gpr: composite gpr_0_7; }
    GPR_8_15 { RW gpr: composite gpr_8_15; }
    RFLAGS { RW rflags: vmcs GUEST_RFLAGS clean_rflags; }
    RIP {
        RW rip: vmcs GUEST_RIP;
        R inst_len: vmcs VM_EXIT_INSTRUCTION_LENGTH;
        R inst_info: vmcs VM_EXIT_INSTRUCTION_INFO;
    }
    STA {
        RW intr_state: vmcs GUEST_INTERRUPTIBILITY_STATE clean_interruptibility;
        RW actv_state: vmcs GUEST_ACTIVITY_STATE clean_activity;
    }
    QUAL { R qual: composite qualifications; }
    INJ {
        RW inj_info: composite injection;
        RW inj_error: part_of injection;
        R vect_info: part_of injection;
        R vect_error: part_of injection;
    }
}

transfer! {
    RARE_ROWS RARE save_rare load_rare
    CTRL {
        W ctrl: composite controls;
        W intcpt_cr0: part_of controls;
        W intcpt_cr4: part_of controls;
        W intcpt_exc: vmcs EXCEPTION_BITMAP with_forced;
        W pfe_mask: vmcs PAGE_FAULT_ERROR_CODE_MASK;
        W pfe_match: vmcs PAGE_FAULT_ERROR_CODE_MATCH;
    }
    TPR { W tpr_threshold: composite tpr; }
    CS_SS { RW cs: segment CS; RW ss: segment SS; }
    DS_ES { RW ds: segment DS; RW es: segment ES; }
    FS_GS { RW fs: segment FS; RW gs: segment GS; }
    TR { RW tr: segment TR; }
    LDTR { RW ldtr: segment LDTR; }
    GDTR { RW gdtr: composite gdtr; }
    IDTR { RW idtr: composite idtr; }
    PDPTE { RW pdpte: composite pdptes; }
    CR {
        RW cr0: composite cr0;
        RW cr2: register cr2;
        RW cr3: vmcs GUEST_CR3;
        RW cr4: composite cr4;
        RW cr8: composite cr8;
    }
    DR { RW dr7: vmcs GUEST_DR7 clean_dr7; }
    XSAVE { RW xcr0: composite xsave; RW xss: part_of xsave; }
    SYSCALL { RW star: msr star set_star; RW lstar: msr lstar set_lstar; RW fmask: msr fmask set_fmask; }
    SYSENTER {
        RW sysenter_cs: vmcs GUEST_IA32_SYSENTER_CS clean_sysenter_cs;
        RW sysenter_esp: vmcs GUEST_IA32_SYSENTER_ESP;
        RW sysenter_eip: vmcs GUEST_IA32_SYSENTER_EIP;
    }
    PAT { RW pat: vmcs GUEST_IA32_PAT; }
    EFER { RW efer: vmcs GUEST_IA32_EFER clean_efer; }
    KERNEL_GS { RW kernel_gs_base: msr kernel_gs_base set_kernel_gs_base; }
    TSC { RW tsc_aux: msr tsc_aux set_tsc_aux; }
}

const _: () = assert!(FREQUENT.intersection(RARE).is_empty());

/// The table. POISON, TLB, SPACES and APIC are not in it: they are the kernel's.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    FREQUENT_ROWS.iter().chain(RARE_ROWS)
}

/// Moves the state that `mtd` selects from the vCPU to the UTCB, for an event. [`crate::requeue`] comes first.
///
/// With a TPR shadow the kernel first updates `regs.cr8` from the virtual-APIC page if `mtd` has CR.
#[inline]
pub fn save(mtd: Mtd, utcb: &mut ArchState, vmcs: &impl VmcsPort, regs: &VcpuRegs) {
    save_frequent(mtd, utcb, vmcs, regs);
    if mtd.intersects(RARE) {
        save_rare_outlined(mtd, utcb, vmcs, regs);
    }
}

/// Moves the state that `mtd` selects from the UTCB to the vCPU, for a reply.
///
/// Values that could harm the host are made harmless; values that merely make no sense fail VM entry, which is an
/// event for the VMM. With a TPR shadow the kernel afterwards copies `regs.cr8` to the virtual-APIC page if `mtd` has CR.
#[inline]
pub fn load(mtd: Mtd, utcb: &ArchState, vmcs: &mut impl VmcsPort, regs: &mut VcpuRegs, controls: &Controls) {
    load_frequent(mtd, utcb, vmcs, regs, controls);
    if mtd.intersects(RARE) {
        load_rare_outlined(mtd, utcb, vmcs, regs, controls);
    }
}

#[inline(never)]
fn save_rare_outlined(mtd: Mtd, utcb: &mut ArchState, vmcs: &impl VmcsPort, regs: &VcpuRegs) {
    save_rare(mtd, utcb, vmcs, regs);
}

#[inline(never)]
fn load_rare_outlined(mtd: Mtd, utcb: &ArchState, vmcs: &mut impl VmcsPort, regs: &mut VcpuRegs, controls: &Controls) {
    load_rare(mtd, utcb, vmcs, regs, controls);
    if mtd.intersects(Mtd::CR.union(Mtd::EFER)) {
        cr::settle_long_mode(vmcs);
    }
}

fn clean_rflags(value: u64, _: &Controls) -> u64 {
    value & rflags::DEFINED | rflags::ONE
}

fn clean_dr7(value: u64, _: &Controls) -> u64 {
    value & dr7::DEFINED | dr7::ONE
}

/// The field has 32 bits.
fn clean_sysenter_cs(value: u64, _: &Controls) -> u32 {
    value as u32
}

fn clean_efer(value: u64, _: &Controls) -> u64 {
    value & efer::DEFINED
}

fn clean_interruptibility(value: u32, _: &Controls) -> u32 {
    value & interruptibility::ALL
}

/// Shutdown and wait-for-SIPI block the interrupts that should bring the host back (27.6.2, 26.2).
fn clean_activity(value: u32, controls: &Controls) -> u32 {
    if value == activity::HLT && controls.activity_hlt { activity::HLT } else { activity::ACTIVE }
}

/// Machine checks are for the host, and no guest may keep the CPU for good.
fn with_forced(value: u32, _: &Controls) -> u32 {
    value | FORCED_EXCEPTIONS
}
