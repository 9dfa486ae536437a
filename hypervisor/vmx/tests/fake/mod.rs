//! A VMCS in a map, and a CPU's capability MSRs.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use virt::VcpuRegs;
use vmx::{CapabilityMsrs, Controls, Field, GuestSetup, HostState, VmcsPort, field};

/// Keeps field widths, refuses what VMWRITE refuses, and panics on reads of what was never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vmcs(pub BTreeMap<Field, u64>);

impl Vmcs {
    /// What hardware does: writes read-only fields too.
    pub fn poke(&mut self, field: Field, value: u64) {
        self.0.insert(field, value & field.value_mask());
    }

    /// The fields that differ from those of `before`.
    pub fn changed_since(&self, before: &Vmcs) -> Vec<Field> {
        self.0.iter().filter(|(f, v)| before.0.get(f) != Some(v)).map(|(f, _)| *f).collect()
    }
}

impl VmcsPort for Vmcs {
    fn read(&self, field: Field) -> u64 {
        *self.0.get(&field).unwrap_or_else(|| panic!("{field:x?} was never written"))
    }

    fn write(&mut self, field: Field, value: u64) {
        assert!(!field.is_read_only(), "{field:x?} is read-only");
        assert_eq!(value & !field.value_mask(), 0, "{field:x?} is narrower than {value:#x}");
        self.0.insert(field, value);
    }
}

/// Haswell as Bochs 2.7 models it.
pub fn haswell() -> CapabilityMsrs {
    CapabilityMsrs {
        basic: 0x00d8_1000_0000_002b,
        pin: 0x0000_007f_0000_0016,
        proc1: 0xf7f9_fffe_0400_6172,
        proc2: 0x0004_7fff_0000_0000,
        exit: 0x007f_ffff_0003_6dfb,
        entry: 0x0000_ffff_0000_11fb,
        ept_vpid: 0x0000_0f01_0633_4141,
        cr0_fixed0: 0x8000_0021,
        cr0_fixed1: 0xffff_ffff,
        cr4_fixed0: 0x2000,
        cr4_fixed1: 0x0017_27ff,
        misc: 0x2004_01e0,
        feature_control: 5,
        cpuid_vmx: true,
    }
}

/// Sandy Bridge as Bochs 2.7 models it: no accessed and dirty flags, no 1 GiB leaves, fewer secondary controls.
pub fn sandy_bridge() -> CapabilityMsrs {
    let absent = 1 << 17 | 1 << 21;
    CapabilityMsrs { proc2: 0xff_0000_0000, ept_vpid: haswell().ept_vpid & !absent, ..haswell() }
}

pub fn controls() -> Controls {
    vmx::negotiate(&haswell()).expect("Haswell has everything")
}

pub const READ_ONLY: [Field; 11] = [
    field::GUEST_PHYSICAL_ADDRESS,
    field::VM_INSTRUCTION_ERROR,
    field::EXIT_REASON,
    field::VM_EXIT_INTERRUPTION_INFO,
    field::VM_EXIT_INTERRUPTION_ERROR_CODE,
    field::IDT_VECTORING_INFO,
    field::IDT_VECTORING_ERROR_CODE,
    field::VM_EXIT_INSTRUCTION_LENGTH,
    field::VM_EXIT_INSTRUCTION_INFO,
    field::EXIT_QUALIFICATION,
    field::GUEST_LINEAR_ADDRESS,
];

/// A new vCPU after an exit with nothing to tell.
pub fn vcpu(controls: &Controls) -> (Vmcs, VcpuRegs) {
    let mut vmcs = Vmcs::default();
    vmx::init(&mut vmcs, controls, &HostState::default(), &GuestSetup::default());
    READ_ONLY.iter().for_each(|f| vmcs.poke(*f, 0));
    (vmcs, VcpuRegs::new())
}
