//! The tests of virtual CPUs on a software CPU: the back ends' own logic for events, exits and state, in the order in
//! which the kernel calls it, over a VMCS or VMCB in memory. It knows real mode; tests that need more run in the machine.

mod cpu;
mod svm_cpu;
mod vmx_cpu;

use abi::{ArchState, Mtd, event};
use cpu::Memory;
use vcpu_tests::{Access, Emulator, Facts, GROUPS, Machine, Outcome, Vendor, Vm};

/// The kernel's side of a virtual CPU.
trait Kernel {
    fn save(&mut self, mtd: Mtd, s: &mut ArchState);
    fn load(&mut self, mtd: Mtd, s: &ArchState);
    /// One run of the guest. `None`: nothing that a VMM needs to know.
    fn run(&mut self, mem: &mut Memory) -> Option<u64>;
}

/// What an event can carry.
fn readable() -> Mtd {
    let write_only = Mtd::POISON | Mtd::CTRL | Mtd::TPR | Mtd::APIC | Mtd::TLB | Mtd::SPACES;
    Mtd::all() - write_only
}

struct Guest<K> {
    kernel: K,
    mem: Memory,
    started: bool,
    recalled: bool,
}

impl<K: Kernel> Guest<K> {
    fn event(&mut self) -> u64 {
        if !std::mem::replace(&mut self.started, true) {
            return event::GST_STARTUP;
        }
        if std::mem::take(&mut self.recalled) {
            return event::GST_RECALL;
        }
        (0..1000).find_map(|_| self.kernel.run(&mut self.mem)).expect("an event")
    }
}

impl<K: Kernel> Vm for Guest<K> {
    fn run(&mut self, reply: Mtd, state: &mut ArchState) -> Result<u64, String> {
        self.kernel.load(reply, state);
        let n = self.event();
        *state = ArchState::ZERO;
        self.kernel.save(readable(), state);
        Ok(n)
    }

    fn recall(&mut self) -> Result<(), String> {
        self.recalled = true;
        Ok(())
    }

    fn get(&mut self, mtd: Mtd, state: &mut ArchState) -> Outcome {
        self.kernel.save(mtd, state);
        Ok(())
    }

    fn set(&mut self, mtd: Mtd, state: &ArchState) -> Outcome {
        self.kernel.load(mtd, state);
        Ok(())
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) {
        self.mem.bytes[gpa as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn read(&self, gpa: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.mem.bytes[gpa as usize..][..bytes.len()]);
    }

    fn page(&mut self, gpa: u64, access: Access) -> Result<(), String> {
        self.mem.pages[(gpa >> 12) as usize] = access;
        Ok(())
    }

    fn grant_port(&mut self, _: u16) -> Result<(), String> {
        Err("the software CPU has no maps".into())
    }

    fn grant_msr(&mut self, _: u32) -> Result<(), String> {
        Err("the software CPU has no maps".into())
    }
}

struct Model<F> {
    vendor: Vendor,
    lengths: bool,
    new: F,
}

impl<K: Kernel + 'static, F: Fn() -> K> Machine for Model<F> {
    fn facts(&self) -> Facts {
        Facts {
            cr8: true,
            vendor: self.vendor,
            emulator: Emulator::Model,
            lengths: self.lengths,
            operands: false,
            leaf1_ecx: 0,
            leaf7_ebx: 0,
            extended_edx: 0,
        }
    }

    fn vm(&self, _: bool) -> Result<Box<dyn Vm>, String> {
        Ok(Box::new(Guest { kernel: (self.new)(), mem: Memory::new(), started: false, recalled: false }))
    }
}

/// Those whose guests stay in real mode and use nothing that the software CPU lacks.
const HERE: &[(&str, &[&str])] = &[
    ("exits", &["always", "invd", "hypercall", "ports", "cr0", "cr4", "triple_fault"]),
    (
        "injection",
        &[
            "external",
            "nmi",
            "exception",
            "software_interrupt",
            "software_exception",
            "privileged_exception",
            "delivered",
        ],
    ),
    (
        "windows",
        &[
            "open",
            "behind_sti",
            "closed",
            "sti_shadow",
            "mov_ss_shadow",
            "shadow_written",
            "nmi_open",
            "nmi_behind_iret",
            "recall",
            "recall_window",
        ],
    ),
    ("nested", &["missing_stack", "missing_table", "dropped", "soft", "nmi"]),
    ("maps", &["beyond", "efer"]),
    ("state", &["reset", "registers", "flags", "outside"]),
    ("entry", &["reserved_event", "efer_reserved"]),
];

fn all_on(m: &dyn Machine) {
    let mut failures = Vec::new();
    let mut count = 0;
    for (group, names) in HERE {
        let tests = GROUPS.iter().find(|(g, _)| g == group).expect("the group").1;
        for name in *names {
            let test = tests.iter().find(|t| t.name == *name).unwrap_or_else(|| panic!("no test {group}::{name}"));
            count += 1;
            if let Err(why) = (test.run)(m) {
                failures.push(format!("{group}::{name}: {why:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn on_vmx() {
    all_on(&Model { vendor: Vendor::Vmx, lengths: true, new: vmx_cpu::Vmx::new });
}

#[test]
fn on_svm_with_nothing_optional() {
    all_on(&Model { vendor: Vendor::Svm, lengths: false, new: || svm_cpu::Svm::new(svm_cpu::LEAST) });
}

#[test]
fn on_svm_with_everything_optional() {
    assert!(svm_cpu::Svm::new(svm_cpu::ALL).nrips());
    all_on(&Model { vendor: Vendor::Svm, lengths: true, new: || svm_cpu::Svm::new(svm_cpu::ALL) });
}
