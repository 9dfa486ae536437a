//! The device models of a PC guest: plain state machines without threads and clocks.
//!
//! [`Platform`] owns all devices and is what the exit handler talks to. Time comes in as `now`, the guest's TSC; what is
//! due happens before any access is answered. One folder or file per device, with its register names in `spec`.
//!
//! | Part | Is |
//! |---|---|
//! | `platform` | ports, memory and MSRs to devices; time |
//! | `routing` | interrupt lines and messages between the devices, what each vCPU has pending |
//! | `pic`, `ioapic`, `lapic`, `message` | interrupt controllers |
//! | `pit`, `rtc`, `acpi_pm`, `timebase` | timers and power management |
//! | `serial`, `i8042`, `pci` | the rest |
#![forbid(unsafe_code)]

pub mod acpi_pm;
pub mod i8042;
pub mod ioapic;
pub mod lapic;
pub mod message;
pub mod pci;
pub mod pic;
pub mod pit;
mod platform;
mod routing;
pub mod rtc;
pub mod serial;
pub mod timebase;

#[cfg(test)]
mod tests;

pub use crate::bus::UnclaimedMmio;
pub use platform::{Platform, PlatformConfig};
pub use timebase::NEVER;

/// Most vCPUs of a platform.
pub const MAX_VCPUS: usize = crate::layout::MAX_VCPUS as usize;

/// The access raises a general-protection exception in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpFault;

/// What an access means for the machine as a whole; the exit handler carries it out.
///
/// It fits in a register. Values of 16 bytes and more are copied through vector registers, whose first use after an
/// exit costs a fault and a switch of the guest's vector state; the same goes for [`crate::exit::Action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The guest switched the machine off.
    PowerOff,
    /// The guest reset the machine.
    Reset,
    /// A byte was written to the marker port.
    Marker(u8),
    /// vCPUs are to be initialised or started.
    Ipi(IpiEvent),
}

impl Effect {
    /// This effect, or `other` if this is none.
    pub fn or(self, other: Effect) -> Effect {
        if self == Effect::None { other } else { self }
    }
}

/// An interprocessor interrupt that changes the life of vCPUs. All others are delivered by the platform itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpiEvent {
    /// What they are to do.
    pub kind: IpiKind,
    /// Who.
    pub targets: VcpuSet,
}

/// Kinds of [`IpiEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpiKind {
    /// Reset and wait for a start-up IPI. The local APIC has been reset already.
    Init,
    /// Start in real mode at `vector << 12`, if waiting for it.
    Startup(u8),
}

/// What a vCPU would take now if its state allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// A non-maskable interrupt.
    Nmi,
    /// An interrupt with this vector.
    Interrupt(u8),
}

/// A set of vCPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuSet(u8);

const _: () = assert!(MAX_VCPUS <= u8::BITS as usize && size_of::<Effect>() <= size_of::<u64>());

impl VcpuSet {
    /// Nobody.
    pub const NONE: VcpuSet = VcpuSet(0);

    /// Adds a vCPU below [`MAX_VCPUS`].
    pub fn insert(&mut self, vcpu: usize) {
        self.0 |= 1 << (vcpu % MAX_VCPUS);
    }

    /// Removes a vCPU; whether it was in the set.
    pub fn take(&mut self, vcpu: usize) -> bool {
        let was = self.contains(vcpu);
        self.0 &= !(1 << (vcpu % MAX_VCPUS));
        was
    }

    /// Whether a vCPU is in the set.
    pub fn contains(self, vcpu: usize) -> bool {
        vcpu < MAX_VCPUS && self.0 >> vcpu & 1 != 0
    }

    /// Whether nobody is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in either set.
    pub fn union(self, other: VcpuSet) -> VcpuSet {
        VcpuSet(self.0 | other.0)
    }

    /// The vCPUs, lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_VCPUS).filter(move |vcpu| self.contains(*vcpu))
    }
}

impl FromIterator<usize> for VcpuSet {
    fn from_iter<T: IntoIterator<Item = usize>>(vcpus: T) -> VcpuSet {
        let mut set = VcpuSet::default();
        vcpus.into_iter().for_each(|vcpu| set.insert(vcpu));
        set
    }
}
