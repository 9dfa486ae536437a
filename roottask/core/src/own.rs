//! The root task's own services: who makes the object of a session.
//!
//! An object lives at the entry point on its client's first CPU. Making one is short, and so are its methods.
//!
//! Key types: [`Own`], [`Kept`].

use crate::dataspaces::Memory;
use crate::devices::{Devices, lend};
use crate::hub::{Hub, Member};
use crate::memory::Virtual;
use crate::rom::Modules;
use crate::timer::{self, Clock};
use crate::watch::{self, Watch};
use abi::Sel;
use core_task_logic::claims::NoDevice;
use parent::Name;
use policy::Module;
use rpc::{Cap, Interface, Serves, Table};
use rt::rpc::{Entrypoint, Held, Managed};
use services::parent::{AnyObject, Request as Wire};
use services::{IoMemServer, IoPortServer, IrqServer, RomServer, Timer, TimerServer, Trace, TraceServer, VmServer};
use session::{Label, Quota, Request, Response};
use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What keeps the capability of a session.
pub enum Kept {
    /// An object of ours, and what is to go when the session is over.
    Made(
        Cap<AnyObject>,
        #[expect(dead_code, reason = "it is dissolved when it goes")] Box<dyn Any + Send + Sync>,
        Mutex<Option<Box<dyn Any + Send>>>,
    ),
    /// One that a server has handed over.
    Handed(Held<Cap<AnyObject>>),
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cap().fmt(f)
    }
}

impl Kept {
    /// The capability.
    pub fn cap(&self) -> Cap<AnyObject> {
        match self {
            Kept::Made(cap, ..) => *cap,
            Kept::Handed(held) => **held,
        }
    }

    fn made<I: Interface + ?Sized + 'static>(object: Managed<I>, end: impl Any + Send) -> Kept {
        Kept::Made(Cap::from_sel(object.cap().sel()), Box::new(object), Mutex::new(Some(Box::new(end))))
    }

    /// The session is over. An answer that is on its way may still keep the object, and its entry point drops it when it gets to it.
    pub fn end(&self) {
        if let Kept::Made(.., end) = self {
            let end = end.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(end);
        }
    }
}

/// The services.
pub struct Own {
    clock: Arc<Clock>,
    /// Idle SCs of all CPUs.
    cpus: Arc<[Sel]>,
    modules: Modules,
    /// Before there is a client.
    memory: OnceLock<&'static Memory>,
    /// As above.
    devices: OnceLock<&'static Devices>,
}

/// What a session is made for.
struct Making<'a> {
    point: Entrypoint,
    request: Wire,
    client: &'a Member,
}

impl Own {
    /// With the threads that they need, on a machine with so many CPUs and with these boot modules.
    pub fn start(cpus: u16, modules: &[Module<'_>]) -> std::io::Result<Own> {
        let (clock, cpus, modules) = (Clock::start()?, watch::idle_scs(cpus), Modules::new(modules));
        Ok(Own { clock, cpus, modules, memory: OnceLock::new(), devices: OnceLock::new() })
    }

    /// Where the memory of components is, and who has devices; told once.
    pub fn reach(&self, memory: &'static Memory, devices: &'static Devices) {
        let _ = (self.memory.set(memory), self.devices.set(devices));
    }

    /// Their names.
    pub fn services(&self) -> Vec<Name> {
        init::CORE_SERVICES.iter().filter_map(|name| Name::new(name)).collect()
    }

    /// Makes the object of a session, or says why not. `None`: there is no such service.
    pub fn create(
        &self,
        request: &Request,
        point: Entrypoint,
        client: &Member,
        hub: &'static Hub,
    ) -> Option<Result<Kept, Response>> {
        let making = Making { point, request: request.into(), client };
        match request.service.as_str() {
            "timer" => Some(making.object::<dyn Timer, _>(|| TimerServer(timer::Session::new(&self.clock)))),
            "rom" => Some(making.rom(&request.label, self, hub)),
            "vm" => Some(making.vm(self, hub)),
            "io_port" | "irq" | "io_mem" => Some(making.device(request, self, hub)),
            "trace" => Some(making.object::<dyn Trace, _>(|| TraceServer(Watch { hub, cpus: self.cpus.clone() }))),
            _ => None,
        }
    }
}

impl Making<'_> {
    fn rom(self, label: &Label, own: &Own, hub: &Hub) -> Result<Kept, Response> {
        let (client, point) = (self.client, self.point);
        let memory = *own.memory.get().ok_or(Response::Denied)?;
        self.try_object(|| {
            let session = own.modules.open(label, memory, client, point);
            session.map(RomServer).map_err(|why| {
                hub.complain(client, format_args!("`rom` \"{label}\" is denied: {why}"));
                Response::Denied
            })
        })
    }

    fn vm(self, own: &Own, hub: &Hub) -> Result<Kept, Response> {
        let client = self.client;
        let memory = *own.memory.get().ok_or(Response::Denied)?;
        self.try_object(|| {
            memory.guest(client).map(|guest| VmServer(Virtual(guest))).map_err(|why| {
                hub.complain(client, format_args!("`vm` is denied: {why}"));
                Response::Denied
            })
        })
    }

    fn device(self, request: &Request, own: &Own, hub: &Hub) -> Result<Kept, Response> {
        let devices = *own.devices.get().ok_or(Response::Denied)?;
        let (client, point, label) = (self.client, self.point, &request.label);
        // Without what the client was built against, which travels behind them.
        let args = self.request.args;
        let args = args.as_slice();
        let denied = |why: NoDevice| {
            hub.complain(client, format_args!("`{}` \"{label}\" is denied: {why}", request.service));
            Response::Denied
        };
        match request.service.as_str() {
            "io_port" => self.ending(|| {
                let (object, end) = lend(devices.ports(client, label, args).map_err(denied)?);
                Ok((IoPortServer(object), end))
            }),
            "irq" => self.ending(|| {
                let (object, end) = lend(devices.irq(client, label, args).map_err(denied)?);
                Ok((IrqServer(object), end))
            }),
            _ => self.ending(|| {
                let memory = devices.memory(client, label, args, point).map_err(denied)?;
                Ok((IoMemServer(memory.object()), memory))
            }),
        }
    }

    /// The object that `make` makes, for a client of a version that is served and has donated enough.
    fn object<I, S>(self, make: impl FnOnce() -> S) -> Result<Kept, Response>
    where
        I: Interface + ?Sized + 'static,
        S: Serves<Interface = I> + Send + 'static,
    {
        self.try_object(|| Ok(make()))
    }

    /// The same, and `make` may refuse.
    fn try_object<I, S>(self, make: impl FnOnce() -> Result<S, Response>) -> Result<Kept, Response>
    where
        I: Interface + ?Sized + 'static,
        S: Serves<Interface = I> + Send + 'static,
    {
        self.ending(|| Ok((make()?, ())))
    }

    /// An object, and what goes when the session is over, whenever the object does.
    fn ending<I, S, E: Any + Send>(self, make: impl FnOnce() -> Result<(S, E), Response>) -> Result<Kept, Response>
    where
        I: Interface + ?Sized + 'static,
        S: Serves<Interface = I> + Send + 'static,
    {
        let table: &'static Table = I::TABLE;
        table.admits(self.request.built).map_err(|_| Response::Incompatible(table.built.version.number()))?;
        let cost = Quota::new(table.cost.ram, table.cost.caps.into()).unwrap_or_default();
        let donated = session::wire::quota(self.request.donation).unwrap_or_default();
        if let Some(shortage) = donated.lacks(cost) {
            return Err(Response::Short(shortage));
        }
        let (object, end) = make()?;
        self.point.manage(object).map(|object| Kept::made(object, end)).map_err(|_| Response::Denied)
    }
}
