//! What a CPU with VT-x does at entries and exits, over a VMCS in a map; and what the kernel does there.

use crate::Kernel;
use crate::cpu::{Cause, Cpu, Delivery, Instruction, Memory, Rules, Shadow};
use abi::{ArchState, Mtd};
use std::collections::BTreeMap;
use virt::{Exit, VcpuRegs};
use vmx::{CapabilityMsrs, Controls, Field, GuestSetup, HostState, VmcsPort, control, guest, ro};

#[derive(Default)]
struct Vmcs(BTreeMap<Field, u64>);

impl Vmcs {
    fn poke(&mut self, f: Field, v: u64) {
        // The width is in bits 14:13 of the encoding.
        let mask = [0xffff, u64::MAX, 0xffff_ffff, u64::MAX][(f >> 13 & 3) as usize];
        self.0.insert(f, v & mask);
    }
}

impl VmcsPort for Vmcs {
    fn read(&self, f: Field) -> u64 {
        self.0.get(&f).copied().unwrap_or(0)
    }

    fn write(&mut self, f: Field, v: u64) {
        assert_ne!(f >> 10 & 3, 1, "{f:x} is a VM-exit information field, which is read-only");
        self.poke(f, v);
    }
}

/// A vCPU under VT-x.
pub struct Vmx {
    vmcs: Vmcs,
    regs: VcpuRegs,
    controls: Controls,
}

/// Haswell as Bochs 2.7 models it.
const HASWELL: CapabilityMsrs = CapabilityMsrs {
    pin: 0x0000_007f_0000_0016,
    proc1: 0xf7f9_fffe_0400_6172,
    proc2: 0x0004_7fff_0000_0000,
    exit: 0x007f_ffff_0003_6dfb,
    entry: 0x0000_ffff_0000_11fb,
    ept_vpid: 0x0000_0f01_0633_4141,
    cr0_fixed0: 0x8000_0021,
    cr4_fixed0: 0x2000,
    misc: 0x2004_01e0,
    feature_control: 5,
    cpuid_vmx: true,
};

const VALID: u64 = 1 << 31;
const INTERRUPT_WINDOW: u64 = 1 << 2;
const NMI_WINDOW: u64 = 1 << 22;

impl Rules for Vmx {
    fn exits(&self, i: Instruction) -> bool {
        let bit = match i {
            Instruction::Rdtsc => 1 << 12,
            Instruction::Pause => 1 << 30,
            _ => return true,
        };
        self.vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS) & bit != 0
    }

    fn exception(&self, vector: u8) -> bool {
        self.vmcs.read(control::EXCEPTION_BITMAP) >> vector & 1 != 0
    }

    fn cr_write(&self, register: u8, old: u64, new: u64) -> bool {
        let f = if register == 0 { control::CR0_GUEST_HOST_MASK } else { control::CR4_GUEST_HOST_MASK };
        (old ^ new) & self.vmcs.read(f) != 0
    }

    fn iret(&self) -> bool {
        false
    }

    fn window(&self, cpu: &Cpu) -> Option<Cause> {
        let controls = self.vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS);
        if controls & NMI_WINDOW != 0 && !cpu.nmi_blocked && cpu.shadow != Shadow::MovSs {
            return Some(Cause::NmiWindow);
        }
        (controls & INTERRUPT_WINDOW != 0 && cpu.interrupts_on()).then_some(Cause::Window)
    }

    fn hypercall(&self) -> u8 {
        0xc1
    }
}

/// Basic exit reason, length of the instruction, qualification.
fn told(cause: Cause) -> (u64, u64, u64) {
    use Instruction::*;
    match cause {
        Cause::Instruction(i, len) => {
            let reason = match i {
                Cpuid => 10,
                Hlt => 12,
                Invd => 13,
                Rdpmc => 15,
                Rdtsc => 16,
                Hypercall => 18,
                Rdmsr => 31,
                Wrmsr => 32,
                Pause => 40,
                Wbinvd => 54,
            };
            (reason, len.into(), 0)
        }
        Cause::Io { port, size, input, len } => {
            (30, len.into(), u64::from(port) << 16 | u64::from(input) << 3 | u64::from(size - 1))
        }
        Cause::CrWrite { register, len } => (28, len.into(), register.into()),
        Cause::Exception(_) => (0, 0, 0),
        Cause::Violation { access, readable, .. } => (48, 0, access | u64::from(readable) << 3 | 1 << 7 | 1 << 8),
        Cause::Window => (7, 0, 0),
        Cause::NmiWindow => (8, 0, 0),
        Cause::Shutdown => (2, 0, 0),
        Cause::Iret => unreachable!("VT-x does not intercept IRET"),
    }
}

impl Vmx {
    pub fn new() -> Vmx {
        let controls = vmx::negotiate(&HASWELL).expect("Haswell has everything");
        let mut vmcs = Vmcs::default();
        vmx::init(&mut vmcs, &controls, &HostState::default(), &GuestSetup::default());
        Vmx { vmcs, regs: VcpuRegs::RESET, controls }
    }

    fn cpu(&self) -> Cpu {
        let r = |f| self.vmcs.read(f);
        let visible = |real, mask, shadow| r(real) & !r(mask) | r(shadow) & r(mask);
        let mut gpr = self.regs.gpr;
        gpr[ArchState::RSP] = r(guest::RSP);
        let state = r(guest::INTERRUPTIBILITY_STATE);
        Cpu {
            gpr,
            rip: r(guest::RIP),
            rflags: r(guest::RFLAGS),
            cs: (r(guest::CS_SELECTOR) as u16, r(guest::CS_BASE)),
            ss: (r(guest::SS_SELECTOR) as u16, r(guest::SS_BASE)),
            cr0: visible(guest::CR0, control::CR0_GUEST_HOST_MASK, control::CR0_READ_SHADOW),
            cr4: visible(guest::CR4, control::CR4_GUEST_HOST_MASK, control::CR4_READ_SHADOW),
            idt: (r(guest::IDTR_BASE), r(guest::IDTR_LIMIT) as u32),
            shadow: [Shadow::None, Shadow::Sti, Shadow::MovSs, Shadow::MovSs][(state & 3) as usize],
            nmi_blocked: state & 8 != 0,
            delivering: None,
        }
    }

    fn store(&mut self, c: &Cpu) {
        self.regs.gpr = c.gpr;
        let shadow = match c.shadow {
            Shadow::None => 0,
            Shadow::Sti => 1,
            Shadow::MovSs => 2,
        };
        for (f, v) in [
            (guest::RSP, c.gpr[ArchState::RSP]),
            (guest::RIP, c.rip),
            (guest::RFLAGS, c.rflags),
            (guest::CS_SELECTOR, c.cs.0.into()),
            (guest::CS_BASE, c.cs.1),
            (guest::SS_SELECTOR, c.ss.0.into()),
            (guest::SS_BASE, c.ss.1),
            (guest::INTERRUPTIBILITY_STATE, shadow | u64::from(c.nmi_blocked) << 3),
        ] {
            self.vmcs.poke(f, v);
        }
        let own = |real: u64, mask: u64, new: u64| real & mask | new & !mask;
        for (real, mask, new) in
            [(guest::CR0, control::CR0_GUEST_HOST_MASK, c.cr0), (guest::CR4, control::CR4_GUEST_HOST_MASK, c.cr4)]
        {
            let v = own(self.vmcs.read(real), self.vmcs.read(mask), new);
            self.vmcs.poke(real, v);
        }
    }

    /// The event to inject. For software events RIP is that of the instruction.
    fn injected(&self) -> Option<Delivery> {
        let info = self.vmcs.read(control::VMENTRY_INTERRUPTION_INFO_FIELD);
        let soft = matches!(info >> 8 & 7, 4..=6);
        let len = if soft { self.vmcs.read(control::VMENTRY_INSTRUCTION_LEN) } else { 0 };
        (info & VALID != 0).then(|| Delivery {
            info: info as u32,
            error: self.vmcs.read(control::VMENTRY_EXCEPTION_ERR_CODE) as u32,
            back: self.vmcs.read(guest::RIP) + len,
            len: len as u8,
        })
    }

    fn leave(&mut self, c: &Cpu, cause: Cause) {
        self.store(c);
        let (reason, mut len, qualification) = told(cause);
        let entry = self.vmcs.read(control::VMENTRY_INTERRUPTION_INFO_FIELD);
        if c.delivering.is_some_and(|d| d.len != 0) {
            len = c.delivering.map_or(0, |d| d.len.into());
        }
        let vectoring = c.delivering.map_or(0, |d| d.info);
        let exception = if let Cause::Exception(v) = cause { VALID | 3 << 8 | u64::from(v) } else { 0 };
        let gpa = if let Cause::Violation { gpa, .. } = cause { gpa } else { 0 };
        for (f, v) in [
            (ro::EXIT_REASON, reason),
            (ro::EXIT_QUALIFICATION, qualification),
            (ro::VMEXIT_INSTRUCTION_LEN, len),
            (ro::VMEXIT_INTERRUPTION_INFO, exception),
            (ro::GUEST_PHYSICAL_ADDR_FULL, gpa),
            (ro::IDT_VECTORING_INFO, vectoring.into()),
            (ro::IDT_VECTORING_ERR_CODE, c.delivering.map_or(0, |d| d.error.into())),
            (control::VMENTRY_INTERRUPTION_INFO_FIELD, entry & !VALID),
        ] {
            self.vmcs.poke(f, v);
        }
    }
}

impl Kernel for Vmx {
    fn save(&mut self, mtd: Mtd, s: &mut ArchState) {
        vmx::save(mtd, s, &self.vmcs, &self.regs, &());
    }

    fn load(&mut self, mtd: Mtd, s: &ArchState) {
        vmx::load(mtd, s, &mut self.vmcs, &mut self.regs, &self.controls);
    }

    fn run(&mut self, mem: &mut Memory) -> Option<u64> {
        let mut cpu = self.cpu();
        let cause = cpu.run(mem, self, self.injected());
        self.leave(&cpu, cause);
        vmx::requeue(&mut self.vmcs);
        let reason = self.vmcs.read(ro::EXIT_REASON);
        match vmx::decode_exit(reason, || self.vmcs.read(ro::VMEXIT_INTERRUPTION_INFO)) {
            Exit::Portal(n) => {
                vmx::restore_nmi_blocking(&mut self.vmcs, reason);
                Some(n)
            }
            Exit::Host(_) => None,
        }
    }
}
