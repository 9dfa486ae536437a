//! Puts the guest together: its memory and its devices, as they are after power-on.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};
use vmm_logic::config::Guest;
use vmm_logic::cpuid;
use vmm_logic::dev::{Platform, PlatformConfig};
use vmm_logic::exit::Environment;
use vmm_logic::loader::{self, Images};
use vmm_logic::vcpu::{self, Start};
use vmm_logic::{acpi, layout, mem};

use super::Failure;

/// What it takes to start the guest, once and again.
pub struct Loader {
    info: &'static parent::StartInfo,
    guest: Guest,
    env: Arc<Environment>,
}

impl Loader {
    /// For this guest.
    pub fn new(info: &'static parent::StartInfo, guest: Guest, env: Arc<Environment>) -> Loader {
        Loader { info, guest, env }
    }

    /// [`load`](Self::load) into memory that a guest has used.
    pub fn load_again(&self) -> Result<(Start, Platform), Failure> {
        mem::clear(&self.env.mem)?;
        self.load()
    }

    /// Fills guest RAM, which is all zero, with kernel, initrd, boot parameters, ACPI tables, page tables, and makes
    /// the devices.
    pub fn load(&self) -> Result<(Start, Platform), Failure> {
        let (guest, ram) = (&self.guest, &self.env.mem);
        let modules: Vec<_> = guest.modules.iter().map(|m| (m.as_str(), rt::rom(loader::module_rom(m)))).collect();
        let images = Images {
            kernel_rom: &guest.kernel,
            kernel: rt::rom(&guest.kernel),
            initrd: guest.initrd.as_deref().map(|name| (name, rt::rom(name))),
            modules: &modules,
            cmdline: &guest.cmdline,
            acpi: guest.acpi,
            protocol: guest.boot,
        };
        let boot = loader::load(ram, guest.ram, &images)?;
        if guest.acpi {
            ram.write_slice(&acpi::tables(guest.vcpus), GuestAddress(layout::ACPI))?;
        }
        vcpu::prepare(ram, &boot.start)?;
        Ok((boot.start, Platform::new(&self.platform_config())))
    }

    fn platform_config(&self) -> PlatformConfig {
        let (info, cpuid) = (self.info, &self.env.cpuid);
        let boot_tsc = rt::time::tsc();
        PlatformConfig {
            vcpus: self.guest.vcpus as usize,
            tsc_hz: info.tsc_hz,
            lapic_hz: cpuid::crystal_hz(info.tsc_hz),
            boot_tsc,
            wall_ns: wall_ns(info, boot_tsc),
            ram_bytes: self.guest.ram,
            phys_bits: cpuid.phys_bits() as u8,
        }
    }
}

/// Time of day at a value of the TSC, in ns since 1970.
pub fn wall_ns(info: &parent::StartInfo, tsc: u64) -> u64 {
    info.wall_base_ns.saturating_add(rt::time::ns_from_tsc(tsc))
}
