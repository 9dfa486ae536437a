//! The root task's own services: who makes the object of a session.
//!
//! An object lives at the entry point on its client's first CPU. Making one is short, and so are its methods.
//!
//! Key types: [`Own`], [`Kept`].

use crate::hub::{Hub, Member};
use crate::timer::{self, Clock};
use crate::watch::{self, Watch};
use abi::Sel;
use parent::Name;
use rpc::{Cap, Interface, Serves, Table};
use rt::rpc::{Entrypoint, Held, Managed};
use services::parent::{AnyObject, Request as Wire};
use services::{Timer, TimerServer, Trace, TraceServer};
use session::{Quota, Request, Response};
use std::any::Any;
use std::sync::Arc;

/// What keeps the capability of a session.
pub enum Kept {
    /// An object of ours.
    Made(Cap<AnyObject>, #[expect(dead_code, reason = "it is dissolved when it goes")] Box<dyn Any + Send + Sync>),
    /// One that a server has handed over.
    Handed(Held<Cap<AnyObject>>),
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
}

/// What a session is made for.
struct Making<'a> {
    point: Entrypoint,
    request: Wire,
    #[expect(dead_code, reason = "services that keep something on the client's account need it")]
    client: &'a Member,
}

impl Own {
    /// With the threads that they need, on a machine with so many CPUs.
    pub fn start(cpus: u16) -> std::io::Result<Own> {
        Ok(Own { clock: Clock::start()?, cpus: watch::idle_scs(cpus) })
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
            "trace" => Some(making.object::<dyn Trace, _>(|| TraceServer(Watch { hub, cpus: self.cpus.clone() }))),
            _ => None,
        }
    }
}

impl Making<'_> {
    /// The object that `make` makes, for a client of a version that is served and has donated enough.
    fn object<I, S>(self, make: impl FnOnce() -> S) -> Result<Kept, Response>
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
        self.point.manage(make()).map(Kept::made).map_err(|_| Response::Denied)
    }
}
