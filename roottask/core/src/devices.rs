//! Devices by sessions: ports, interrupts and memory of devices. What may be had, and who has it, `core_task_logic::claims`
//! decides; here it is given and taken back.
//!
//! A session is of whoever asked for it, an init perhaps; ports and interrupts are given to a component by its protection domain
//! (docs/design/0022).
//!
//! Key types: [`Devices`]; [`Ports`], [`Interrupt`], [`DeviceMemory`], what sessions have; [`lend`], for their objects.

use crate::console;
use crate::dataspaces::{Failed, Memory, Shown};
use crate::hub::Member;
use crate::log::Log;
use crate::shared::{Order, Shared};
use crate::space::{self, Nova};
use abi::{Sel, Status, nova_obj, perm};
use core_task_logic::acpi::Overrides;
use core_task_logic::claims::{Claim, Claims, Device, Kept, NoDevice, Rights};
use init::{MemRange, PortRange};
use policy::{ComponentPlan, PhysRange};
use rpc::{Cap, Space};
use rt::hypercall::{self, int_flags};
use rt::rpc::{Entrypoint, Held};
use services::device::{self, NotGiven};
use services::{Dataspace, IoMem, IoPort, Irq, Pd};
use session::Label;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zerocopy::FromBytes;

/// COM1, which the root task has meanwhile.
const CONSOLE: Device = Device::Ports(console::PORTS);

/// A component that runs.
struct Home {
    member: Arc<Member>,
    obj: Sel,
    pio: Sel,
    rights: Rights,
}

struct State {
    claims: Claims,
    /// By the numbers of components.
    homes: BTreeMap<usize, Home>,
    /// Interrupts that sessions have given, by their semaphores: to whom.
    unmasked: BTreeMap<Sel, usize>,
}

impl State {
    /// Where that life of a component is, if it still runs.
    fn home(&self, member: &Arc<Member>) -> Option<&Home> {
        self.homes.get(&member.index).filter(|home| Arc::ptr_eq(&home.member, member))
    }
}

/// All of them.
pub struct Devices {
    nova: Nova,
    overrides: Overrides,
    memory: &'static Memory,
    log: Log,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// What a component may have, by its plan.
fn rights(c: &ComponentPlan) -> Rights {
    let ComponentPlan { io_ports, irqs, io_mem, .. } = c;
    Rights { ports: io_ports.clone(), irqs: irqs.clone(), memory: io_mem.clone() }
}

fn kernel(device: Device, what: &str, status: Status) -> NoDevice {
    NoDevice::Kernel { device, what: format!("{what}: {status}") }
}

impl Devices {
    /// With pins as firmware says, and memory that no component can have; the log writes to COM1 as long as nobody has it. It
    /// lives as long as the root task.
    pub fn new(
        nova: Nova,
        overrides: Overrides,
        kept: Vec<Kept>,
        memory: &'static Memory,
        (log, shared): (Log, Arc<Shared>),
    ) -> &'static Devices {
        let (homes, unmasked) = Default::default();
        let state = Mutex::new(State { claims: Claims::new(kept), homes, unmasked });
        Box::leak(Box::new(Devices { nova, overrides, memory, log, shared, state }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spaces of a component are there.
    pub fn begin(&self, member: &Arc<Member>, c: &ComponentPlan, obj: Sel, pio: Sel) {
        let home = Home { member: Arc::clone(member), obj, pio, rights: rights(c) };
        self.state().homes.insert(member.index, home);
    }

    /// It is about to be destroyed: its spaces are not touched any more, and interrupts that it had by sessions are silent.
    pub fn leave(&self, index: usize) {
        let mut state = self.state();
        state.homes.remove(&index);
        state.unmasked.retain(|&sm, &mut to| {
            if to == index {
                mask(sm);
            }
            to != index
        });
    }

    /// Where nobody has COM1 the root task's own lines go there, unless that is `awaited` and a provider of the log has them till
    /// then. Nobody can open it meanwhile.
    pub fn watch_console(&self, awaited: bool) {
        let state = self.state();
        let waits = awaited && self.log.has_provider();
        if !state.claims.has(CONSOLE) && !waits {
            self.log.use_console();
        }
    }

    /// Claims a device for a session of that life.
    fn claim(&'static self, client: &Member, label: &Label, device: Device) -> Result<Claimed, NoDevice> {
        let mut state = self.state();
        let State { claims, homes, .. } = &mut *state;
        let none = Rights::default();
        let rights = homes.get(&client.index).map_or(&none, |home| &home.rights);
        let claim = claims.open(label.as_str(), rights, device)?;
        drop(state);
        let claimed = Claimed { devices: self, claim, device };
        if device.overlaps(CONSOLE) && self.log.release_console() {
            self.shared.order(vec![Order::AskLog]);
        }
        Ok(claimed)
    }

    /// Ports.
    pub fn ports(&'static self, client: &Member, label: &Label, args: &[u8]) -> Result<Ports, NoDevice> {
        let device::Ports { first, last } = read(args)?;
        let range = Some(PortRange { first, last }).filter(|r| r.first <= r.last).ok_or(NoDevice::Arguments)?;
        Ok(Ports { claimed: self.claim(client, label, Device::Ports(range))?, range, given: None })
    }

    /// An interrupt.
    pub fn irq(&'static self, client: &Member, label: &Label, args: &[u8]) -> Result<Interrupt, NoDevice> {
        let device::Pin { gsi } = read(args)?;
        let claimed = self.claim(client, label, Device::Irq(gsi))?;
        let perms = perm::Sm::ASSIGN | perm::Sm::CTRL_DN;
        let sm = space::take(nova_obj::INT_BASE + u64::from(gsi), perms.bits());
        let sm = sm.map_err(|e| kernel(claimed.device, "give its semaphore", e))?;
        Ok(Interrupt { claimed, gsi, sm, given: None })
    }

    /// Memory of a device, as a dataspace at that entry point.
    pub fn memory(
        &'static self,
        client: &Member,
        label: &Label,
        args: &[u8],
        point: Entrypoint,
    ) -> Result<DeviceMemory, NoDevice> {
        let device::Memory { first, last } = read(args)?;
        let range = MemRange::new(first, last).ok_or(NoDevice::Arguments)?;
        let claimed = self.claim(client, label, Device::Memory(range))?;
        let frames = PhysRange { start: range.first, end: range.last + 1 };
        let shown = self.memory.device(client, frames, point);
        let shown = shown.map_err(|e: Failed| NoDevice::Kernel {
            device: claimed.device,
            what: format!("make a dataspace of it: {e:?}"),
        })?;
        Ok(DeviceMemory { shown, _claimed: claimed })
    }

    /// Has the pin with that semaphore interrupt a CPU, as the firmware says that it does.
    fn assign(&self, sm: Sel, gsi: u32, cpu: u16) -> Result<(), Status> {
        let pin = self.overrides.pin(gsi);
        let flags = if pin.level { int_flags::LEVEL } else { 0 } | if pin.low { int_flags::LOW } else { 0 };
        hypercall::assign_int(sm, cpu, 0, flags).map(drop)
    }

    /// The component that has this as its protection domain.
    fn owner(&self, pd: Cap<dyn Pd>) -> Result<Arc<Member>, NotGiven> {
        self.memory.owner(pd).ok_or(NotGiven::Nobody)
    }
}

fn read<T: FromBytes>(args: &[u8]) -> Result<T, NoDevice> {
    T::read_from_bytes(args).map_err(|_| NoDevice::Arguments)
}

fn mask(sm: Sel) {
    let _ = hypercall::assign_int(sm, 0, 0, int_flags::MASKED);
}

/// A device of a session, until this value goes.
struct Claimed {
    devices: &'static Devices,
    claim: Claim,
    device: Device,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.devices.state().claims.close(self.claim);
        if self.device.overlaps(CONSOLE) {
            self.devices.shared.order(vec![Order::ConsoleFree]);
        }
    }
}

/// What a session has, for its object.
pub struct Lent<T>(Arc<Mutex<Option<T>>>);

/// What a session has, for its end: when this value goes it is taken back, whenever the object goes.
pub struct Loan<T>(Arc<Mutex<Option<T>>>);

/// For a session.
pub fn lend<T>(what: T) -> (Lent<T>, Loan<T>) {
    let what = Arc::new(Mutex::new(Some(what)));
    (Lent(Arc::clone(&what)), Loan(what))
}

impl<T> Lent<T> {
    /// `None`: the session is over.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(f)
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Who has ports.
enum Place {
    Component(Arc<Member>),
    /// A guest, in its PIO space.
    Guest(Held<Space>),
}

/// What a session of ports has.
pub struct Ports {
    claimed: Claimed,
    range: PortRange,
    /// Who has them.
    given: Option<Place>,
}

impl Ports {
    /// Nobody has them any more.
    fn take(&mut self) {
        let devices = self.claimed.devices;
        // Fails only for want of memory, of which taking needs none, or if the space is no more.
        let take = |pio| devices.nova.take_ports(pio, self.range.first, self.range.count());
        match self.given.take() {
            Some(Place::Component(member)) => _ = devices.state().home(&member).map(|home| take(home.pio)),
            Some(Place::Guest(space)) => _ = take(space.0),
            None => {}
        }
    }

    fn give(&mut self, to: Cap<dyn Pd>) -> Result<(), NotGiven> {
        let devices = self.claimed.devices;
        let member = devices.owner(to)?;
        self.take();
        let state = devices.state();
        let home = state.home(&member).ok_or(NotGiven::Nobody)?;
        home.rights.admit(self.claimed.device).map_err(|_| NotGiven::Denied)?;
        let given = devices.nova.give_ports(home.pio, self.range.first, self.range.count());
        drop(state);
        self.given = Some(Place::Component(member));
        // Perhaps a part of them.
        given.inspect_err(|_| self.take()).map_err(|_| NotGiven::Kernel)
    }

    fn give_guest(&mut self, space: Space) -> Result<(), NotGiven> {
        let devices = self.claimed.devices;
        // What is a component's own is given by its protection domain.
        let own = |home: &Home| home.pio == space.0;
        if space.0 == devices.nova.own_pio || devices.state().homes.values().any(own) {
            return Err(NotGiven::Nobody);
        }
        self.take();
        let space = Held::keep(space);
        let given = devices.nova.give_ports(space.0, self.range.first, self.range.count());
        self.given = Some(Place::Guest(space));
        given.inspect_err(|_| self.take()).map_err(|_| NotGiven::Kernel)
    }
}

impl IoPort for Lent<Ports> {
    fn give(&mut self, to: Cap<dyn Pd>) -> Result<(), NotGiven> {
        self.with(|ports| ports.give(to)).unwrap_or(Err(NotGiven::Nobody))
    }
    fn give_guest(&mut self, space: Space) -> Result<(), NotGiven> {
        self.with(|ports| ports.give_guest(space)).unwrap_or(Err(NotGiven::Nobody))
    }
    fn take_back(&mut self) {
        self.with(Ports::take);
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.take();
    }
}

/// What a session of an interrupt has.
pub struct Interrupt {
    claimed: Claimed,
    gsi: u32,
    /// Its semaphore.
    sm: Sel,
    /// Who has it, and where.
    given: Option<(Arc<Member>, Sel)>,
}

impl Interrupt {
    /// It is silent, and nobody has it any more.
    fn take(&mut self) {
        let mut state = self.claimed.devices.state();
        let Some((member, at)) = self.given.take() else { return };
        if state.unmasked.remove(&self.sm).is_some() {
            mask(self.sm);
        }
        if let Some(home) = state.home(&member) {
            // Fails only for want of memory, of which taking needs none.
            let _ = space::give(home.obj, self.sm, at, 0);
        }
    }

    fn give(&mut self, to: Cap<dyn Pd>, at: u64) -> Result<(), NotGiven> {
        let devices = self.claimed.devices;
        let member = devices.owner(to)?;
        self.take();
        let mut state = devices.state();
        let home = state.home(&member).ok_or(NotGiven::Nobody)?;
        home.rights.admit(self.claimed.device).map_err(|_| NotGiven::Denied)?;
        space::give(home.obj, self.sm, at, perm::Sm::CTRL_DN.bits()).map_err(|_| NotGiven::Kernel)?;
        // What came for who had it before, taken where it is routed to.
        let _ = hypercall::assign_int(self.sm, rt::thread::cpu(), 0, int_flags::MASKED);
        let _ = hypercall::sm_down(self.sm, true, Some(0));
        state.unmasked.insert(self.sm, member.index);
        let assigned = devices.assign(self.sm, self.gsi, member.cpu);
        drop(state);
        self.given = Some((member, at));
        assigned.inspect_err(|_| self.take()).map_err(|_| NotGiven::Kernel)
    }
}

impl Irq for Lent<Interrupt> {
    fn give(&mut self, to: Cap<dyn Pd>, at: u64) -> Result<(), NotGiven> {
        self.with(|interrupt| interrupt.give(to, at)).unwrap_or(Err(NotGiven::Nobody))
    }
    fn take_back(&mut self) {
        self.with(Interrupt::take);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.take();
        rt::sel::free(self.sm);
    }
}

/// What a session of a device's memory has, for its end.
pub struct DeviceMemory {
    // First, so that it is withdrawn before somebody else can have it.
    shown: Shown,
    _claimed: Claimed,
}

impl DeviceMemory {
    /// The session's object.
    pub fn object(&self) -> Shows {
        Shows(self.shown.cap)
    }
}

/// A session of a device's memory, as long as there is one.
pub struct Shows(Cap<dyn Dataspace>);

impl IoMem for Shows {
    fn dataspace(&mut self) -> Cap<dyn Dataspace> {
        self.0
    }
}
