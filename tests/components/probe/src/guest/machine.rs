//! The machine that `vcpu_tests` run on here: guest spaces, virtual CPUs and portals of the kernel.

use crate::scene::{PAGE, in_ms, memory};
use abi::{ArchState, Mtd, Status, event, perm};
use rt::hw::GuestPorts;
use rt::hypercall as hc;
use rt::vm::{GuestSpace, MsrSpace, PioSpace, Vcpu};
use rt::{PortalThread, Semaphore};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use vcpu_tests::{Access, Facts, Machine, Outcome, RAM, Vm, Why};

/// Everything that an event can carry.
const READ: Mtd = Mtd::all()
    .difference(Mtd::POISON)
    .difference(Mtd::CTRL)
    .difference(Mtd::TPR)
    .difference(Mtd::APIC)
    .difference(Mtd::TLB)
    .difference(Mtd::SPACES);
const EVENTS: u64 = event::GST_ARCH + event::GST_NOVA;
/// How long a guest may take for anything. Emulators on busy machines are slow.
const PATIENCE_MS: u64 = 20_000;

/// This machine, with virtual CPUs on one of its CPUs.
pub struct Here {
    facts: Facts,
    cpu: u16,
    /// RAM of guests that are gone.
    spare: Arc<Mutex<Vec<u64>>>,
}

/// What the CPU offers, less what the kernel was told to do without, as the configuration says then.
pub fn facts() -> Facts {
    let config = rt::rom(parent::CONFIG_ROM).map_or("".into(), String::from_utf8_lossy);
    Facts::here().without(&config)
}

impl Here {
    /// On that CPU.
    pub fn new(cpu: u16) -> Here {
        Here { facts: facts(), cpu, spare: Arc::default() }
    }
}

impl Machine for Here {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn vm(&self, own_time: bool) -> Result<Box<dyn Vm>, String> {
        let ram = self.spare.lock().expect("spare RAM").pop().unwrap_or_else(|| memory(RAM as usize, RAM as usize));
        Ok(Box::new(Guest::new(ram, self.spare.clone(), self.cpu, own_time)?))
    }
}

/// What handler and test pass to each other.
struct Exchange {
    message: Mutex<(u64, ArchState, Mtd)>,
    came: Semaphore,
    answered: Semaphore,
    over: AtomicBool,
    gone: Semaphore,
    spaces: [u64; 3],
}

impl Exchange {
    /// In the handler: shows the event, waits for the answer.
    fn handle(&self, number: u64, s: &mut ArchState) -> Mtd {
        if !self.over.load(SeqCst) {
            *self.message.lock().expect("message") = (number, *s, Mtd::empty());
            self.came.up();
            self.answered.down();
        }
        if self.over.load(SeqCst) {
            self.gone.up();
            return Mtd::POISON;
        }
        let (_, state, mtd) = *self.message.lock().expect("message");
        *s = state;
        if number != event::GST_STARTUP {
            return mtd;
        }
        [s.sel_gst, s.sel_pio, s.sel_msr] = self.spaces;
        mtd | Mtd::SPACES
    }
}

struct Guest {
    ram: u64,
    cpu: u16,
    spare: Arc<Mutex<Vec<u64>>>,
    space: GuestSpace,
    /// Before its space goes.
    ports: Option<GuestPorts>,
    pio: PioSpace,
    _msr: MsrSpace,
    vcpu: Vcpu,
    started: bool,
    exchange: Arc<Exchange>,
    base: u64,
}

fn said<T>(what: &str, r: Result<T, Status>) -> Result<T, String> {
    r.map_err(|s| format!("{what}: {s:?}"))
}

impl Guest {
    fn new(ram: u64, spare: Arc<Mutex<Vec<u64>>>, cpu: u16, own_time: bool) -> Result<Guest, String> {
        let space = said("guest space", GuestSpace::new())?;
        let (pio, msr) = (said("PIO space", PioSpace::new())?, said("MSR space", MsrSpace::new())?);
        let exchange = Arc::new(Exchange {
            message: Mutex::new((0, ArchState::ZERO, Mtd::empty())),
            came: Semaphore::new(0),
            answered: Semaphore::new(0),
            over: AtomicBool::new(false),
            gone: Semaphore::new(0),
            spaces: [space.sel(), pio.sel(), msr.sel()],
        });
        let base = rt::sel::alloc_range(EVENTS, 1).ok_or("no selectors")?;
        let e = exchange.clone();
        let handler = Box::new(move |number, _, u: &mut abi::Utcb| e.handle(number, u.arch_mut()).bits());
        let thread = said("event handler", PortalThread::new(cpu, 32 << 10, handler))?;
        for n in 0..EVENTS {
            said("event portal", thread.portal(base + n, n, READ.bits()))?;
        }
        let vcpu = said("vCPU", if own_time { Vcpu::with_own_time(cpu, base) } else { Vcpu::new(cpu, base) })?;
        let mut g = Guest { ram, cpu, spare, space, ports: None, pio, _msr: msr, vcpu, started: false, exchange, base };
        g.write(0, &[0; RAM as usize]);
        for page in (0..RAM).step_by(PAGE as usize) {
            g.page(page, Access::All)?;
        }
        Ok(g)
    }

    /// What access to its state came to.
    fn outside(&self, what: &str, got: Result<(), Status>) -> Outcome {
        match got {
            Err(Status::BadCpu) if self.cpu != crate::scene::cpu() => {
                Err(Why::NotHere("the state can be had on the CPU of the virtual CPU only".into()))
            }
            Ok(()) if self.cpu == crate::scene::cpu() => Ok(()),
            other => Err(Why::Failed(format!("{what}: {other:?}"))),
        }
    }

    fn at(&self, gpa: u64) -> *mut u8 {
        assert!(gpa < RAM, "the guest has no memory at {gpa:#x}");
        std::ptr::with_exposed_provenance_mut((self.ram + gpa) as usize)
    }
}

impl Vm for Guest {
    fn run(&mut self, reply: Mtd, state: &mut ArchState) -> Result<u64, String> {
        if self.started {
            *self.exchange.message.lock().expect("message") = (0, *state, reply);
            self.exchange.answered.up();
        } else {
            self.started = true;
            said("start", self.vcpu.start(1))?;
        }
        if !self.exchange.came.down_until(in_ms(PATIENCE_MS)) {
            return Err(format!("no event within {} s", PATIENCE_MS / 1000));
        }
        let number;
        (number, *state, _) = *self.exchange.message.lock().expect("message");
        Ok(number)
    }

    fn recall(&mut self) -> Result<(), String> {
        said("recall", self.vcpu.recall())
    }

    fn get(&mut self, mtd: Mtd, state: &mut ArchState) -> Outcome {
        *rt::utcb().arch_mut() = *state;
        let got = hc::get_state(self.vcpu.sel(), mtd);
        self.outside("get_state", got)?;
        *state = *rt::utcb().arch();
        Ok(())
    }

    fn set(&mut self, mtd: Mtd, state: &ArchState) -> Outcome {
        *rt::utcb().arch_mut() = *state;
        // SAFETY: a virtual CPU.
        let got = unsafe { hc::set_state(self.vcpu.sel(), mtd) };
        self.outside("set_state", got)
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) {
        for (i, b) in bytes.iter().enumerate() {
            // SAFETY: inside the guest's RAM, to which there are no references.
            unsafe { self.at(gpa + i as u64).write_volatile(*b) };
        }
    }

    fn read(&self, gpa: u64, bytes: &mut [u8]) {
        for (i, b) in bytes.iter_mut().enumerate() {
            // SAFETY: as above.
            *b = unsafe { self.at(gpa + i as u64).read_volatile() };
        }
    }

    fn page(&mut self, gpa: u64, access: Access) -> Result<(), String> {
        let perms = match access {
            Access::Nothing => return said("unmap", self.space.unmap(gpa, PAGE)),
            Access::Read => perm::Mem::R,
            Access::ReadWrite => perm::Mem::R | perm::Mem::W,
            Access::All => perm::Mem::all(),
        };
        // SAFETY: memory that is never given back, and only accessed volatile.
        said("map", unsafe { self.space.map(gpa, self.at(gpa), PAGE, perms) })
    }

    fn grant_port(&mut self, port: u16) -> Result<(), String> {
        if rt::rom(parent::CONFIG_ROM).is_some_and(|c| String::from_utf8_lossy(c).contains("ports = false")) {
            return Err("the component has no ports to grant".into());
        }
        let ports = rt::hw::guest_ports(port, port, &self.pio);
        self.ports = Some(ports.map_err(|e| format!("the component has no port {port:#x} to grant: {e}"))?);
        Ok(())
    }

    fn grant_msr(&mut self, _: u32) -> Result<(), String> {
        Err("the root task gives components no MSRs to grant".into())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.exchange.over.store(true, SeqCst);
        self.exchange.answered.up();
        let _ = self.vcpu.recall();
        // A guest that does not stop keeps its memory.
        if !self.started || self.exchange.gone.down_until(in_ms(PATIENCE_MS)) {
            self.spare.lock().expect("spare RAM").push(self.ram);
        }
        (0..EVENTS).for_each(|n| rt::sel::free(self.base + n));
    }
}
