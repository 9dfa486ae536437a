//! What a CPU with SVM does at VMRUN and #VMEXIT, over a VMCB; and what the kernel does there.

use crate::Kernel;
use crate::cpu::{Cause, Cpu, Delivery, Instruction, Memory, Rules, Shadow};
use abi::{ArchState, Mtd};
use svm::spec::{INTERRUPT_SHADOW, misc1, misc2, vintr};
use svm::{CapabilityBits, Controls, GuestSetup, Vmcb};
use virt::{Exit, VcpuRegs};
use zerocopy::FromZeros;

/// A vCPU under SVM.
pub struct Svm {
    vmcb: Box<Vmcb>,
    regs: VcpuRegs,
    controls: Controls,
}

/// QEMU's TCG, and a Zen CPU.
pub const LEAST: u32 = 1;
pub const ALL: u32 = 0x0001_bcff;

const VALID: u64 = 1 << 31;

impl Rules for Svm {
    fn exits(&self, i: Instruction) -> bool {
        use Instruction::*;
        let c = &self.vmcb.control.intercepts;
        match i {
            Cpuid => c.misc1 & misc1::CPUID != 0,
            Hlt => c.misc1 & misc1::HLT != 0,
            Invd => c.misc1 & misc1::INVD != 0,
            Rdpmc => c.misc1 & misc1::RDPMC != 0,
            Rdtsc => c.misc1 & misc1::RDTSC != 0,
            Pause => c.misc1 & misc1::PAUSE != 0,
            Rdmsr | Wrmsr => c.misc1 & misc1::MSR_PROT != 0,
            Wbinvd => c.misc2 & misc2::WBINVD != 0,
            Hypercall => c.misc2 & misc2::VMMCALL != 0,
        }
    }

    fn exception(&self, vector: u8) -> bool {
        self.vmcb.control.intercepts.exceptions >> vector & 1 != 0
    }

    fn cr_write(&self, register: u8, old: u64, new: u64) -> bool {
        const TS_MP: u64 = 1 << 3 | 1 << 1;
        let c = &self.vmcb.control.intercepts;
        let selective = register == 0 && c.misc1 & misc1::CR0_SEL_WRITE != 0 && (old ^ new) & !TS_MP != 0;
        selective || c.cr_write >> register & 1 != 0
    }

    fn iret(&self) -> bool {
        self.vmcb.control.intercepts.misc1 & misc1::IRET != 0
    }

    fn window(&self, cpu: &Cpu) -> Option<Cause> {
        let v = self.vmcb.control.vintr;
        let above = v & vintr::IGN_TPR != 0 || (v & vintr::PRIO) >> vintr::PRIO_SHIFT > v & vintr::TPR;
        let due = v & vintr::IRQ != 0 && above && cpu.interrupts_on();
        assert!(!due || self.vmcb.control.intercepts.misc1 & misc1::VINTR != 0, "the guest would get vector 0");
        due.then_some(Cause::Window)
    }

    fn hypercall(&self) -> u8 {
        0xd9
    }
}

/// Exit code, EXITINFO1, EXITINFO2, length of the instruction.
fn told(cause: Cause, rip: u64) -> (u64, u64, u64, u64) {
    use Instruction::*;
    match cause {
        Cause::Instruction(i, len) => {
            let (code, info1) = match i {
                Cpuid => (0x72, 0),
                Hlt => (0x78, 0),
                Invd => (0x76, 0),
                Rdpmc => (0x6f, 0),
                Rdtsc => (0x6e, 0),
                Hypercall => (0x81, 0),
                Rdmsr => (0x7c, 0),
                Wrmsr => (0x7c, 1),
                Pause => (0x77, 0),
                Wbinvd => (0x89, 0),
            };
            (code, info1, 0, len.into())
        }
        Cause::Io { port, size, input, len } => {
            let info1 = u64::from(port) << 16 | u64::from(size) << 4 | u64::from(input);
            (0x7b, info1, rip + u64::from(len), len.into())
        }
        Cause::CrWrite { register, len } => (0x10 + u64::from(register), 0, 0, len.into()),
        Cause::Exception(v) => (0x40 + u64::from(v), 0, 0, 0),
        Cause::Violation { gpa, access, readable } => {
            let error = u64::from(readable) | (access & 2) | (access & 4) << 2 | 1 << 2 | 1 << 32;
            (0x400, error, gpa, 0)
        }
        Cause::Window => (0x64, 0, 0, 0),
        Cause::Iret => (0x74, 0, 0, 0),
        Cause::Shutdown => (0x7f, 0, 0, 0),
        Cause::NmiWindow => unreachable!("SVM has no NMI window"),
    }
}

impl Svm {
    pub fn new(edx: u32) -> Svm {
        let bits = CapabilityBits { cpuid_svm: true, ebx: 16, edx, ..CapabilityBits::default() };
        let controls = svm::negotiate(&bits).expect("all that is required");
        let mut vmcb: Box<Vmcb> = Box::new(Vmcb::new_zeroed());
        svm::init(&mut vmcb, &controls, &GuestSetup { asid: 1, ..GuestSetup::default() });
        Svm { vmcb, regs: VcpuRegs::RESET, controls }
    }

    pub fn nrips(&self) -> bool {
        self.controls.nrips
    }

    fn cpu(&self) -> Cpu {
        let s = &self.vmcb.save;
        let mut gpr = self.regs.gpr;
        (gpr[ArchState::RAX], gpr[ArchState::RSP]) = (s.rax, s.rsp);
        let shadow = self.vmcb.control.interrupt_shadow & INTERRUPT_SHADOW != 0;
        Cpu {
            gpr,
            rip: s.rip,
            rflags: s.rflags,
            cs: (s.cs.selector, s.cs.base),
            ss: (s.ss.selector, s.ss.base),
            cr0: s.cr0,
            cr4: s.cr4,
            idt: (s.idtr.base, s.idtr.limit),
            shadow: if shadow { Shadow::Sti } else { Shadow::None },
            nmi_blocked: false,
            delivering: None,
        }
    }

    /// EVENTINJ. Software events return to the next RIP where there is one, all others to RIP.
    fn injected(&self) -> Option<Delivery> {
        let (word, c) = (self.vmcb.control.eventinj, &self.vmcb.control);
        let soft = word >> 8 & 7 == 4 || word >> 8 & 7 == 3 && matches!(word & 0xff, 3 | 4);
        let back = if soft && self.controls.nrips { c.nrip } else { self.vmcb.save.rip };
        (word & VALID != 0).then_some(Delivery { info: word as u32, error: (word >> 32) as u32, back, len: 0 })
    }

    fn leave(&mut self, cpu: &Cpu, cause: Cause) {
        let nrips = self.controls.nrips;
        let (code, info1, info2, len) = told(cause, cpu.rip);
        self.regs.gpr = cpu.gpr;
        let s = &mut self.vmcb.save;
        (s.rax, s.rsp) = (cpu.gpr[ArchState::RAX], cpu.gpr[ArchState::RSP]);
        (s.rip, s.rflags, s.cr0, s.cr4) = (cpu.rip, cpu.rflags, cpu.cr0, cpu.cr4);
        (s.cs.selector, s.cs.base) = cpu.cs;
        (s.ss.selector, s.ss.base) = cpu.ss;
        let c = &mut self.vmcb.control;
        (c.exitcode, c.exitinfo1, c.exitinfo2) = (code, info1, info2);
        c.nrip = if nrips { cpu.rip + len } else { 0 };
        c.interrupt_shadow = u64::from(cpu.shadow != Shadow::None);
        c.eventinj &= !VALID;
        // INT3 and INTO are exceptions here.
        let kind = |info: u32| if info >> 8 & 7 >= 5 { info & !(7 << 8) | 3 << 8 } else { info };
        c.exitintinfo = cpu.delivering.map_or(0, |d| u64::from(kind(d.info)) | u64::from(d.error) << 32);
    }
}

impl Kernel for Svm {
    fn save(&mut self, mtd: Mtd, s: &mut ArchState) {
        svm::save(mtd, s, &self.vmcb, &self.regs, &self.controls);
    }

    fn load(&mut self, mtd: Mtd, s: &ArchState) {
        svm::load(mtd, s, &mut self.vmcb, &mut self.regs, &self.controls);
    }

    fn run(&mut self, mem: &mut Memory) -> Option<u64> {
        if let Some(n) = svm::window_due(&self.vmcb) {
            return Some(n);
        }
        let mut cpu = self.cpu();
        let cause = cpu.run(mem, self, self.injected());
        self.leave(&cpu, cause);
        svm::requeue(&mut self.vmcb, &self.controls);
        if svm::track_nmi(&mut self.vmcb) {
            return None;
        }
        match svm::decode_exit(&self.vmcb) {
            Exit::Portal(2) => {
                svm::reset(&mut self.vmcb, &self.controls);
                Some(2)
            }
            Exit::Portal(n) => Some(n),
            Exit::Host(_) => None,
        }
    }
}
