//! What a vCPU answers out of its own, without the machine: CPUID, most MSRs, control registers, and instructions that
//! do nothing or raise an exception in a guest.

use abi::{ArchState, Mtd};

use super::{Action, Event, Vcpu, give_msr, msr_value, raise, skip};
use crate::control;
use crate::cpuid::VcpuView;
use crate::inject::Exception;
use crate::msr::Access;
use crate::spec::reason;

/// CR8 in the exit qualification of CR accesses.
const CR8: u64 = 8;
/// What VMCALL returns: KVM_ENOSYS, no such hypercall.
const ENOSYS: u64 = -1000i64 as u64;

impl Vcpu {
    /// Answers an event without the machine, if that is possible; otherwise [`handle`](Self::handle) is next. `s` is the
    /// vCPU's state as far as `event.mtd` says, `now` the TSC.
    pub fn alone(&mut self, event: Event, s: &mut ArchState, now: u64) -> Option<Action> {
        self.counts.count(event.number);
        if !event.mtd.contains(Mtd::INJ) {
            s.inj_info = self.windows;
        }
        Some(match event.number {
            reason::CPUID => self.cpuid(s),
            reason::RDMSR => return self.own_rdmsr(event, s, now),
            reason::WRMSR => return self.own_wrmsr(event, s),
            reason::CR_ACCESS if s.qual[0] & control::QUAL_CR != CR8 => self.cr_access(event, s),
            reason::XSETBV => self.xsetbv(s),
            reason::INVD | reason::WBINVD | reason::PAUSE => Action::Reply(skip(s)),
            reason::VMCALL => {
                s.gpr[ArchState::RAX] = ENOSYS;
                Action::Reply(skip(s) | Mtd::GPR_0_7)
            }
            reason::RDPMC => raise(s, Exception::GP),
            reason::GETSEC | reason::MWAIT | reason::MONITOR | reason::INVEPT | reason::INVVPID | reason::VMFUNC => {
                raise(s, Exception::UD)
            }
            reason::VMCLEAR..=reason::VMXON => raise(s, Exception::UD),
            _ => return None,
        })
    }

    #[inline(never)]
    fn cpuid(&mut self, s: &mut ArchState) -> Action {
        let view = VcpuView { apic_id: self.id as u32, cr4: s.cr4, xcr0: self.xcr0 };
        let [a, b, c, d] =
            self.env.cpuid.query(s.gpr[ArchState::RAX] as u32, s.gpr[ArchState::RCX] as u32, view).map(u64::from);
        s.gpr[ArchState::RAX] = a;
        s.gpr[ArchState::RBX] = b;
        s.gpr[ArchState::RCX] = c;
        s.gpr[ArchState::RDX] = d;
        Action::Reply(skip(s) | Mtd::GPR_0_7)
    }

    /// RDMSR as far as the register is the vCPU's own.
    fn own_rdmsr(&mut self, event: Event, s: &mut ArchState, now: u64) -> Option<Action> {
        let msr = s.gpr[ArchState::RCX] as u32;
        Some(match self.msrs.read(msr, s, event.mtd, now) {
            Access::Value(v) => give_msr(s, v),
            Access::Needs(_) => Action::Widen,
            Access::Fault => raise(s, Exception::GP),
            _ => return None,
        })
    }

    /// WRMSR as far as the register is the vCPU's own.
    fn own_wrmsr(&mut self, event: Event, s: &mut ArchState) -> Option<Action> {
        let msr = s.gpr[ArchState::RCX] as u32;
        Some(match self.msrs.write(msr, msr_value(s), s, event.mtd) {
            Access::Written(mtd) => Action::Reply(skip(s) | mtd),
            Access::Needs(_) => Action::Widen,
            Access::Fault => raise(s, Exception::GP),
            Access::Unknown if self.set_clock(msr, msr_value(s)) => Action::Reply(skip(s)),
            _ => return None,
        })
    }

    /// A write to the MSRs of KVM's clock. They cannot be read.
    #[cold]
    fn set_clock(&self, msr: u32, value: u64) -> bool {
        self.env.cpuid.has_clock() && self.env.clock.write_msr(msr, value, &self.env.mem)
    }

    /// XSETBV (SDM volume 2): XCR0 only, x87 always on, AVX not without SSE, nothing that CPUID does not offer.
    fn xsetbv(&mut self, s: &mut ArchState) -> Action {
        let value = s.gpr[ArchState::RDX] << 32 | s.gpr[ArchState::RAX] & 0xffff_ffff;
        let valid = s.gpr[ArchState::RCX] as u32 == 0
            && value & 1 != 0
            && value & 0b110 != 0b100
            && value & !self.env.cpuid.xcr0() == 0;
        if !valid {
            return raise(s, Exception::GP);
        }
        s.xcr0 = value;
        self.xcr0 = value;
        Action::Reply(skip(s) | Mtd::XSAVE)
    }

    /// MOV to CR0 or CR4 that changes a bit which is not the guest's own: CD, NW, NE, VMXE.
    #[cold]
    fn cr_access(&mut self, event: Event, s: &mut ArchState) -> Action {
        match control::write(s, &self.env.mem, self.env.cpuid.cr4_bits()) {
            Some(Ok(mtd)) => Action::Reply(skip(s) | mtd),
            Some(Err(e)) => raise(s, e),
            None => self.broken(format!("unexpected CR access, exit {:#x}", event.number)),
        }
    }
}
