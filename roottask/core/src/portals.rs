//! The portals of components, CPU by CPU.
//!
//! A portal can be used on the CPU of the thread behind it only (2.2.3, 5.2.1), so there is a handler on each CPU where a
//! component has threads, and each component has portals to those on its CPUs. Both are made when a component gets its
//! first EC on a CPU: on a machine with many CPUs most components use few.
//!
//! Key type: [`Portals`]. What the handlers do is in `handler`.

use crate::dataspaces::Memory;
use crate::devices::Devices;
use crate::handler::{self, Portal};
use crate::helpers::Helpers;
use crate::hub::{Hub, Member};
use crate::log::Log;
use crate::pager::{Pager, Pagers};
use crate::shared::Shared;
use crate::space;
use abi::{Mtd, Sel, Status, Utcb, event, perm};
use dataspace::{Component, Waiter};
use parent::sel;
use rt::{PortalThread, hypercall};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Stack of a thread that serves the portals of components.
const HANDLER_STACK: usize = 64 << 10;
/// Selectors for the portals of one component on one CPU, rounded up so that one `ctrl_pd` call moves the exceptions.
const PORTALS: u64 = 64;
/// Events of a host thread.
const EVENTS: u64 = event::HST_ARCH + event::HST_NOVA;

/// The handlers, by CPU.
pub struct Portals {
    /// The components.
    pub shared: Arc<Shared>,
    /// Where their lines go.
    pub log: Log,
    /// The parent of all components.
    pub hub: &'static Hub,
    /// Who helps the handlers.
    pub helpers: Helpers,
    /// What they share.
    pub memory: &'static Memory,
    /// What they have of the machine.
    pub devices: &'static Devices,
    /// Who waits for them.
    pub pagers: Pagers,
    threads: Mutex<BTreeMap<u16, PortalThread>>,
    /// Portals of the handlers, by CPU, for pagers.
    looks: Mutex<BTreeMap<u16, Sel>>,
}

impl Portals {
    /// Without handlers. They live as long as the root task, and so does this.
    pub fn new(
        shared: Arc<Shared>,
        log: Log,
        hub: &'static Hub,
        memory: &'static Memory,
        devices: &'static Devices,
    ) -> &'static Portals {
        let (helpers, pagers, threads, looks) = Default::default();
        Box::leak(Box::new(Portals { shared, log, hub, helpers, memory, devices, pagers, threads, looks }))
    }

    /// Gives the component with this object space its portals on `cpu`, and its parent. Once only.
    pub fn give(&'static self, member: &Arc<Member>, obj: Sel, cpu: u16) -> Result<(), Status> {
        let desk = self.hub.desk(member, cpu, &self.helpers)?;
        space::give(obj, desk, sel::sessions(cpu), perm::Pt::CALL.bits())?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = match threads.get(&cpu) {
            Some(thread) => thread,
            None => {
                let handler = Box::new(move |pid, mtd, utcb: &mut Utcb| handler::handle(self, pid, mtd, utcb));
                let thread = PortalThread::new(cpu, HANDLER_STACK, handler)?;
                let flush = space::free_selector()?;
                thread.portal(flush, Portal::Flush.identifier(0), 0)?;
                let call = move || _ = hypercall::ipc_call(flush, Mtd::words(0), false);
                self.helpers.start(cpu, call)?;
                threads.entry(cpu).or_insert(thread)
            }
        };
        let base = rt::sel::alloc_range(PORTALS, PORTALS).ok_or(Status::MemCap)?;
        let given = give_from(thread, member.index, obj, cpu, base);
        // Theirs stay: what they hold keeps the portals alive.
        rt::sel::free_range(base, PORTALS);
        given
    }
}

impl Portals {
    /// A thread that waits for a component, with that index and object space, on `cpu`, from the handler there.
    pub fn give_pager(&self, index: usize, component: Component, obj: Sel, cpu: u16) -> Result<(), Status> {
        let pager: Arc<Pager> = self.pagers.give(index, component, obj, cpu, self.look(cpu)?)?;
        self.memory.waits(Waiter { component, cpu }, pager);
        Ok(())
    }

    fn look(&self, cpu: u16) -> Result<Sel, Status> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&look) = looks.get(&cpu) {
            return Ok(look);
        }
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let look = space::free_selector()?;
        threads.get(&cpu).ok_or(Status::BadCpu)?.portal(look, Portal::Look.identifier(0), 0)?;
        looks.insert(cpu, look);
        Ok(look)
    }
}

fn give_from(thread: &PortalThread, index: usize, obj: Sel, cpu: u16, base: Sel) -> Result<(), Status> {
    let portal = |at, p: Portal| thread.portal(at, p.identifier(index), p.mtd().bits());
    (0..EVENTS).try_for_each(|n| portal(base + n, Portal::Event(n)))?;
    space::give_range(obj, base, sel::events(cpu), EVENTS, perm::Pt::EVENT.bits())?;
    portal(base + EVENTS, Portal::Call)?;
    space::give(obj, base + EVENTS, sel::parent(cpu), perm::Pt::CALL.bits())
}
