//! Wiring of the VMM: builds the machine, then one portal thread handles the vCPU's events ([`handler`]), one thread
//! lets the devices' time pass, and the main thread carries what is typed at the terminal to the guest ([`shared`]).
//!
//! Locks: the machine's is held for the time of one exit. The output's comes first where both are needed, so that bytes
//! stay in order.

mod handler;
mod shared;

use std::sync::Arc;
use std::thread;

use abi::{Features, VirtMissing};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_logic::config::{ConfigError, Guest};
use vmm_logic::cpuid::{self, Policy};
use vmm_logic::dev::{Platform, PlatformConfig};
use vmm_logic::exit::Machine;
use vmm_logic::loader::{self, Boot, Images, LoadError};
use vmm_logic::mem::{self, RamError};
use vmm_logic::spec::{EVENTS, portal_mtd};
use vmm_logic::{acpi, layout, vcpu};

use handler::Handler;
use shared::{Output, Shared};

/// Stack of the portal thread in bytes.
const HANDLER_STACK: usize = 64 << 10;
/// The vCPU runs that much below the threads of this component, so that time and input get through.
const VCPU_LOWER: u64 = 1;

/// Why there is no VM.
#[derive(Debug, Error)]
pub enum Failure {
    /// Started as something else than a component.
    #[error("there is no start information: not a component")]
    NoStartInfo,
    /// The machine runs no guests.
    #[error("this machine cannot run guests; missing: {0}")]
    NoVirtualization(String),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Guest RAM.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// Kernel or initrd.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Guest RAM could not be written.
    #[error("guest RAM: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// A hypercall.
    #[error("{what}: the kernel says {status:?}")]
    Kernel {
        /// What was to be done.
        what: &'static str,
        /// The status.
        status: abi::Status,
    },
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

fn kernel<T>(what: &'static str, r: Result<T, abi::Status>) -> Result<T, Failure> {
    r.map_err(|status| Failure::Kernel { what, status })
}

/// Runs the guest of this component. Returns only if it cannot be started; afterwards the component exits.
pub fn run() -> Result<(), Failure> {
    let info = rt::start_info().ok_or(Failure::NoStartInfo)?;
    check_virtualization(info)?;
    let guest = Guest::parse(rt::rom(parent::CONFIG_ROM))?;
    let mem = mem::allocate(guest.ram, info.ram_len)?;
    let boot = load(&guest, &mem)?;
    let own_kib = info.ram_len.saturating_sub(guest.ram) >> 10;
    println!("vm: guest {:?}: {} MiB RAM, {own_kib} KiB at most for the VMM itself", guest.name, guest.ram >> 20);

    let spaces = Spaces::new(&mem)?;
    let cpuid = Policy::new(cpuid::host, guest.vcpus, info.tsc_hz, &guest.hide);
    let board = Platform::new(&platform_config(info, &guest, &cpuid));
    let (reader, writer) = rt::channel::client(parent::SERVICE_TERMINAL).map(rt::channel::Channel::split).unzip();
    if reader.is_none() {
        println!("vm: no terminal is routed to this component: the guest's console output is dropped");
    }

    let events = rt::sel::alloc_range(EVENTS, EVENTS.next_power_of_two()).ok_or(abi::Status::MemCap);
    let events = kernel("no selectors for the vCPU's portals", events)?;
    let mut vcpu = kernel("cannot create the vCPU", rt::vm::Vcpu::new(info.cpu as u16, events))?;
    let machine = Machine::new(board, mem, cpuid, boot.start, spaces.selectors());
    let shared = Arc::new(Shared::new(machine, Output::new(writer), vcpu.recaller()));
    let handler = Handler::new(shared.clone(), events);
    let thread = kernel(
        "cannot create the vCPU's handler",
        rt::PortalThread::new(info.cpu as u16, HANDLER_STACK, handler.into_portal_handler()),
    )?;
    for event in 0..EVENTS {
        kernel("cannot create a portal", thread.portal(events + event, event, portal_mtd(event).bits()))?;
    }
    let timer = shared.clone();
    thread::Builder::new().name("timer".into()).spawn(move || timer.keep_time())?;
    kernel("cannot start the vCPU", vcpu.start(VCPU_LOWER))?;
    match reader {
        Some(reader) => shared.carry_input(reader),
        None => loop {
            thread::park();
        },
    }
}

fn check_virtualization(info: &parent::StartInfo) -> Result<(), Failure> {
    let features = Features::from_bits_truncate(info.features);
    if features.intersects(Features::VMX | Features::SVM) {
        return Ok(());
    }
    let missing: Vec<&str> = VirtMissing::from_bits_truncate(info.virt_missing).names().collect();
    let missing = if missing.is_empty() { "VT-x or SVM".into() } else { missing.join(", ") };
    Err(Failure::NoVirtualization(missing))
}

/// Fills guest RAM: kernel, initrd, boot parameters, ACPI tables, page tables.
fn load(guest: &Guest, mem: &GuestMemoryMmap) -> Result<Boot, Failure> {
    let images = Images {
        kernel_rom: &guest.kernel,
        kernel: rt::rom(&guest.kernel),
        initrd: guest.initrd.as_deref().map(|name| (name, rt::rom(name))),
        cmdline: &guest.cmdline,
        acpi: guest.acpi,
        protocol: guest.boot,
    };
    let boot = loader::load(mem, guest.ram, &images)?;
    if guest.acpi {
        mem.write_slice(&acpi::tables(guest.vcpus), GuestAddress(layout::ACPI))?;
    }
    vcpu::prepare(mem, &boot.start)?;
    Ok(boot)
}

fn platform_config(info: &parent::StartInfo, guest: &Guest, cpuid: &Policy) -> PlatformConfig {
    let boot_tsc = rt::time::tsc();
    PlatformConfig {
        vcpus: guest.vcpus as usize,
        tsc_hz: info.tsc_hz,
        lapic_hz: cpuid::crystal_hz(info.tsc_hz),
        boot_tsc,
        wall_ns: info.wall_base_ns.saturating_add(rt::time::ns_from_tsc(boot_tsc)),
        ram_bytes: guest.ram,
        phys_bits: cpuid.phys_bits() as u8,
    }
}

/// What the guest may touch without an exit: its RAM, no ports, no MSRs.
struct Spaces {
    gst: rt::vm::GuestSpace,
    pio: rt::vm::PioSpace,
    msr: rt::vm::MsrSpace,
}

impl Spaces {
    fn new(mem: &GuestMemoryMmap) -> Result<Spaces, Failure> {
        let gst = kernel("cannot create the guest space", rt::vm::GuestSpace::new())?;
        kernel("cannot delegate guest RAM", mem::delegate(mem, &gst))?;
        let pio = kernel("cannot create the PIO space", rt::vm::PioSpace::new())?;
        let msr = kernel("cannot create the MSR space", rt::vm::MsrSpace::new())?;
        Ok(Spaces { gst, pio, msr })
    }

    fn selectors(&self) -> [abi::Sel; 3] {
        [self.gst.sel(), self.pio.sel(), self.msr.sel()]
    }
}
