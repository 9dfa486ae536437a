//! State transfer between a vCPU and a UTCB: [`save`], [`load`] and [`rows`], made of VT-x's column of
//! [`virt::transfer_table`].
//!
//! Words of a slot: `vmcs FIELD [clean]`, where `clean` makes a value harmless; `segment NAME`; `register NAME` of
//! [`VcpuRegs`]; `msr get set` of its MSR area; `composite NAME`, a module of `composite`; `part_of NAME`, moved with it.

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
    (frequent $frequent:tt rare $rare:tt kernel $kernel:tt) => {
        group_of!(FREQUENT_ROWS FREQUENT save_frequent load_frequent $frequent);
        group_of!(RARE_ROWS RARE save_rare load_rare $rare);
    };
}

macro_rules! group_of {
    ($rows:ident $bits:ident $save:ident $load:ident {
        $($mtd:ident { $($access:ident $field:ident $([$($part:tt)*])?: ($kind:ident $($arg:ident)*) $svm:tt;)* })*
    }) => {
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

virt::transfer_table!(transfer);

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
