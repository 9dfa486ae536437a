//! State transfer between a vCPU and a UTCB: [`save`] and [`load`], made of VT-x's column of [`virt::transfer_table`].
//!
//! With a TPR shadow, `regs.cr8` is up to date before [`save`], and goes to the virtual-APIC page after [`load`].
//!
//! Words of a slot: `vmcs KIND FIELD [clean]`, where `clean` makes a value harmless; `segment SELECTOR`; `descriptor_table
//! LIMIT BASE`; `control NAME`, a register of `cr`; `register NAME [clean]` of [`VcpuRegs`]; `msr NAME` of its MSR area;
//! `xcr0`; `zero`, what guests do not have; `call SAVE LOAD`, functions for the directions that there are; `part_of NAME`,
//! moved with it.

use crate::composite::*;
use crate::cr::settle_long_mode;
use crate::event::{load_injection, save_exception, save_injection};
use crate::spec::{FORCED_EXCEPTIONS, activity, efer};
use crate::{Controls, VmcsPort, control, cr, guest, ro, segment};
use abi::{ArchState, Mtd};
use virt::spec::{dr, interruptibility, rflags};
use virt::{VcpuRegs, load_gpr_8_15, next_xcr0, save_gpr_8_15, transfer_functions};

/// Statement that moves a row's value to the UTCB.
macro_rules! save_row {
    ($u:ident $v:ident $r:ident $c:ident W $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (vmcs $kind:ident $at:ident $($clean:ident)?) $svm:tt) => {
        $u.$f = $v.read($kind::$at) as _;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (segment $selector:ident) $svm:tt) => {
        $u.$f = segment::read(guest::$selector, $v);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (descriptor_table $limit:ident $base:ident) $svm:tt) => {
        $u.$f.limit = $v.read(guest::$limit) as u32;
        $u.$f.base = $v.read(guest::$base);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (control $register:ident) $svm:tt) => {
        $u.$f = cr::$register.visible($v);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (register $from:ident $($clean:ident)?) $svm:tt) => {
        $u.$f = $r.$from;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (msr $from:ident) $svm:tt) => {
        $u.$f = $r.msrs.$from.value;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (xcr0) $svm:tt) => {
        $u.$f = $r.xcr0;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (zero) $svm:tt) => {
        $u.$f = 0;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (call $save:ident $($load:ident)?) $svm:tt) => {
        $save($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (part_of $of:ident) $svm:tt) => {};
}

/// Statement that moves a row's value from the UTCB.
macro_rules! load_row {
    ($u:ident $v:ident $r:ident $c:ident R $($rest:tt)*) => {};
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (vmcs $kind:ident $at:ident) $svm:tt) => {
        $v.write($kind::$at, $u.$f as u64);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (vmcs $kind:ident $at:ident $clean:ident) $svm:tt) => {
        $v.write($kind::$at, $clean($u.$f, $c) as u64);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (segment $selector:ident) $svm:tt) => {
        segment::write(guest::$selector, $v, &$u.$f);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (descriptor_table $limit:ident $base:ident) $svm:tt) => {
        $v.write(guest::$limit, $u.$f.limit.into());
        $v.write(guest::$base, $u.$f.base);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (control $register:ident) $svm:tt) => {
        cr::$register.set($v, $u.$f, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (register $to:ident) $svm:tt) => {
        $r.$to = $u.$f;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (register $to:ident $clean:ident) $svm:tt) => {
        $r.$to = $clean($u.$f, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (msr $to:ident) $svm:tt) => {
        $r.msrs.$to.value = $u.$f;
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (xcr0) $svm:tt) => {
        $r.xcr0 = next_xcr0($r.xcr0, $u.$f, $c.xcr0_supported);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (call $load:ident) $svm:tt) => {
        $load($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (call $save:ident $load:ident) $svm:tt) => {
        $load($u, $v, $r, $c);
    };
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (zero) $svm:tt) => {};
    ($u:ident $v:ident $r:ident $c:ident $a:ident $f:ident (part_of $of:ident) $svm:tt) => {};
}

virt::transfer_table!(transfer_functions [impl VmcsPort, (), Controls]);

fn clean_rflags(value: u64, _: &Controls) -> u64 {
    rflags::clean(value)
}

fn clean_dr7(value: u64, _: &Controls) -> u64 {
    dr::clean_dr7(value)
}

/// Four bits.
fn clean_cr8(value: u64, _: &Controls) -> u64 {
    value & 0xf
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
