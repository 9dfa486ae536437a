//! The quick way of VM exits and replies on SVM: see [`exit`].

use super::{Vcpu, enter, exit_slowly};
use crate::arch::cpu::cpu;
use crate::arch::{exit, fpu, tables, time};
use abi::{ArchState, Mtd};

/// Groups that are moved by the table's functions: others take calls.
const SAVED: Mtd = svm::PLAIN.difference(Mtd::QUAL);
const LOADED: Mtd = svm::PLAIN.difference(Mtd::STA);

/// VM exit. The guest's GPRs but RAX and RSP are in the vCPU, the rest in the VMCB.
pub extern "C" fn vm_exit() -> ! {
    let c = cpu();
    if let Some(ec) = exit::current(c)
        && let Some(v) = ec.vcpu.as_ref().and_then(|v| v.svm())
        && !time::is_behind()
        && fpu::is_xcr0_known()
        && let Some(n) = svm::plain_exit(v.vmcb())
        && let Some((pt, h, s)) = exit::handler_of(c, ec, n)
    {
        let mtd = pt.mtd();
        svm::settle(v.vmcb(), v.controls);
        if !SAVED.contains(mtd) {
            exit::save_and_hand_over(ec, pt, h, s)
        }
        svm::save_plain(mtd.intersection(SAVED), s, v.vmcb(), v.regs(), v.controls);
        exit::hand_over(ec, pt, h, mtd)
    }
    exit_slowly()
}

/// [`crate::arch::guest::reply_at_once`].
#[inline(always)]
pub fn reply_at_once(v: &Vcpu, mtd: u32, s: &ArchState, back: impl FnOnce()) {
    let plain = mtd & !svm::PLAIN.bits() == 0 && svm::window_due(v.vmcb()).is_none();
    if plain && (mtd & Mtd::STA.bits() == 0 || svm::load_shadow(s, v.vmcb())) {
        let mtd = Mtd::from_bits_retain(mtd & LOADED.bits());
        svm::load_plain(mtd, s, v.vmcb(), v.regs(), v.controls);
        back();
        tables::clear_user_segments();
        fpu::set_xcr0(v.regs().xcr0);
        enter(v)
    }
}
