//! Memory that components share, done: what `dataspace` decides is mapped and unmapped here, and paid.
//!
//! Each component has two objects from its start on, which live at an entry point on its first CPU: its protection domain,
//! with its quota for dataspaces, and its address space ([`crate::memory`]). What is mapped goes no further (X7 in
//! docs/design/0010), so what is unmapped in an address space is nowhere else. Frames go back when that is done. If it cannot
//! be done, as the component is about to end or has put something else there, they go back when its domain is destroyed.
//!
//! Rings of sessions (`services::stream`) outlive their servers as what is attached does. What their clients have said so of
//! breaks when the server is destroyed or has withdrawn it, and what was in there is not lost. Who looks at rings that were
//! withdrawn does not fault: they are his until he has seen that they are broken, if he can pay for them.
//!
//! Key types: [`Memory`]; [`Pinned`], what core itself has of a component's.

use crate::hub::{Hub, Member};
use crate::link::Ring;
use crate::memory::{Domain, Object, Region};
use crate::pager::{Answer, Pager};
use crate::shared::Objects;
use crate::space::{self, Guest, Nova};
use crate::window::Window;
use abi::perm::Mem;
use abi::{Mad, Sel, Status, perm};
use bytering::{cut_consumer, cut_producer};
use dataspace::{
    AttachError, Attached, Changes, Component, DataspaceId, Dataspaces, Fault, Kind, MapId, Mapped, Resolution, View,
    Waiter,
};
use parent::{layout, sel};
use policy::{Book, PhysRange};
use rpc::{Cap, Signal};
use rt::rpc::{Entrypoint, Held, Managed, raise};
use services::stream::RING_LEN;
use services::{Dataspace, DataspaceServer, Pd, PdServer, Rm, RmServer};
use session::{Account, BookError, Quota};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Guest-physical addresses: a guest space has no others.
const GUEST: Range<u64> = 0..1 << 48;

/// A component that runs.
struct Space {
    member: Arc<Member>,
    /// Its host space; `None`: it is about to be destroyed.
    hst: Option<Sel>,
    /// Its protection domain.
    pd: Sel,
    /// The memory of its guests.
    guests: BTreeMap<MapId, Guest>,
    /// They are dissolved when this goes.
    env: Option<(Managed<dyn Pd>, Managed<dyn Rm>)>,
}

impl Space {
    /// The space of the kernel's that something is mapped in.
    fn sel(&self, guest: Option<MapId>) -> Option<Sel> {
        let hst = self.hst?;
        match guest {
            None => Some(hst),
            Some(guest) => self.guests.get(&guest).map(Guest::sel),
        }
    }
}

/// What stands for a dataspace, and for the map that it is.
struct Made {
    dataspace: Managed<dyn Dataspace>,
    map: Option<(MapId, Managed<dyn Rm>)>,
}

struct State {
    dataspaces: Dataspaces<Component>,
    /// Frames that are free.
    frames: Book,
    spaces: BTreeMap<Component, Space>,
    /// Latest lives, by the number of the component.
    lives: BTreeMap<usize, Component>,
    /// Dataspaces by the selectors of their objects.
    known: BTreeMap<Sel, DataspaceId>,
    made: BTreeMap<DataspaceId, Made>,
    /// Who handles the faults of a map.
    signals: BTreeMap<MapId, Arc<Held<Signal>>>,
    /// The threads that wait for components.
    pagers: BTreeMap<Waiter, Arc<Pager>>,
    /// Who waited, and for what nothing will be attached.
    refused: BTreeSet<Waiter>,
    /// Rings of clients, by where they are attached.
    rings: BTreeMap<(MapId, u64), Rings>,
    /// Logs of clients that have ended, until their servers have given the rings up: whose, and where.
    logs: BTreeMap<DataspaceId, (String, PhysRange)>,
    /// Core's own, which maps nothing.
    pinned: BTreeSet<Component>,
    /// Frames that are perhaps still mapped by this component.
    limbo: Vec<(Component, PhysRange)>,
    next: u64,
}

/// All of it, behind one lock.
pub struct Memory {
    nova: Nova,
    window: &'static Window,
    state: Mutex<State>,
    hub: &'static Hub,
}

/// What becomes of a page fault.
pub enum Faulted {
    /// It is mapped: again.
    Again,
    /// It waits until the component's thread for that is woken.
    Waits(Component),
    /// The component has ended, or is about to.
    Ended,
    /// It is a fault of the component's, and why.
    Fault(String),
}

/// Rings that a component has attached, as a client.
struct Rings {
    component: Component,
    dataspace: DataspaceId,
    frames: PhysRange,
    /// Whose log it is; `None`: it is none.
    log: Option<String>,
    wake: Arc<Held<Signal>>,
}

/// What is left of a component that was destroyed.
#[derive(Default)]
pub struct Ended {
    /// Threads that waited for it.
    pub pagers: Vec<Arc<Pager>>,
    /// Lines that others, by their labels, have written for its log, and it has not taken.
    pub unread: Vec<(String, String)>,
}

/// Objects that are to go when no lock is held.
#[must_use]
#[derive(Default)]
pub struct Gone(Vec<Made>, Vec<Arc<Held<Signal>>>);

impl Memory {
    /// With these frames, which are in the window. It lives as long as the root task.
    pub fn new(nova: Nova, window: &'static Window, hub: &'static Hub, frames: Book) -> &'static Memory {
        let state = State {
            dataspaces: Dataspaces::default(),
            frames,
            spaces: BTreeMap::new(),
            lives: BTreeMap::new(),
            known: BTreeMap::new(),
            made: BTreeMap::new(),
            signals: BTreeMap::new(),
            pagers: BTreeMap::new(),
            refused: BTreeSet::new(),
            rings: BTreeMap::new(),
            logs: BTreeMap::new(),
            pinned: BTreeSet::new(),
            limbo: Vec::new(),
            next: 0,
        };
        Box::leak(Box::new(Memory { nova, window, state: Mutex::new(state), hub }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life of a component is created, with these spaces: gives it its objects, at that entry point.
    pub fn begin(&'static self, member: &Arc<Member>, point: Entrypoint, o: &Objects) -> Result<(), Status> {
        let Objects { pd: own_pd, obj, hst, .. } = *o;
        let mut state = self.state();
        state.next += 1;
        let component = Component(state.next);
        let addresses = layout::DATASPACES..layout::DATASPACES + layout::DATASPACES_LEN;
        let map = state.dataspaces.begin(component, addresses).ok_or(Status::BadPar)?;
        state.lives.insert(member.index, component);
        let member = Arc::clone(member);
        let space = Space { member, hst: Some(hst), pd: own_pd, guests: BTreeMap::new(), env: None };
        state.spaces.insert(component, space);
        drop(state);
        let pd = point.manage(PdServer(Domain { memory: self, component, point }))?;
        let rm = point.manage(RmServer(Region { memory: self, component, map, point }))?;
        space::give(obj, pd.cap().sel(), sel::PD_SESSION, perm::Pt::CALL.bits())?;
        space::give(obj, rm.cap().sel(), sel::RM_SESSION, perm::Pt::CALL.bits())?;
        if let Some(space) = self.state().spaces.get_mut(&component) {
            space.env = Some((pd, rm));
        }
        Ok(())
    }

    /// Component `index` is about to be destroyed: its address space is not touched any more.
    pub fn leave(&self, index: usize) {
        let mut state = self.state();
        let Some(component) = state.lives.get(&index).copied() else { return };
        if let Some(space) = state.spaces.get_mut(&component) {
            space.hst = None;
        }
        state.pagers.iter().filter(|(w, _)| w.component == component).for_each(|(_, p)| p.wake());
    }

    /// It is destroyed: what it had goes back, but what others have of it.
    pub fn end(&self, index: usize) -> Ended {
        let mut state = self.state();
        let Some(component) = state.lives.remove(&index) else { return Ended::default() };
        let (idle, pagers) = std::mem::take(&mut state.pagers).into_iter().partition(|(w, _)| w.component == component);
        state.pagers = pagers;
        let idle: BTreeMap<Waiter, Arc<Pager>> = idle;
        state.refused.retain(|w| w.component != component);
        let own: Vec<DataspaceId> = state.dataspaces.of(component).collect();
        let unread = self.sever(&mut state, &own);
        let mut gone = Gone::default();
        own.iter().for_each(|&id| state.forget(id, &mut gone));
        let (theirs, rings) = std::mem::take(&mut state.rings)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, r)| r.component == component);
        state.rings = rings;
        let others = theirs.values().filter(|r| !own.contains(&r.dataspace));
        state.logs.extend(others.filter_map(|r| Some((r.dataspace, (r.log.clone()?, r.frames)))));
        self.over(&mut state, component);
        let space = state.spaces.remove(&component);
        drop(state);
        drop((space, gone, theirs));
        Ended { pagers: idle.into_values().collect(), unread }
    }

    /// The books of a component end; nothing of it is mapped.
    fn over(&self, state: &mut State, component: Component) {
        let changes = state.dataspaces.end(component, |payer, _| payer);
        self.carry_out(state, changes);
        let (back, rest) =
            std::mem::take(&mut state.limbo).into_iter().partition::<Vec<_>, _>(|(c, _)| *c == component);
        state.limbo = rest;
        back.into_iter().for_each(|(_, frames)| state.frames.give_back(frames));
    }

    /// The server of these rings is gone: clients must not wait for it. Under the lock, so that the frames are still theirs.
    fn sever(&self, state: &mut State, own: &[DataspaceId]) -> Vec<(String, String)> {
        // First of those that have ended: others may have the same names since.
        let ended = own.iter().filter_map(|id| state.logs.remove(id));
        let mut unread: Vec<_> = ended.map(|(label, frames)| (label, self.rest(frames))).collect();
        let theirs = state.rings.values().filter(|r| own.contains(&r.dataspace));
        unread.extend(theirs.filter_map(|rings| self.cut(rings)));
        unread
    }

    /// What is in the ring to the server, whose end breaks.
    fn rest(&self, frames: PhysRange) -> String {
        let mut rest = Vec::new();
        let ring = Ring::of(self.window, frames, 0);
        ring.iter().for_each(|ring| cut_producer(ring, |part| rest.extend_from_slice(part)));
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Breaks rings, and tells their client; what was unread of a log, and whose.
    fn cut(&self, rings: &Rings) -> Option<(String, String)> {
        let text = self.rest(rings.frames);
        Ring::of(self.window, rings.frames, RING_LEN).iter().for_each(cut_consumer);
        // Who does not live any more needs none.
        let _ = raise(**rings.wake);
        rings.log.clone().map(|label| (label, text))
    }

    /// A server wants rings back whose client does not know yet that the session is over: they are the client's from now on, if
    /// nobody else has them, and it can pay. Broken, so that it gives them up.
    fn bequeath(&self, state: &mut State, owner: Component, id: DataspaceId) -> Option<Changes<Component>> {
        let rings = state.rings.values().find(|r| r.dataspace == id && r.component != owner)?;
        let (client, len) = (rings.component, rings.frames.len());
        let cost = Quota::new(len, 0).filter(|_| len <= 2 * RING_LEN)?;
        let space = state.spaces.get(&client).filter(|space| space.hst.is_some())?;
        self.hub.spend(&space.member, cost).ok()?;
        let left = state.dataspaces.bequeath(owner, id, client);
        if left.is_err() {
            self.hub.release(&space.member, cost);
        }
        let changes = left.ok()?;
        let unread = state.rings.values().filter(|r| r.dataspace == id).filter_map(|rings| self.cut(rings));
        unread.filter(|(_, text)| !text.is_empty()).for_each(|(label, text)| self.hub.unread(label, text));
        if let Some(space) = state.spaces.get(&owner) {
            self.hub.release(&space.member, cost);
        }
        Some(changes)
    }

    /// A component says that it is the client of rings that are attached there.
    pub fn stream(&self, component: Component, map: MapId, at: u64, log: bool, wake: Signal) -> bool {
        let wake = Arc::new(Held::keep(wake));
        let least = if log { RING_LEN } else { 2 * RING_LEN };
        let label = || self.hub.label(&*self.member(component)?);
        let log = log.then(|| label().unwrap_or_default());
        let mut state = self.state();
        let Some((dataspace, frames)) = state.dataspaces.whole_ram(map, at).filter(|(_, f)| f.len() >= least) else {
            drop(state);
            return false;
        };
        let before = state.rings.insert((map, at), Rings { component, dataspace, frames, log, wake });
        drop(state);
        drop(before);
        true
    }

    /// Core itself uses a dataspace of RAM, as if it had attached it. `None`: it is none, or cannot be attached.
    pub fn pin(&'static self, cap: Cap<dyn Dataspace>) -> Option<Pinned> {
        let mut state = self.state();
        state.next += 1;
        let component = Component(state.next);
        let id = *state.known.get(&cap.sel())?;
        let size = state.dataspaces.view(id).filter(|v| v.kind == Kind::Ram)?.size;
        let map = state.dataspaces.begin(component, 0..size)?;
        state.pinned.insert(component);
        let how = dataspace::Attach { dataspace: id, offset: 0, len: None, at: Some(0), write: true, execute: false };
        let frames = match state.dataspaces.attach(map, how) {
            Ok(attached) => {
                let frames = attached.map.map(|m| m.frames);
                self.carry_out(&mut state, attached.changes);
                frames
            }
            Err(_) => None,
        };
        drop(state);
        let pinned = Pinned { memory: self, component, frames: frames.unwrap_or(PhysRange::new(0, 0)) };
        frames.map(|_| pinned)
    }

    /// A page fault of component `index`: what is attached there is mapped.
    pub fn fault(&self, index: usize, address: u64, access: Mem) -> Faulted {
        let state = self.state();
        let Some(&component) = state.lives.get(&index) else { return Faulted::Ended };
        match state.dataspaces.resolve(component, address, access) {
            Resolution::Unresolved { handled: true, .. } => Faulted::Waits(component),
            found => self.found(&state, found),
        }
    }

    /// A page fault that may wait, on that CPU: who handles the map is told.
    pub fn wait(&self, waiter: Waiter, address: u64, access: Mem) -> Faulted {
        let mut state = self.state();
        if state.spaces.get(&waiter.component).is_none_or(|s| s.hst.is_none()) {
            return Faulted::Ended;
        }
        if state.refused.remove(&waiter) {
            return Faulted::Fault("refused by who handles the region map".into());
        }
        loop {
            let map = match state.dataspaces.wait(waiter, address, access) {
                Ok(map) => map,
                Err(found) => return self.found(&state, found),
            };
            if state.signals.get(&map).is_some_and(|signal| raise(***signal).is_ok()) {
                return Faulted::Waits(waiter.component);
            }
            // Nobody is there any more who could handle it.
            state.dataspaces.forget(waiter);
            if let Ok(changes) = state.dataspaces.handle(map, false) {
                self.carry_out(&mut state, changes);
            }
        }
    }

    fn found(&self, state: &State, found: Resolution) -> Faulted {
        match found {
            Resolution::Map(mapped) => match self.map(state, mapped) {
                Ok(()) => Faulted::Again,
                Err(status) => Faulted::Fault(format!("attached, but the kernel does not map it: {status}")),
            },
            other => Faulted::Fault(other.to_string()),
        }
    }

    /// A thread that waits for a component from now on.
    pub fn waits(&self, waiter: Waiter, pager: Arc<Pager>) {
        self.state().pagers.insert(waiter, pager);
    }

    /// Tells the thread that waits for a component what was found.
    pub fn answer(&self, waiter: &Waiter, answer: Answer) {
        if let Some(pager) = self.state().pagers.get(waiter) {
            pager.answer(answer);
        }
    }

    /// The latest life of component `index`.
    pub fn is_life(&self, index: usize, component: Component) -> bool {
        self.state().lives.get(&index) == Some(&component)
    }

    /// Who handles the faults of a map.
    pub fn handle(&self, map: MapId, signal: Signal) {
        let held = Arc::new(Held::keep(signal));
        let mut state = self.state();
        let before = match state.dataspaces.handle(map, true) {
            Ok(changes) => {
                self.carry_out(&mut state, changes);
                state.signals.insert(map, held)
            }
            Err(_) => Some(held),
        };
        drop(state);
        drop(before);
    }

    /// The next fault that waits in a map.
    pub fn next_fault(&self, map: MapId) -> Option<Fault> {
        self.state().dataspaces.next_fault(map)
    }

    /// Nothing will be attached there; `false`: nobody waits for that.
    pub fn refuse(&self, map: MapId, offset: u64) -> bool {
        let mut state = self.state();
        let Ok(waiters) = state.dataspaces.refuse(map, offset) else { return false };
        for waiter in waiters {
            state.refused.insert(waiter);
            state.wake(&waiter);
        }
        true
    }

    fn map(&self, state: &State, m: Mapped) -> Result<(), Status> {
        let to = state.spaces.get(&m.component).and_then(|s| s.sel(m.guest)).ok_or(Status::Aborted)?;
        let cached = if m.device { Mad::UC } else { Mad::WB };
        self.nova.map_bound(to, m.virt, m.frames.start, m.frames.len(), m.perms, cached)
    }

    /// Unmaps, then gives back.
    fn carry_out(&self, state: &mut State, changes: Changes<Component>) {
        let mut holds = None;
        for u in changes.unmap {
            let from = state.spaces.get(&u.component).and_then(|s| s.sel(u.guest));
            let unmapped = from.is_some_and(|from| self.nova.map(from, u.virt, u.virt, u.len, Mem::empty()).is_ok());
            if !unmapped && (state.spaces.contains_key(&u.component) || state.pinned.contains(&u.component)) {
                holds = Some(u.component);
            }
        }
        for r in changes.released {
            if let Some(space) = state.spaces.get(&r.payer) {
                self.hub.release(&space.member, Quota::new(r.frames.len(), 0).unwrap_or_default());
            }
            match holds {
                Some(component) => state.limbo.push((component, r.frames)),
                None => state.frames.give_back(r.frames),
            }
        }
        changes.retry.iter().for_each(|w| state.wake(w));
    }

    fn member(&self, component: Component) -> Option<Arc<Member>> {
        self.state().spaces.get(&component).map(|s| Arc::clone(&s.member))
    }

    /// The component that has this as its protection domain.
    pub fn owner(&self, pd: Cap<dyn Pd>) -> Option<Arc<Member>> {
        let state = self.state();
        let its = |space: &&Space| space.env.as_ref().is_some_and(|(own, _)| own.cap() == pd);
        state.spaces.values().find(its).map(|space| Arc::clone(&space.member))
    }

    /// Plans with the frames that are free here.
    pub fn plan<R>(&self, f: impl FnOnce(&mut Book) -> R) -> R {
        f(&mut self.state().frames)
    }

    /// An account as it stands.
    pub fn account(&self, component: Component) -> Option<Account> {
        self.hub.account(&*self.member(component)?)
    }

    /// Frames for dataspaces that nobody has, in bytes.
    pub fn free_bytes(&self) -> u64 {
        self.state().frames.free_bytes()
    }

    fn spend(&self, component: Component, quota: Quota) -> Result<(), BookError> {
        self.hub.spend(&*self.member(component).ok_or(BookError::Unknown)?, quota)
    }

    fn release(&self, component: Component, quota: Quota) {
        if let Some(member) = self.member(component) {
            self.hub.release(&member, quota);
        }
    }

    /// New RAM, paid.
    pub fn ram(
        &'static self,
        component: Component,
        size: u64,
        point: Entrypoint,
    ) -> Result<Cap<dyn Dataspace>, Failed> {
        let quota = Quota::new(size, 1).filter(|_| size > 0).ok_or(Failed::Size)?;
        self.spend(component, quota).map_err(Failed::Quota)?;
        let made = self.zeroed(size).and_then(|frames| self.ram_of(component, frames, point));
        made.inspect_err(|_| self.release(component, quota))
    }

    fn zeroed(&self, size: u64) -> Result<PhysRange, Failed> {
        let taken = self.state().frames.take(size);
        let frames = taken.map_err(|e| Failed::Machine(e.free))?;
        // Outside of the lock: it takes its time, and nobody else knows of them.
        self.window.zero(frames);
        Ok(frames)
    }

    fn ram_of(
        &'static self,
        component: Component,
        frames: PhysRange,
        point: Entrypoint,
    ) -> Result<Cap<dyn Dataspace>, Failed> {
        let mut state = self.state();
        match state.dataspaces.ram(component, frames, component) {
            Ok(id) => {
                drop(state);
                self.publish(id, point, None).inspect_err(|_| self.withdraw_quietly(component, id))
            }
            Err(e) => {
                state.frames.give_back(frames);
                Err(Failed::Refused(e))
            }
        }
    }

    /// As if there never was one.
    fn withdraw_quietly(&self, component: Component, id: DataspaceId) {
        let mut state = self.state();
        if let Ok(changes) = state.dataspaces.free(component, id) {
            for r in changes.released {
                state.frames.give_back(r.frames);
            }
        }
    }

    fn publish(
        &'static self,
        id: DataspaceId,
        point: Entrypoint,
        map: Option<(MapId, Managed<dyn Rm>)>,
    ) -> Result<Cap<dyn Dataspace>, Failed> {
        let object = DataspaceServer(Object { memory: self, id });
        let dataspace = point.manage(object).map_err(|_| Failed::Machine(0))?;
        let cap = dataspace.cap();
        let mut state = self.state();
        state.known.insert(cap.sel(), id);
        state.made.insert(id, Made { dataspace, map });
        Ok(cap)
    }

    /// A new region map, paid.
    pub fn managed(
        &'static self,
        component: Component,
        size: u64,
        point: Entrypoint,
    ) -> Result<services::rm::Created, Failed> {
        let quota = Quota::new(0, 2).ok_or(Failed::Size)?;
        self.spend(component, quota).map_err(Failed::Quota)?;
        let make = || {
            let (map, id) = self.state().dataspaces.managed(component, size).map_err(Failed::Refused)?;
            let region = RmServer(Region { memory: self, component, map, point });
            let made = point.manage(region).map_err(|_| Failed::Machine(0)).and_then(|rm| {
                let cap = rm.cap();
                Ok((cap, self.publish(id, point, Some((map, rm)))?))
            });
            made.inspect_err(|_| self.withdraw_quietly(component, id))
        };
        make().inspect_err(|_| self.release(component, quota))
    }

    /// A boot module for a session of that life, which has paid for it.
    pub fn rom(&'static self, life: &Member, frames: PhysRange, point: Entrypoint) -> Result<Shown, Failed> {
        self.show(life, frames.outward(), point, Dataspaces::rom)
    }

    /// Memory of a device for a session of that life, which has paid for it.
    pub fn device(&'static self, life: &Member, memory: PhysRange, point: Entrypoint) -> Result<Shown, Failed> {
        self.show(life, memory, point, Dataspaces::device)
    }

    fn show(&'static self, life: &Member, frames: PhysRange, point: Entrypoint, make: Make) -> Result<Shown, Failed> {
        let mut state = self.state();
        let component = state.of_life(life).ok_or(Failed::Refused(dataspace::CreateError::Ended))?;
        let id = make(&mut state.dataspaces, component, frames).map_err(Failed::Refused)?;
        drop(state);
        let cap = self.publish(id, point, None).inspect_err(|_| self.withdraw_quietly(component, id))?;
        Ok(Shown { memory: self, component, id, cap })
    }

    /// The memory of a guest, for a session of that life, which has paid for it.
    pub fn guest(&'static self, life: &Member) -> Result<GuestMemory, NoGuest> {
        let mut state = self.state();
        let component = state.of_life(life).ok_or(NoGuest::Refused(dataspace::CreateError::Ended))?;
        let pd = state.spaces.get(&component).filter(|s| s.hst.is_some()).map(|s| s.pd);
        let pd = pd.ok_or(NoGuest::Refused(dataspace::CreateError::Ended))?;
        let map = state.dataspaces.guest(component, GUEST).map_err(NoGuest::Refused)?;
        match Guest::new(pd) {
            Ok(guest) => {
                let space = guest.sel();
                if let Some(of) = state.spaces.get_mut(&component) {
                    of.guests.insert(map, guest);
                }
                Ok(GuestMemory { memory: self, component, map, space })
            }
            Err(status) => {
                // There is nothing in it.
                let _ = state.dataspaces.end_guest(map);
                Err(NoGuest::Kernel(status))
            }
        }
    }

    /// Nobody has that guest any more.
    fn end_guest(&self, component: Component, map: MapId) {
        let mut state = self.state();
        // Unless the component has ended, and all of its with it.
        if let Ok(changes) = state.dataspaces.end_guest(map) {
            self.carry_out(&mut state, changes);
        }
        let guest = state.spaces.get_mut(&component).and_then(|space| space.guests.remove(&map));
        drop(state);
        drop(guest);
    }

    /// Nobody attaches a module by that session any more, and nobody has memory of a device.
    fn hide(&self, component: Component, id: DataspaceId) {
        let (mut state, mut gone) = (self.state(), Gone::default());
        let device = state.dataspaces.view(id).is_some_and(|view| view.kind == Kind::Device);
        // Unless the component has ended, and all of its with it.
        let hidden = match device {
            true => state.dataspaces.withdraw(component, id),
            false => state.dataspaces.free(component, id),
        };
        if let Ok(changes) = hidden {
            state.forget(id, &mut gone);
            self.carry_out(&mut state, changes);
        }
        drop(state);
        drop(gone);
    }

    /// Its owner gives a dataspace up; `everywhere`: and all who have it.
    pub fn give_up(&self, component: Component, cap: Cap<dyn Dataspace>, everywhere: bool) -> bool {
        let mut state = self.state();
        let Some(&id) = state.known.get(&cap.sel()) else { return false };
        // Those go with their sessions.
        if state.dataspaces.view(id).is_some_and(|view| matches!(view.kind, Kind::Rom | Kind::Device)) {
            return false;
        }
        let done = match everywhere {
            true => match self.bequeath(&mut state, component, id) {
                Some(changes) => Ok(changes),
                None => state.dataspaces.withdraw(component, id),
            },
            false => state.dataspaces.free(component, id),
        };
        let Ok(changes) = done else { return false };
        let mut gone = Gone::default();
        let caps = 1 + u64::from(state.made.get(&id).is_some_and(|m| m.map.is_some()));
        state.forget(id, &mut gone);
        self.carry_out(&mut state, changes);
        drop(state);
        self.release(component, Quota::new(0, caps).unwrap_or_default());
        drop(gone);
        true
    }

    /// Attaches what a capability names. `Err(None)`: the kernel has no memory to map it.
    pub fn attach(
        &self,
        map: MapId,
        cap: Cap<dyn Dataspace>,
        how: impl Fn(DataspaceId) -> dataspace::Attach,
    ) -> Result<u64, Option<AttachError>> {
        let mut state = self.state();
        let id = *state.known.get(&cap.sel()).ok_or(Some(AttachError::NoDataspace))?;
        let Attached { at, map: mapped, changes } = state.dataspaces.attach(map, how(id)).map_err(Some)?;
        let refused = mapped.is_some_and(|mapped| self.map(&state, mapped).is_err());
        self.carry_out(&mut state, changes);
        if refused {
            if let Ok(changes) = state.dataspaces.detach(map, at) {
                self.carry_out(&mut state, changes);
            }
            return Err(None);
        }
        Ok(at)
    }

    /// Detaches a region; `false`: there is none.
    pub fn detach(&self, map: MapId, at: u64) -> bool {
        let mut state = self.state();
        let rings = state.rings.remove(&(map, at));
        let detached = state.dataspaces.detach(map, at).map(|changes| self.carry_out(&mut state, changes)).is_ok();
        drop(state);
        drop(rings);
        detached
    }

    /// A dataspace as it stands.
    pub fn view(&self, id: DataspaceId) -> Option<View> {
        self.state().dataspaces.view(id)
    }
}

/// What a dataspace that goes with its session is made of.
type Make = fn(&mut Dataspaces<Component>, Component, PhysRange) -> Result<DataspaceId, dataspace::CreateError>;

/// A boot module, or memory of a device, as a session shows it; when it goes, nobody attaches it any more.
pub struct Shown {
    memory: &'static Memory,
    component: Component,
    id: DataspaceId,
    /// Its dataspace.
    pub cap: Cap<dyn Dataspace>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.memory.hide(self.component, self.id);
    }
}

/// Why a component gets no memory for a guest.
#[derive(Debug, Error)]
pub enum NoGuest {
    /// It has as many as it may, or has ended.
    #[error("{0}")]
    Refused(dataspace::CreateError),
    /// The kernel.
    #[error("the kernel creates no guest space: {0:?}")]
    Kernel(Status),
}

/// The memory of a guest as a session has it; when it goes, the guest is gone.
pub struct GuestMemory {
    memory: &'static Memory,
    component: Component,
    map: MapId,
    space: Sel,
}

impl GuestMemory {
    /// The map in which its client attaches.
    pub fn map(&self) -> MapId {
        self.map
    }

    /// The kernel's space.
    pub fn space(&self) -> Sel {
        self.space
    }

    /// Where dataspaces are.
    pub fn memory(&self) -> &'static Memory {
        self.memory
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        self.memory.end_guest(self.component, self.map);
    }
}

impl State {
    /// The component of a life that has begun and has not ended.
    fn of_life(&self, life: &Member) -> Option<Component> {
        let mut all = self.spaces.iter();
        all.find(|(_, space)| std::ptr::eq(&*space.member, life)).map(|(&component, _)| component)
    }

    fn wake(&self, waiter: &Waiter) {
        if let Some(pager) = self.pagers.get(waiter) {
            pager.wake();
        }
    }

    /// Nobody names it any more.
    fn forget(&mut self, id: DataspaceId, gone: &mut Gone) {
        self.logs.remove(&id);
        if let Some(made) = self.made.remove(&id) {
            self.known.remove(&made.dataspace.cap().sel());
            // A capability of who handled it, whose kernel memory is back with the last that refers to it.
            gone.1.extend(made.map.as_ref().and_then(|(map, _)| self.signals.remove(map)));
            gone.0.push(made);
        }
    }
}

/// What core uses of a component's dataspace. Its frames go back to nobody as long as this value is, whatever the owner does.
pub struct Pinned {
    memory: &'static Memory,
    component: Component,
    /// The frames.
    pub frames: PhysRange,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        self.memory.over(&mut state, self.component);
        state.pinned.remove(&self.component);
    }
}

/// Why there is no dataspace.
#[derive(Debug)]
pub enum Failed {
    /// No whole pages.
    Size,
    /// The account has too little.
    Quota(BookError),
    /// The machine has so little.
    Machine(u64),
    /// The component has too many.
    Refused(dataspace::CreateError),
}
