//! The root task's own services: who makes the object of a session.
//!
//! An object lives at the entry point on its client's first CPU. Making one is short, and so are its methods.
//!
//! Key types: [`Own`], [`Kept`].

use crate::dataspaces::Memory;
use crate::hub::{Hub, Member};
use crate::memory::Virtual;
use crate::rom::Modules;
use crate::timer::{self, Clock};
use crate::watch::{self, Watch};
use abi::Sel;
use parent::Name;
use policy::Module;
use rpc::{Cap, Interface, Serves, Table};
use rt::rpc::{Entrypoint, Held, Managed};
use services::parent::{AnyObject, Request as Wire};
use services::{RomServer, Timer, TimerServer, Trace, TraceServer, VmServer};
use session::{Label, Quota, Request, Response};
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// What keeps the capability of a session.
pub enum Kept {
    /// An object of ours.
    Made(Cap<AnyObject>, #[expect(dead_code, reason = "it is dissolved when it goes")] Box<dyn Any + Send + Sync>),
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
            Kept::Made(cap, _) => *cap,
            Kept::Handed(held) => **held,
        }
    }

    fn made<I: Interface + ?Sized + 'static>(object: Managed<I>) -> Kept {
        Kept::Made(Cap::from_sel(object.cap().sel()), Box::new(object))
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
        Ok(Own { clock, cpus, modules, memory: OnceLock::new() })
    }

    /// Where the memory of components is; told once.
    pub fn set_memory(&self, memory: &'static Memory) {
        let _ = self.memory.set(memory);
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
        let table: &'static Table = I::TABLE;
        table.admits(self.request.built).map_err(|_| Response::Incompatible(table.built.version.number()))?;
        let cost = Quota::new(table.cost.ram, table.cost.caps.into()).unwrap_or_default();
        let donated = session::wire::quota(self.request.donation).unwrap_or_default();
        if let Some(shortage) = donated.lacks(cost) {
            return Err(Response::Short(shortage));
        }
        self.point.manage(make()?).map(Kept::made).map_err(|_| Response::Denied)
    }
}
