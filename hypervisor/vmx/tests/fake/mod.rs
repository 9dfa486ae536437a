//! A VMCS in a map, and a CPU's capability MSRs.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use virt::VcpuRegs;
use vmx::{CapabilityMsrs, Controls, Field, GuestSetup, HostState, VmcsPort, ro};

/// Mask of the bits that a field holds, by its width in bits 14:13 of its encoding.
fn mask(field: Field) -> u64 {
    match field >> 13 & 3 {
        0 => 0xffff,
        2 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

/// Keeps field widths, refuses what VMWRITE refuses, and panics on reads of what was never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vmcs(pub BTreeMap<Field, u64>);

impl Vmcs {
    /// What hardware does: writes read-only fields too.
    pub fn poke(&mut self, field: Field, value: u64) {
        self.0.insert(field, value & mask(field));
    }

    /// The fields that differ from those of `before`.
    pub fn changed_since(&self, before: &Vmcs) -> Vec<Field> {
        self.0.iter().filter(|(f, v)| before.0.get(f) != Some(v)).map(|(f, _)| *f).collect()
    }
}

impl VmcsPort for Vmcs {
    fn read(&self, field: Field) -> u64 {
        *self.0.get(&field).unwrap_or_else(|| panic!("{field:x} was never written"))
    }

    fn write(&mut self, field: Field, value: u64) {
        assert_ne!(field >> 10 & 3, 1, "{field:x} is a VM-exit information field, which is read-only");
        assert_eq!(value & !mask(field), 0, "{field:x} is narrower than {value:#x}");
        self.0.insert(field, value);
    }
}

/// Haswell as Bochs 2.7 models it.
pub fn haswell() -> CapabilityMsrs {
    CapabilityMsrs {
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
    ro::GUEST_PHYSICAL_ADDR_FULL,
    ro::VM_INSTRUCTION_ERROR,
    ro::EXIT_REASON,
    ro::VMEXIT_INTERRUPTION_INFO,
    ro::VMEXIT_INTERRUPTION_ERR_CODE,
    ro::IDT_VECTORING_INFO,
    ro::IDT_VECTORING_ERR_CODE,
    ro::VMEXIT_INSTRUCTION_LEN,
    ro::VMEXIT_INSTRUCTION_INFO,
    ro::EXIT_QUALIFICATION,
    ro::GUEST_LINEAR_ADDR,
];

/// A new vCPU after an exit with nothing to tell.
pub fn vcpu(controls: &Controls) -> (Vmcs, VcpuRegs) {
    let mut vmcs = Vmcs::default();
    vmx::init(&mut vmcs, controls, &HostState::default(), &GuestSetup::default());
    READ_ONLY.iter().for_each(|f| vmcs.poke(*f, 0));
    (vmcs, VcpuRegs::RESET)
}
