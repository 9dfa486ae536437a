//! State transfer between a vCPU and a UTCB: [`save`] and [`load`], made of SVM's column of [`virt::transfer_table`].
//!
//! The kernel executes VMSAVE before [`save`] if it has FS_GS, TR, LDTR, SYSCALL, SYSENTER or KERNEL_GS, and VMLOAD after
//! [`load`], before the next entry.
//!
//! Words of a slot: `vmcb FIELD GROUP [clean]`, a field of the state-save area, the clean bits that a change affects, and
//! what makes a value harmless; `segment FIELD GROUP`; `descriptor_table FIELD GROUP`; `control GET SET`, functions of `cr`;
//! `msr NAME` of the MSR area in [`VcpuRegs`]; `xcr0`; `zero`, what guests do not have; `call SAVE LOAD`, functions for the
//! directions that there are; `part_of NAME`, moved with it.

use crate::composite::*;
use crate::cr::settle_long_mode;
use crate::event::{load_injection, save_injection};
use crate::exit::{save_exception, save_instruction, save_qualifications};
use crate::spec::clean;
use crate::{Controls, Vmcb, cr, segment};
use abi::{ArchState, Mtd};
use virt::spec::{dr::clean_dr7, rflags::clean as clean_rflags};
use virt::{CR4_NOT_SWITCHED, VcpuRegs, load_gpr_8_15, next_xcr0, save_gpr_8_15, transfer_functions};

/// Statement that moves a row's value to the UTCB.
macro_rules! save_row {
    ($u:ident $v:ident $r:ident $c:ident W $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (vmcb $from:ident $group:ident $($clean:ident)?)) => {
        $u.$f = $v.save.$from;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (segment $from:ident $group:ident)) => {
        $u.$f = segment::read(&$v.save.$from);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (descriptor_table $from:ident $group:ident)) => {
        $u.$f.limit = $v.save.$from.limit;
        $u.$f.base = $v.save.$from.base;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (control $get:ident $set:ident)) => {
        $u.$f = cr::$get($v);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (msr $from:ident)) => {
        $u.$f = $r.msrs.$from.value;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (xcr0)) => {
        $u.$f = $r.xcr0;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (zero)) => {
        $u.$f = Default::default();
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (call $save:ident $($load:ident)?)) => {
        $save($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (part_of $of:ident)) => {};
}

/// Statement that moves a row's value from the UTCB.
macro_rules! load_row {
    ($u:ident $v:ident $r:ident $c:ident R $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (vmcb $to:ident $group:ident)) => {
        $v.save.$to = $u.$f;
        $v.dirty(clean::$group);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (vmcb $to:ident $group:ident $clean:ident)) => {
        $v.save.$to = $clean($u.$f);
        $v.dirty(clean::$group);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (segment $to:ident $group:ident)) => {
        segment::write(&mut $v.save.$to, &$u.$f);
        $v.dirty(clean::$group);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (descriptor_table $to:ident $group:ident)) => {
        $v.save.$to.limit = $u.$f.limit;
        $v.save.$to.base = $u.$f.base;
        $v.dirty(clean::$group);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (control $get:ident $set:ident)) => {
        cr::$set($v, $u.$f);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (msr $to:ident)) => {
        $r.msrs.$to.value = $u.$f;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (xcr0)) => {
        $r.xcr0 = next_xcr0($r.xcr0, $u.$f, $c.xcr0_supported);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (zero)) => {};
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (call $load:ident)) => {
        $load($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (call $save:ident $load:ident)) => {
        $load($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident $vmx:tt (part_of $of:ident)) => {};
}

virt::transfer_table!(transfer_functions [Vmcb, Controls, Controls]);

/// The guest's own, but for what is not switched.
fn clean_cr4(value: u64) -> u64 {
    value & !CR4_NOT_SWITCHED
}
