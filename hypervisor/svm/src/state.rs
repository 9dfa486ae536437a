//! State transfer between a vCPU and a UTCB: [`save`], [`load`] and [`rows`], made of SVM's column of
//! [`virt::transfer_table`].
//!
//! Words of a slot: `vmcb FIELD GROUP [clean]`, a field of the state-save area, the clean bits that a change affects, and
//! what makes a value harmless; `segment FIELD GROUP`; `msr get set` of the MSR area in [`VcpuRegs`]; `composite NAME`, a
//! module of `composite`; `part_of NAME`, moved with it.

use crate::composite::*;
use crate::spec::{clean, dr, rflags};
use crate::{Controls, Vmcb, cr, segment};
use abi::{ArchState, Mtd};
use virt::{Access, CR4_NOT_SWITCHED, VcpuRegs};

/// Where a field of the UTCB lives in a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A field of the state-save area, by its name.
    Vmcb(&'static str),
    /// A segment register of the state-save area, by its name.
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
    ($u:ident $v:ident $r:ident $c:ident W $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident vmcb $from:ident $group:ident $($clean:ident)?) => {
        $u.$field = $v.save.$from;
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident segment $from:ident $groups:ident) => {
        $u.$field = segment::read(&$v.save.$from);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident msr $get:ident $set:ident) => {
        $u.$field = $r.msrs.$get();
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident composite $of:ident) => {
        $of::save($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident part_of $of:ident) => {};
}

/// Statement that moves a row's value from the UTCB.
macro_rules! load_row {
    ($u:ident $v:ident $r:ident $c:ident R $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident vmcb $to:ident $groups:ident) => {
        $v.save.$to = $u.$field;
        $v.dirty(clean::$groups);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident vmcb $to:ident $groups:ident $clean:ident) => {
        $v.save.$to = $clean($u.$field);
        $v.dirty(clean::$groups);
    };
    ($u:ident $v:ident $r:ident $c:ident $access:ident $field:ident segment $to:ident $groups:ident) => {
        segment::write(&mut $v.save.$to, &$u.$field);
        $v.dirty(clean::$groups);
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
    (vmcb $field:ident $groups:ident $($clean:ident)?) => {
        Slot::Vmcb(stringify!($field))
    };
    (segment $name:ident $groups:ident) => {
        Slot::Segment(stringify!($name))
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
        $($mtd:ident { $($access:ident $field:ident $([$($part:tt)*])?: $vmx:tt ($kind:ident $($arg:ident)*);)* })*
    }) => {
        const $bits: Mtd = Mtd::empty()$(.union(Mtd::$mtd))*;

        const $rows: &[Row] = &[$($(Row {
            mtd: Mtd::$mtd,
            name: stringify!($field),
            access: Access::$access,
            slot: slot!($kind $($arg)*),
        },)*)*];

        #[inline]
        fn $save(mtd: Mtd, u: &mut ArchState, v: &Vmcb, r: &VcpuRegs, c: &Controls) {
            $(if mtd.contains(Mtd::$mtd) {
                $(save_row!(u v r c $access $field $kind $($arg)*);)*
            })*
        }

        #[inline]
        fn $load(mtd: Mtd, u: &ArchState, v: &mut Vmcb, r: &mut VcpuRegs, c: &Controls) {
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
/// The kernel has executed VMSAVE if `mtd` has FS_GS, TR, LDTR, SYSCALL, SYSENTER or KERNEL_GS.
#[inline]
pub fn save(mtd: Mtd, utcb: &mut ArchState, vmcb: &Vmcb, regs: &VcpuRegs, controls: &Controls) {
    save_frequent(mtd, utcb, vmcb, regs, controls);
    if mtd.intersects(RARE) {
        save_rare_outlined(mtd, utcb, vmcb, regs, controls);
    }
}

/// Moves the state that `mtd` selects from the UTCB to the vCPU, for a reply.
///
/// Values that could harm the host are made harmless; values that merely make no sense fail VM entry, which is an
/// event for the VMM. The kernel executes VMLOAD before the next entry.
#[inline]
pub fn load(mtd: Mtd, utcb: &ArchState, vmcb: &mut Vmcb, regs: &mut VcpuRegs, controls: &Controls) {
    load_frequent(mtd, utcb, vmcb, regs, controls);
    if mtd.intersects(RARE) {
        load_rare_outlined(mtd, utcb, vmcb, regs, controls);
    }
}

#[inline(never)]
fn save_rare_outlined(mtd: Mtd, utcb: &mut ArchState, vmcb: &Vmcb, regs: &VcpuRegs, controls: &Controls) {
    save_rare(mtd, utcb, vmcb, regs, controls);
}

#[inline(never)]
fn load_rare_outlined(mtd: Mtd, utcb: &ArchState, vmcb: &mut Vmcb, regs: &mut VcpuRegs, controls: &Controls) {
    load_rare(mtd, utcb, vmcb, regs, controls);
    if mtd.intersects(Mtd::CR.union(Mtd::EFER)) {
        cr::settle_long_mode(vmcb);
    }
}

fn clean_rflags(value: u64) -> u64 {
    value & rflags::DEFINED | rflags::ONE
}

fn clean_dr7(value: u64) -> u64 {
    value & dr::DR7_DEFINED | dr::DR7_ONE
}

/// The guest's own, but for what is not switched.
fn clean_cr4(value: u64) -> u64 {
    value & !CR4_NOT_SWITCHED
}
