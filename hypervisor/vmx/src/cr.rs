//! CR0, CR4 and EFER: what the guest sees, what is in force, and who owns which bit.
//!
//! A bit that is set in the guest/host mask is owned by the host: the guest reads it from the shadow, and changing it
//! exits. All other bits are the guest's own.

use crate::{Controls, Field, VmcsPort, control, guest};
use virt::spec::{cr0, efer};
use x86::vmx::vmcs::control::EntryControls;

/// The fields of a register, and how a visible value becomes a real one.
pub(crate) struct Register {
    real: Field,
    mask: Field,
    shadow: Field,
    in_force: fn(u64, &Controls) -> u64,
}

pub(crate) const CR0: Register = Register {
    real: guest::CR0,
    mask: control::CR0_GUEST_HOST_MASK,
    shadow: control::CR0_READ_SHADOW,
    // VM entry ignores CD and NW of the field; the guest's wish lives in the shadow only.
    in_force: |value, c| (value | c.cr0_fixed) & !(cr0::CD | cr0::NW),
};

pub(crate) const CR4: Register = Register {
    real: guest::CR4,
    mask: control::CR4_GUEST_HOST_MASK,
    shadow: control::CR4_READ_SHADOW,
    in_force: |value, c| (value | c.cr4_fixed) & !virt::CR4_NOT_SWITCHED,
};

impl Register {
    /// The value that the guest reads.
    pub fn visible(&self, vmcs: &impl VmcsPort) -> u64 {
        let mask = vmcs.read(self.mask);
        vmcs.read(self.real) & !mask | vmcs.read(self.shadow) & mask
    }

    /// Lets the guest read `value`, and puts as much of it in force as VMX operation permits.
    pub fn set(&self, vmcs: &mut impl VmcsPort, value: u64, controls: &Controls) {
        vmcs.write(self.shadow, value);
        vmcs.write(self.real, (self.in_force)(value, controls));
    }

    /// Changes ownership of bits. What the guest reads stays as it is, also in bits that change hands.
    pub fn own(&self, vmcs: &mut impl VmcsPort, mask: u64, controls: &Controls) {
        let visible = self.visible(vmcs);
        vmcs.write(self.mask, mask);
        self.set(vmcs, visible, controls);
    }
}

/// Makes EFER.LMA and the entry control "IA-32e mode guest" follow EFER.LME and CR0.PG, as VM entry demands (27.3.1.1).
pub(crate) fn settle_long_mode(vmcs: &mut impl VmcsPort) {
    let old = vmcs.read(guest::IA32_EFER_FULL);
    let active = old & efer::LME != 0 && vmcs.read(guest::CR0) & cr0::PG != 0;
    let new = if active { old | efer::LMA } else { old & !efer::LMA };
    if new != old {
        vmcs.write(guest::IA32_EFER_FULL, new);
    }
    let controls = vmcs.read(control::VMENTRY_CONTROLS);
    let bit = u64::from(EntryControls::IA32E_MODE_GUEST.bits());
    let wanted = if active { controls | bit } else { controls & !bit };
    if wanted != controls {
        vmcs.write(control::VMENTRY_CONTROLS, wanted);
    }
}
