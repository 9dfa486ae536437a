//! Vector state (x87, SSE, AVX, ...).
//!
//! It is dead across `ipc_call` and `ipc_reply`: nothing is saved there, and the next EC finds a clean state. In all
//! other switches the state is saved and loaded when a host EC of another kind takes over. Between a vCPU and the ECs
//! of its own VMM it is lazy: CR0.TS is set by the VM exit, and only an EC that uses vector registers pays.

use super::cpu::{cpu, cpuid};
use crate::mem::pool::Page;
use crate::object::account::Account;
use crate::object::ec::{Ec, EcKind};
use core::arch::asm;
use core::cell::Cell;
use core::ptr::NonNull;
use switches::Switches;
use x86::controlregs::{Cr0, Xcr0, cr0, cr0_write, xcr0_write};

/// Offset of MXCSR in an XSAVE area (Intel SDM vol. 1, 13.4.1), and its value after reset.
const MXCSR: (usize, u32) = (24, 0x1f80);

/// An XSAVE area that says that everything is as after reset: only its legacy region and header are looked at (Intel SDM
/// vol. 1, 13.4).
#[repr(C, align(64))]
pub struct Clean([u8; 576]);

/// A clean state.
pub static CLEAN: Clean = {
    let mut area = [0; 576];
    area[MXCSR.0] = MXCSR.1 as u8;
    area[MXCSR.0 + 1] = (MXCSR.1 >> 8) as u8;
    Clean(area)
};

/// Where an EC's vector state is while it is not in the registers.
pub struct Area {
    page: Page,
    /// The area holds a state; otherwise the EC starts with a clean one.
    saved: Cell<bool>,
}

impl Area {
    /// For an EC without vector state yet.
    pub fn new(a: &'static Account) -> Option<Area> {
        Some(Area { page: Page::new(a)?, saved: Cell::new(false) })
    }
}

/// Enables the vector state that this CPU has: XCR0, and whether there is XSAVEOPT.
pub fn init() -> (u64, bool) {
    let id = cpuid();
    let Some(x) = id.get_extended_state_info() else { return (0, false) };
    let mut want = Xcr0::XCR0_FPU_MMX_STATE | Xcr0::XCR0_SSE_STATE;
    if x.xcr0_supports_avx_256() {
        want |= Xcr0::XCR0_AVX_STATE;
    }
    if x.xcr0_supports_avx512_opmask() && x.xcr0_supports_avx512_zmm_hi256() && x.xcr0_supports_avx512_zmm_hi16() {
        want |= Xcr0::XCR0_OPMASK_STATE | Xcr0::XCR0_ZMM_HI256_STATE | Xcr0::XCR0_HI16_ZMM_STATE;
    }
    // SAFETY: CPUID says that these are supported; XSAVE is on in CR4.
    unsafe { xcr0_write(want) };
    cpu().xcr0.set(want.bits());
    let size = cpuid().get_extended_state_info().map_or(0, |x| x.xsave_area_size_enabled_features());
    assert!(size as usize <= abi::PAGE_SIZE, "vector state of {size} bytes does not fit into a frame");
    (want.bits(), x.has_xsaveopt())
}

fn set_ts(on: bool) {
    if cpu().ts.replace(on) == on {
        return;
    }
    // SAFETY: TS only decides whether vector instructions trap.
    unsafe {
        let mut v = cr0();
        v.set(Cr0::CR0_TASK_SWITCHED, on);
        cr0_write(v);
    }
}

/// The next VM exit sets CR0.TS.
pub fn note_ts() {
    cpu().ts.set(true);
}

/// There was no VM exit.
pub fn look_at_ts() {
    // SAFETY: reading a control register.
    cpu().ts.set(unsafe { cr0() }.contains(Cr0::CR0_TASK_SWITCHED));
}

/// Sets XCR0 if it is different.
#[inline(always)]
pub fn set_xcr0(v: u64) {
    if cpu().xcr0.get() != v {
        change_xcr0(v);
    }
}

#[cold]
#[inline(never)]
fn change_xcr0(v: u64) {
    cpu().xcr0.set(v);
    // SAFETY: either the host's own value or one that was checked against it.
    unsafe { xcr0_write(Xcr0::from_bits_truncate(v)) };
}

/// Sets the host's XCR0; `false`: it is that. The quick way of VM exits leaves that of the guest, which has no more.
pub fn set_host_xcr0() -> bool {
    let host = cpu().features.get().xcr0;
    let other = cpu().xcr0.get() != host;
    set_xcr0(host);
    other
}

/// Whether a guest has left XCR0 as it was.
#[inline(always)]
pub fn is_xcr0_known() -> bool {
    let low: u32;
    // SAFETY: XSAVE is on. The upper half has no component that anybody has.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags)) };
    low == cpu().xcr0.get() as u32
}

/// XCR0 as the guest has left it.
#[inline(always)]
pub fn note_xcr0() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: XSAVE is on.
    unsafe { asm!("xgetbv", in("ecx") 0, out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags)) };
    let v = high << 32 | low;
    cpu().xcr0.set(v);
    v
}

/// All components that XCR0 has (Intel SDM vol. 1, 13.3).
const ALL: u32 = u32::MAX;

#[inline(always)]
fn save(ec: &Ec) {
    let Some(a) = ec.fpu.as_ref() else { return };
    a.saved.set(true);
    if !cpu().uses(Switches::XSAVEOPT) {
        return save_all(a);
    }
    // SAFETY: the area is a frame, aligned and large enough; TS is clear and XCR0 the host's (see `switch`).
    unsafe {
        asm!("xsaveopt64 [{}]", in(reg) a.page.at::<u8>().as_ptr(), in("eax") ALL, in("edx") ALL, options(nostack));
    }
}

/// On a CPU without XSAVEOPT.
#[cold]
#[inline(never)]
fn save_all(a: &Area) {
    // SAFETY: as in `save`.
    unsafe {
        asm!("xsave64 [{}]", in(reg) a.page.at::<u8>().as_ptr(), in("eax") ALL, in("edx") ALL, options(nostack));
    }
}

/// Its area does not hold a state any more: the registers do.
#[inline(always)]
fn load(ec: &Ec) {
    let saved = ec.fpu.as_ref().filter(|a| a.saved.replace(false));
    restore(saved.map_or(NonNull::from(&CLEAN).cast(), |a| a.page.at()));
}

#[inline(always)]
fn restore(from: NonNull<u8>) {
    // SAFETY: a state that `save` wrote, or the clean one.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) from.as_ptr(), in("eax") ALL, in("edx") ALL, options(nostack));
    }
}

/// The registers become those of `to`, which has vector state.
pub fn switch(to: &'static Ec) {
    set_ts(false);
    set_xcr0(cpu().features.get().xcr0);
    if let Some(o) = cpu().fpu_owner.get() {
        save(o);
    }
    load(to);
    cpu().fpu_owner.set(Some(to));
    cpu().fpu_clean.set(false);
}

/// The same where they are those of `from`, and the CPU is plain: TS is clear, and XCR0 the host's.
#[inline(always)]
pub fn change_owner(from: &'static Ec, to: &'static Ec) {
    save(from);
    load(to);
    cpu().fpu_owner.set(Some(to));
}

/// The same if what the registers hold is dead.
#[inline(always)]
pub fn take_over(to: &'static Ec) {
    load(to);
    cpu().fpu_owner.set(Some(to));
}

/// Leaves nothing in the registers: an EC without vector state must not find that of others, not even in speculation.
fn clear() {
    if cpu().fpu_clean.replace(true) {
        return;
    }
    set_ts(false);
    set_xcr0(cpu().features.get().xcr0);
    if let Some(o) = cpu().fpu_owner.take() {
        save(o);
    }
    restore(NonNull::from(&CLEAN).cast());
}

/// Whether the registers hold the state of `ec`.
pub fn owns(ec: &'static Ec) -> bool {
    cpu().fpu_owner.get().is_some_and(|o| core::ptr::eq(o, ec))
}

/// The caller's vector state is dead from here on: it did a call or a reply.
pub fn discard(ec: &'static Ec) {
    if let Some(a) = ec.fpu.as_ref() {
        a.saved.set(false);
    }
    if owns(ec) {
        cpu().fpu_owner.set(None);
    }
}

/// The registers hold the state of `ec`, which the fast path has made the current one.
pub fn owned_by(ec: &'static Ec) {
    cpu().fpu_owner.set(Some(ec));
}

/// The owner is gone.
pub fn disown() {
    cpu().fpu_owner.set(None);
}

/// Before a host EC goes on in user mode.
pub fn enter_host(ec: &'static Ec) {
    if ec.fpu.as_ref().is_none() {
        clear();
        set_xcr0(cpu().features.get().xcr0);
        return set_ts(true);
    }
    match cpu().fpu_owner.get() {
        Some(o) if core::ptr::eq(o, ec) => set_ts(false),
        Some(o) if o.kind == EcKind::Vcpu && core::ptr::eq(o.hst.found(), ec.hst.found()) => set_ts(true),
        _ => switch(ec),
    }
    set_xcr0(cpu().features.get().xcr0);
}

/// SVM has no host CR0 of its own: what is set at VMRUN comes back at the exit.
pub fn leave_ts_set() {
    set_ts(true);
}

/// Before a vCPU enters the guest. TS is in the VMCS, or [`leave_ts_set`] comes next.
pub fn enter_guest(ec: &'static Ec, guest_xcr0: u64) {
    if !owns(ec) {
        switch(ec);
    }
    set_xcr0(guest_xcr0);
}

/// #NM: gives the registers to `ec` if it may have them.
pub fn claim(ec: &'static Ec) -> bool {
    if ec.fpu.as_ref().is_none() || owns(ec) {
        return false;
    }
    switch(ec);
    true
}
