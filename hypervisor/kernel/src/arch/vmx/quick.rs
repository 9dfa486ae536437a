//! The quick way of VM exits and replies on VT-x: see [`exit`].

use super::{Port, Vcpu, exit_slowly};
use crate::arch::cpu::cpu;
use crate::arch::{exit, fpu, vmx_resume};
use abi::{ArchState, Mtd};
use core::cell::Cell;
use vmx::{Field, VmcsPort, guest, ro};

/// What some fields of the VMCS hold, as far as they were read since the exit: a reply writes only what it changes.
#[derive(Default)]
pub struct Known {
    which: Cell<u8>,
    values: [Cell<u64>; 4],
}

impl Known {
    #[inline(always)]
    fn index(field: Field) -> Option<usize> {
        Some(match field {
            guest::RSP => 0,
            guest::RFLAGS => 1,
            guest::INTERRUPTIBILITY_STATE => 2,
            guest::ACTIVITY_STATE => 3,
            _ => return None,
        })
    }

    /// They may hold anything.
    #[inline(always)]
    pub fn forget(&self) {
        self.which.set(0);
    }
}

/// The current VMCS, of which that is known.
struct Remembering<'a>(&'a Known);

impl VmcsPort for Remembering<'_> {
    #[inline(always)]
    fn read(&self, field: Field) -> u64 {
        let value = Port.read(field);
        if let Some(i) = Known::index(field) {
            self.0.values[i].set(value);
            self.0.which.set(self.0.which.get() | 1 << i);
        }
        value
    }

    #[inline(always)]
    fn write(&mut self, field: Field, value: u64) {
        if let Some(i) = Known::index(field)
            && self.0.which.get() & 1 << i != 0
        {
            if self.0.values[i].get() == value {
                return;
            }
            self.0.values[i].set(value);
        }
        Port.write(field, value);
    }
}

/// VM exit. The guest's GPRs and CR2 are in the vCPU.
pub extern "C" fn vm_exit() -> ! {
    let c = cpu();
    let reason = Port.read(ro::EXIT_REASON);
    if let Some(ec) = exit::current(c)
        && vmx::is_plain(&Port, reason)
        && let Some((pt, h, s)) = exit::handler_of(c, ec, reason)
        && let Some(v) = ec.vcpu.as_ref().and_then(|v| v.vmx())
    {
        let mtd = pt.mtd();
        v.known.forget();
        if !vmx::PLAIN.contains(mtd) {
            exit::save_and_hand_over(ec, pt, h, s)
        }
        vmx::save_plain(mtd, s, &Remembering(&v.known), v.regs(), &());
        exit::hand_over(ec, pt, h, mtd)
    }
    exit_slowly(reason)
}

/// [`crate::arch::guest::reply_at_once`]. The preemption timer fires when it was last set for or later; until then another
/// timer does.
#[inline(always)]
pub fn reply_at_once(v: &Vcpu, mtd: u32, s: &ArchState, back: impl FnOnce()) {
    if mtd & !vmx::PLAIN.bits() == 0 {
        let regs = v.regs();
        vmx::load_plain(Mtd::from_bits_retain(mtd), s, &mut Remembering(&v.known), regs, v.controls);
        back();
        fpu::set_xcr0(regs.xcr0);
        // SAFETY: CR2 only matters to page-fault handlers; the VMCS is complete.
        unsafe {
            x86::controlregs::cr2_write(regs.cr2);
            vmx_resume(&regs.gpr)
        }
    }
}
