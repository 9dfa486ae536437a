//! The sessions of [`crate::dataspaces`]: what components call.
//!
//! Key types: [`Domain`], [`Region`], [`Object`], [`Virtual`].

use crate::dataspaces::{Failed, GuestMemory, Memory};
use abi::perm::Mem;
use dataspace::{
    Attach, AttachError, Component, CreateError, DataspaceId, Kind, MAX_DATASPACES, MAX_DEPTH, MAX_GUESTS, MAX_MAPS,
    MAX_NESTED, MAX_PLACES, MAX_REGIONS, MAX_USERS, MapId,
};
use rpc::{Cap, Signal};
use rt::rpc::Entrypoint;
use services::pd::{Account, NoQuota, NoQuotaReason as Short, NotYours};
use services::rm::{Access, Attr, Created, Fault, NotAttached, NotAttachedReason as Why, NotThere};
use services::vm::GuestSpace;
use services::{Dataspace, Pd, Rm, Vm};
use session::{BookError, Shortage};

/// A dataspace, for whoever has a capability to it.
pub struct Object {
    /// All of them.
    pub memory: &'static Memory,
    /// Which.
    pub id: DataspaceId,
}

impl Dataspace for Object {
    fn size(&mut self) -> u64 {
        self.memory.view(self.id).map_or(0, |v| v.size)
    }

    fn writeable(&mut self) -> bool {
        self.memory.view(self.id).is_some_and(|v| v.writable)
    }

    fn kind(&mut self) -> services::dataspace::Kind {
        match self.memory.view(self.id).map(|v| v.kind) {
            Some(Kind::Rom) => services::dataspace::Kind::Rom,
            Some(Kind::Device) => services::dataspace::Kind::Device,
            Some(Kind::Managed) => services::dataspace::Kind::Managed,
            // One that is gone is not called any more.
            Some(Kind::Ram) | None => services::dataspace::Kind::Ram,
        }
    }
}

/// A component's protection domain.
pub struct Domain {
    /// Where its RAM comes from.
    pub memory: &'static Memory,
    /// Whose.
    pub component: Component,
    /// Where its objects live.
    pub point: Entrypoint,
}

/// The figures of a refusal.
fn short(memory: &Memory, component: Component, failed: Failed, size: u64, caps: u64) -> NoQuota {
    let free = memory.account(component).map(|a| a.free()).unwrap_or_default();
    let (why, asked, free) = match failed {
        Failed::Size | Failed::Refused(CreateError::Size(_)) => (Short::Size, size, 0),
        Failed::Quota(BookError::Short(Shortage::Ram)) => (Short::Ram, size, free.ram()),
        Failed::Quota(BookError::Short(Shortage::Caps)) => (Short::Caps, caps, free.caps()),
        Failed::Quota(_) | Failed::Refused(CreateError::Ended) => (Short::Ended, size, 0),
        Failed::Machine(free) => (Short::Machine, size, free),
        Failed::Refused(CreateError::Dataspaces) => (Short::TooMany, 1, MAX_DATASPACES as u64),
        Failed::Refused(CreateError::Maps) => (Short::TooMany, 1, MAX_MAPS as u64),
        Failed::Refused(CreateError::Guests) => (Short::TooMany, 1, MAX_GUESTS as u64),
    };
    NoQuota { why, asked, free }
}

impl Pd for Domain {
    fn alloc(&mut self, size: u64) -> Result<Cap<dyn Dataspace>, NoQuota> {
        let made = self.memory.ram(self.component, size, self.point);
        made.map_err(|failed| short(self.memory, self.component, failed, size, 1))
    }

    fn free(&mut self, dataspace: Cap<dyn Dataspace>) -> Result<(), NotYours> {
        if self.memory.give_up(self.component, dataspace, false) { Ok(()) } else { Err(NotYours::NotYours) }
    }

    fn withdraw(&mut self, dataspace: Cap<dyn Dataspace>) -> Result<(), NotYours> {
        if self.memory.give_up(self.component, dataspace, true) { Ok(()) } else { Err(NotYours::NotYours) }
    }

    fn ram(&mut self) -> Account {
        let a = self.memory.account(self.component);
        let [limit, used, peak] = a.map(|a| [a.limit, a.used, a.peak.used].map(|q| q.ram())).unwrap_or_default();
        Account { limit, used, peak }
    }

    fn caps(&mut self) -> Account {
        let a = self.memory.account(self.component);
        let [limit, used, peak] = a.map(|a| [a.limit, a.used, a.peak.used].map(|q| q.caps())).unwrap_or_default();
        Account { limit, used, peak }
    }
}

/// A region map.
pub struct Region {
    /// What can be attached.
    pub memory: &'static Memory,
    /// Whose.
    pub component: Component,
    /// Which.
    pub map: MapId,
    /// Where its objects live.
    pub point: Entrypoint,
}

fn not_attached(error: Option<AttachError>) -> NotAttached {
    let (why, value, end) = match error {
        None => (Why::KernelMemory, 0, 0),
        Some(AttachError::NoMap) => (Why::NoMap, 0, 0),
        Some(AttachError::NoDataspace) => (Why::NoDataspace, 0, 0),
        Some(AttachError::Pages { value, .. }) => (Why::Pages, value, 0),
        Some(AttachError::Range { size, .. }) => (Why::Range, size, 0),
        Some(AttachError::Outside { start, end, .. }) => (Why::Outside, start, end),
        Some(AttachError::Taken { start, end }) => (Why::Taken, start, end),
        Some(AttachError::NoHole(len)) => (Why::NoHole, len, 0),
        Some(AttachError::Rights(_)) => (Why::ReadOnly, 0, 0),
        Some(AttachError::WriteExecute) => (Why::WriteExecute, 0, 0),
        Some(AttachError::Managed) => (Why::Managed, 0, 0),
        Some(AttachError::Cycle) => (Why::Cycle, 0, 0),
        Some(AttachError::Depth) => (Why::Depth, MAX_DEPTH as u64, 0),
        Some(AttachError::Nested) => (Why::Nested, MAX_NESTED as u64, 0),
        Some(AttachError::Device) => (Why::Device, 0, 0),
        Some(AttachError::Places) => (Why::Places, MAX_PLACES as u64, 0),
        Some(AttachError::Regions) => (Why::Regions, MAX_REGIONS as u64, 0),
        Some(AttachError::Users) => (Why::Users, MAX_USERS as u64, 0),
    };
    NotAttached { why, value, end }
}

fn how(dataspace: DataspaceId, attr: Attr) -> Attach {
    Attach {
        dataspace,
        offset: attr.offset,
        len: (attr.size != 0).then_some(attr.size),
        at: attr.use_at.then_some(attr.at),
        write: attr.writeable,
        execute: attr.executable,
    }
}

impl Rm for Region {
    fn attach(&mut self, dataspace: Cap<dyn Dataspace>, attr: Attr) -> Result<u64, NotAttached> {
        self.memory.attach(self.map, dataspace, |dataspace| how(dataspace, attr)).map_err(not_attached)
    }

    fn detach(&mut self, at: u64) -> Result<(), NotThere> {
        if self.memory.detach(self.map, at) { Ok(()) } else { Err(NotThere::NotThere) }
    }

    fn create(&mut self, size: u64) -> Result<Created, NoQuota> {
        let made = self.memory.managed(self.component, size, self.point);
        made.map_err(|failed| short(self.memory, self.component, failed, size, 2))
    }

    fn fault_handler(&mut self, signal: Signal) {
        self.memory.handle(self.map, signal);
    }

    fn state(&mut self) -> Option<Fault> {
        let fault = self.memory.next_fault(self.map)?;
        let access = match fault.access {
            Mem::W => Access::Write,
            Mem::XU => Access::Execute,
            _ => Access::Read,
        };
        Some(Fault { offset: fault.offset, access })
    }

    fn refuse(&mut self, offset: u64) -> Result<(), NotThere> {
        if self.memory.refuse(self.map, offset) { Ok(()) } else { Err(NotThere::NotThere) }
    }

    fn stream(&mut self, at: u64, log: bool, wake: Signal) -> Result<(), NotThere> {
        let known = self.memory.stream(self.component, self.map, at, log, wake);
        if known { Ok(()) } else { Err(NotThere::NotThere) }
    }
}

/// A guest of a component.
pub struct Virtual(pub GuestMemory);

impl Vm for Virtual {
    fn space(&mut self) -> GuestSpace {
        GuestSpace(self.0.space())
    }

    fn attach(&mut self, dataspace: Cap<dyn Dataspace>, attr: Attr) -> Result<(), NotAttached> {
        let attr = attr.at(attr.at);
        let attached = self.0.memory().attach(self.0.map(), dataspace, |dataspace| how(dataspace, attr));
        attached.map(drop).map_err(not_attached)
    }

    fn detach(&mut self, at: u64) -> Result<(), NotThere> {
        if self.0.memory().detach(self.0.map(), at) { Ok(()) } else { Err(NotThere::NotThere) }
    }
}
