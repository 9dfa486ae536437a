//! The books: components, their dataspaces and maps, and what goes back when.
//!
//! Key types: [`Dataspaces`], [`Changes`].

use crate::map::{Map, MapKind};
use crate::resolve::Waiter;
use crate::{CreateError, MAX_DATASPACES, MAX_GUESTS, MAX_MAPS, MapId, NotThere, PAGE};
use abi::perm::Mem;
use policy::PhysRange;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A life of a component: no two have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component(pub u64);

/// A dataspace; never another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataspaceId(pub(crate) u64);

/// What a dataspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Frames that somebody pays for.
    Ram,
    /// Frames that are not written and do not go back.
    Rom,
    /// Memory of a device.
    Device,
    /// A region map.
    Managed,
}

/// A dataspace as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// What it is.
    pub kind: Kind,
    /// In bytes, whole pages.
    pub size: u64,
    /// Whether it can be written.
    pub writable: bool,
    /// How many regions show it.
    pub users: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<P> {
    /// Who pays.
    Ram(PhysRange, P),
    Rom(PhysRange),
    Device(PhysRange),
    Managed(MapId),
    /// A managed one whose map is gone.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Dataspace<P> {
    /// Who has created it.
    pub owner: Component,
    /// Otherwise it is freed, or the owner has ended: nobody attaches it any more.
    pub wanted: bool,
    pub content: Content<P>,
    pub size: u64,
    pub perms: Mem,
    /// The regions that show it: maps, and where in them.
    pub users: BTreeSet<(MapId, u64)>,
}

impl<P> Dataspace<P> {
    fn owned_by(&self, component: Component) -> bool {
        self.wanted && self.owner == component
    }
}

/// What a component has.
#[derive(Debug)]
pub(crate) struct Owner {
    pub space: MapId,
    pub maps: BTreeSet<MapId>,
    pub guests: BTreeSet<MapId>,
    pub dataspaces: usize,
    /// In all its maps.
    pub regions: usize,
}

/// Pages that a component does not have any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmapped {
    /// Whose address space.
    pub component: Component,
    /// Or that guest's of the component.
    pub guest: Option<MapId>,
    /// First address.
    pub virt: u64,
    /// In bytes.
    pub len: u64,
}

/// Frames that nobody has any more, and who has paid for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released<P> {
    /// The frames.
    pub frames: PhysRange,
    /// Who pays no longer.
    pub payer: P,
}

/// What follows. To be done in this order: only what is not mapped any more goes back.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Changes<P> {
    /// To be unmapped. Not all of it needs to be mapped.
    pub unmap: Vec<Unmapped>,
    /// Then these go back.
    pub released: Vec<Released<P>>,
    /// Then these are to look again: [`Dataspaces::resolve`].
    pub retry: Vec<Waiter>,
}

impl<P> Default for Changes<P> {
    fn default() -> Self {
        Changes { unmap: Vec::new(), released: Vec::new(), retry: Vec::new() }
    }
}

/// The books. `P` is who pays.
#[derive(Debug)]
pub struct Dataspaces<P> {
    pub(crate) owners: BTreeMap<Component, Owner>,
    pub(crate) dataspaces: BTreeMap<DataspaceId, Dataspace<P>>,
    pub(crate) maps: BTreeMap<MapId, Map>,
    /// In which map a thread waits.
    pub(crate) waiting: BTreeMap<Waiter, MapId>,
    next: u64,
}

impl<P> Default for Dataspaces<P> {
    fn default() -> Self {
        let (owners, dataspaces, maps) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Dataspaces { owners, dataspaces, maps, waiting: BTreeMap::new(), next: 0 }
    }
}

impl<P: Copy> Dataspaces<P> {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A component begins, with an address space in which it can attach at these addresses, whole pages. `None`: it has begun
    /// already.
    pub fn begin(&mut self, component: Component, addresses: Range<u64>) -> Option<MapId> {
        if self.owners.contains_key(&component) {
            return None;
        }
        let space = MapId(self.number());
        self.maps.insert(space, Map::new(component, MapKind::Space, addresses));
        let (maps, guests) = (BTreeSet::from([space]), BTreeSet::new());
        let owner = Owner { space, maps, guests, dataspaces: 0, regions: 0 };
        self.owners.insert(component, owner);
        Some(space)
    }

    fn create(&mut self, owner: Component, content: Content<P>, size: u64) -> Result<DataspaceId, CreateError> {
        if size == 0 || !size.is_multiple_of(PAGE) || size > i64::MAX as u64 {
            return Err(CreateError::Size(size));
        }
        let having = self.owners.get_mut(&owner).ok_or(CreateError::Ended)?;
        if having.dataspaces >= MAX_DATASPACES {
            return Err(CreateError::Dataspaces);
        }
        having.dataspaces += 1;
        let perms = match content {
            Content::Rom(_) => Mem::all() - Mem::W,
            Content::Device(_) => Mem::R | Mem::W,
            _ => Mem::all(),
        };
        let id = DataspaceId(self.number());
        self.dataspaces.insert(id, Dataspace { owner, wanted: true, content, size, perms, users: BTreeSet::new() });
        Ok(id)
    }

    /// RAM. The frames are zeroed, and nobody else's; they come back in some [`Changes`].
    pub fn ram(&mut self, owner: Component, frames: PhysRange, payer: P) -> Result<DataspaceId, CreateError> {
        self.create(owner, Content::Ram(frames, payer), frames.len())
    }

    /// A module: whole pages that nobody ever writes.
    pub fn rom(&mut self, owner: Component, frames: PhysRange) -> Result<DataspaceId, CreateError> {
        self.create(owner, Content::Rom(frames), frames.len())
    }

    /// Memory of a device: whole pages that are no RAM. It is attached in address spaces only, where it is mapped at once: of a
    /// fault there nothing comes.
    pub fn device(&mut self, owner: Component, memory: PhysRange) -> Result<DataspaceId, CreateError> {
        self.create(owner, Content::Device(memory), memory.len())
    }

    /// A region map, from address 0 on, that is a dataspace.
    pub fn managed(&mut self, owner: Component, size: u64) -> Result<(MapId, DataspaceId), CreateError> {
        let having = self.owners.get(&owner).ok_or(CreateError::Ended)?;
        if having.maps.len() > MAX_MAPS {
            return Err(CreateError::Maps);
        }
        let map = MapId(self.number());
        let dataspace = self.create(owner, Content::Managed(map), size)?;
        self.maps.insert(map, Map::new(owner, MapKind::Managed(dataspace), 0..size));
        if let Some(having) = self.owners.get_mut(&owner) {
            having.maps.insert(map);
        }
        Ok((map, dataspace))
    }

    /// The memory of a guest of the component's, at these guest-physical addresses, whole pages: another place where
    /// dataspaces can be attached, to be written and executed, too. Faults there are not for core, so no managed ones.
    pub fn guest(&mut self, owner: Component, addresses: Range<u64>) -> Result<MapId, CreateError> {
        let having = self.owners.get(&owner).ok_or(CreateError::Ended)?;
        if having.guests.len() >= MAX_GUESTS {
            return Err(CreateError::Guests);
        }
        let guest = MapId(self.number());
        self.maps.insert(guest, Map::new(owner, MapKind::Guest, addresses));
        if let Some(having) = self.owners.get_mut(&owner) {
            having.guests.insert(guest);
        }
        Ok(guest)
    }

    /// A guest ends: nothing is attached there any more.
    pub fn end_guest(&mut self, guest: MapId) -> Result<Changes<P>, NotThere> {
        self.maps.get(&guest).filter(|m| m.is_guest()).ok_or(NotThere)?;
        let mut changes = Changes::default();
        self.drop_map(guest, &mut changes);
        Ok(changes)
    }

    /// A dataspace that can be attached.
    pub fn view(&self, dataspace: DataspaceId) -> Option<View> {
        let d = self.dataspaces.get(&dataspace).filter(|d| d.wanted)?;
        let kind = match d.content {
            Content::Ram(..) => Kind::Ram,
            Content::Rom(_) => Kind::Rom,
            Content::Device(_) => Kind::Device,
            Content::Managed(_) | Content::Gone => Kind::Managed,
        };
        Some(View { kind, size: d.size, writable: d.perms.contains(Mem::W), users: d.users.len() })
    }

    /// Its owner does not want a dataspace any more. Nobody attaches it from now on; what is attached stays, and its frames
    /// go back with the last region. A managed one is empty from now on.
    pub fn free(&mut self, owner: Component, dataspace: DataspaceId) -> Result<Changes<P>, NotThere> {
        let mut changes = Changes::default();
        self.give_up(owner, dataspace, &mut changes)?;
        Ok(changes)
    }

    /// As [`free`](Self::free), and it is detached wherever it is attached: who looks there faults.
    pub fn withdraw(&mut self, owner: Component, dataspace: DataspaceId) -> Result<Changes<P>, NotThere> {
        let d = self.dataspaces.get(&dataspace).filter(|d| d.owned_by(owner)).ok_or(NotThere)?;
        let mut changes = Changes::default();
        for (map, at) in d.users.clone() {
            self.remove(map, at, &mut changes);
        }
        self.give_up(owner, dataspace, &mut changes)?;
        Ok(changes)
    }

    /// As [`free`](Self::free), for RAM that one region shows: `heir` pays for it from now on, until that has gone. Otherwise
    /// nothing changes.
    pub fn bequeath(&mut self, owner: Component, dataspace: DataspaceId, heir: P) -> Result<Changes<P>, NotThere> {
        let d = self.dataspaces.get_mut(&dataspace).filter(|d| d.owned_by(owner) && d.users.len() == 1);
        match d.map(|d| &mut d.content) {
            Some(Content::Ram(_, payer)) => *payer = heir,
            _ => return Err(NotThere),
        }
        self.free(owner, dataspace)
    }

    fn give_up(&mut self, owner: Component, id: DataspaceId, changes: &mut Changes<P>) -> Result<(), NotThere> {
        let d = self.dataspaces.get_mut(&id).filter(|d| d.owned_by(owner)).ok_or(NotThere)?;
        d.wanted = false;
        if let Some(having) = self.owners.get_mut(&owner) {
            having.dataspaces -= 1;
        }
        if let Content::Managed(map) = d.content {
            self.drop_map(map, changes);
            if let Some(d) = self.dataspaces.get_mut(&id) {
                d.content = Content::Gone;
            }
        }
        self.settle(id, changes);
        Ok(())
    }

    /// A map ends: what is in it is not seen by way of it any more.
    fn drop_map(&mut self, id: MapId, changes: &mut Changes<P>) {
        let Some(map) = self.maps.get(&id) else { return };
        let owner = map.owner;
        for at in map.regions.keys().copied().collect::<Vec<_>>() {
            self.remove(id, at, changes);
        }
        self.wake(id, |_| true, changes);
        self.maps.remove(&id);
        if let Some(having) = self.owners.get_mut(&owner) {
            having.maps.remove(&id);
            having.guests.remove(&id);
        }
    }

    /// What nobody owns and nothing shows goes.
    pub(crate) fn settle(&mut self, id: DataspaceId, changes: &mut Changes<P>) {
        if !self.dataspaces.get(&id).is_some_and(|d| !d.wanted && d.users.is_empty()) {
            return;
        }
        if let Some(Dataspace { content: Content::Ram(frames, payer), .. }) = self.dataspaces.remove(&id) {
            changes.released.push(Released { frames, payer });
        }
    }

    /// A component has ended, and its address space and those of its guests are gone. What others have attached of its RAM stays until they do not
    /// any more; `heir` says who pays for so many bytes of it from now on, in place of whom.
    pub fn end(&mut self, component: Component, mut heir: impl FnMut(P, u64) -> P) -> Changes<P> {
        let mut changes = Changes::default();
        let waits = |w: &&Waiter| w.component == component;
        for waiter in self.waiting.keys().filter(waits).copied().collect::<Vec<_>>() {
            self.forget(waiter);
        }
        let Some(owner) = self.owners.get(&component) else { return changes };
        // Its own address space and its guests first: nothing of these is to be unmapped.
        for map in owner.guests.iter().copied().chain([owner.space]).collect::<Vec<_>>() {
            self.drop_map(map, &mut changes);
        }
        changes.unmap.clear();
        let own = |(_, d): &(&DataspaceId, &Dataspace<P>)| d.owner == component;
        for id in self.dataspaces.iter().filter(own).map(|(&id, _)| id).collect::<Vec<_>>() {
            // What it has freed before, and others show, has only to be paid.
            let _ = self.give_up(component, id, &mut changes);
            if let Some(Dataspace { content: Content::Ram(frames, payer), .. }) = self.dataspaces.get_mut(&id) {
                *payer = heir(*payer, frames.len());
            }
        }
        self.owners.remove(&component);
        changes.unmap.retain(|u| u.component != component);
        changes.retry.retain(|w| w.component != component);
        changes
    }

    /// Those of a component that it has not freed.
    pub fn of(&self, owner: Component) -> impl Iterator<Item = DataspaceId> {
        self.dataspaces.iter().filter(move |(_, d)| d.owned_by(owner)).map(|(&id, _)| id)
    }

    /// Bytes of RAM dataspaces that there are, freed ones included that something still shows.
    pub fn ram_bytes(&self) -> u64 {
        let bytes = |d: &Dataspace<P>| if let Content::Ram(frames, _) = d.content { frames.len() } else { 0 };
        self.dataspaces.values().map(bytes).sum()
    }
}
