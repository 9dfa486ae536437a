//! Wiring of the VMM: builds the machine, then one portal thread for each vCPU, on its CPU, handles its events
//! ([`handler`]), one thread lets the devices' time pass, and the main thread carries what is typed at the terminal to
//! the guest ([`shared`]). [`load`] fills the guest's memory, at first and at each reset.
//!
//! Locks: the machine's is held for the time of one exit, and never while its holder waits for anything else. The
//! output's comes first where both are needed, so that bytes stay in order; its holder may wait for the terminal.

mod handler;
mod load;
mod shared;

use std::sync::Arc;
use std::thread;

use abi::{Features, VirtMissing};
use rt::Semaphore;
use thiserror::Error;
use vm_memory::mmap::FromRangesError;
use vmm_logic::config::{ConfigError, Guest};
use vmm_logic::cpuid::{self, Policy};
use vmm_logic::exit::{Environment, Vcpu};
use vmm_logic::loader::LoadError;
use vmm_logic::machine::Machine;
use vmm_logic::mem;
use vmm_logic::pvclock::PvClock;
use vmm_logic::spec::{EVENTS, portal_mtd};

use handler::Handler;
use load::Loader;
use shared::{Output, Seat, Shared};

/// Stack of a portal thread in bytes.
const HANDLER_STACK: usize = 64 << 10;
/// vCPUs run that much below the threads of this component, so that time and input get through.
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
    /// No guest space.
    #[error(
        "no guest can be had of service `vm`: {0}; the system file says who may have one by `routes = {{ vm = \"parent\" }}`"
    )]
    NoGuest(#[from] rt::vm::GuestError),
    /// Guest RAM.
    #[error(
        "config: ram = {} MiB: {cause}; guest RAM is taken from the component's `spare`, which is a part of its `ram`",
        ram >> 20
    )]
    Ram {
        /// What was asked for, in bytes.
        ram: u64,
        /// Why there is not so much.
        cause: rt::dataspace::AllocError,
    },
    /// Guest RAM that is no memory.
    #[error("guest RAM: {0}")]
    Region(#[from] FromRangesError),
    /// Kernel or initrd.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Guest RAM could not be written.
    #[error("guest RAM: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// A hypercall.
    #[error("{what}: {status}")]
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
    let cpus = guest.place(&host_cpus(info), info.cpus)?;
    let space = rt::vm::Guest::open()?;
    let ram = space.ram(0, guest.ram).map_err(|cause| Failure::Ram { ram: guest.ram, cause })?;
    let mem = mem::attached(ram)?;
    let own_kib = info.ram_len >> 10;
    println!("guest {:?}: {} MiB RAM, {own_kib} KiB at most for the VMM itself", guest.name, guest.ram >> 20);
    if cpus != [info.cpu as u16] {
        println!("guest {:?}: vCPUs on host CPUs {cpus:?}", guest.name);
    }

    let spaces = Spaces::new(space)?;
    let cpuid = Policy::new(cpuid::host, guest.vcpus, info.tsc_hz, &guest.hide);
    let (tsc_hz, tsc) = (info.tsc_hz, rt::time::tsc());
    let clock = PvClock { tsc_hz, tsc, wall_ns: load::wall_ns(info, tsc) };
    let env = Arc::new(Environment { mem, cpuid, clock, spaces: spaces.selectors() });
    let on_reset = guest.on_reset;
    let loader = Loader::new(info, guest, env.clone());
    let (start, board) = loader.load()?;
    let machine = Machine::new(board, cpus.len(), start);
    let (reader, writer) = match rt::channel::terminal() {
        Ok((reader, writer)) => (Some(reader), Some(writer)),
        Err(e) => {
            println!("no terminal, the guest's console output is dropped: {e}");
            (None, None)
        }
    };

    let logic = (0..cpus.len()).map(|id| Vcpu::new(id, env.clone(), &machine)).collect::<Vec<_>>();
    let mut vcpus = cpus.iter().map(|cpu| VcpuEc::new(*cpu)).collect::<Result<Vec<_>, _>>()?;
    let seats = vcpus.iter().map(VcpuEc::seat).collect();
    let shared = Arc::new(Shared::new(machine, Output::new(writer), seats, on_reset, loader));
    for (vcpu, logic) in vcpus.iter().zip(logic) {
        vcpu.bind(Handler::new(logic, shared.clone(), vcpu.events))?;
    }
    let timer = shared.clone();
    thread::Builder::new().name("timer".into()).spawn(move || timer.keep_time())?;
    for vcpu in &mut vcpus {
        kernel("cannot start a vCPU", vcpu.ec.start(VCPU_LOWER))?;
    }
    match reader {
        Some(reader) => shared.carry_input(reader),
        None => loop {
            thread::park();
        },
    }
}

/// Host CPUs that this component may use, the first thread's first.
fn host_cpus(info: &parent::StartInfo) -> Vec<u16> {
    info.usable_cpus().to_vec()
}

/// The kernel's side of a vCPU: its EC, and where its portals are.
struct VcpuEc {
    ec: rt::vm::Vcpu,
    cpu: u16,
    events: abi::Sel,
}

impl VcpuEc {
    /// On a host CPU. It does not run yet.
    fn new(cpu: u16) -> Result<VcpuEc, Failure> {
        let events = rt::sel::alloc_range(EVENTS, EVENTS.next_power_of_two()).ok_or(abi::Status::MemCap);
        let events = kernel("no selectors for a vCPU's portals", events)?;
        let ec = kernel("cannot create a vCPU", rt::vm::Vcpu::new(cpu, events))?;
        Ok(VcpuEc { ec, cpu, events })
    }

    /// How others reach it.
    fn seat(&self) -> Seat {
        Seat { vcpu: self.ec.recaller(), wake: Semaphore::new(0) }
    }

    /// Gives it a handler, which is a thread on the same CPU.
    fn bind(&self, handler: Handler) -> Result<(), Failure> {
        let thread = rt::PortalThread::new(self.cpu, HANDLER_STACK, handler.into_portal_handler());
        let thread = kernel("cannot create a vCPU's handler", thread)?;
        for event in 0..EVENTS {
            let portal = thread.portal(self.events + event, event, portal_mtd(event).bits());
            kernel("cannot create a portal", portal)?;
        }
        Ok(())
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

/// What the guest may touch without an exit: its RAM, no ports, no MSRs.
struct Spaces {
    gst: rt::vm::Guest,
    pio: rt::vm::PioSpace,
    msr: rt::vm::MsrSpace,
}

impl Spaces {
    fn new(gst: rt::vm::Guest) -> Result<Spaces, Failure> {
        let pio = kernel("cannot create the PIO space", rt::vm::PioSpace::new())?;
        let msr = kernel("cannot create the MSR space", rt::vm::MsrSpace::new())?;
        Ok(Spaces { gst, pio, msr })
    }

    fn selectors(&self) -> [abi::Sel; 3] {
        [self.gst.sel(), self.pio.sel(), self.msr.sel()]
    }
}
