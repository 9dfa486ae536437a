//! Attaching and detaching, and the bounds of nesting.
//!
//! Key types: [`Attach`], [`Attached`].

use crate::books::{Content, Dataspace, Unmapped};
use crate::map::{Map, MapKind, Region};
use crate::resolve::Fault;
use crate::{
    AttachError, Changes, Component, DataspaceId, Dataspaces, MAX_DEPTH, MAX_NESTED, MAX_PLACES, MAX_REGIONS,
    MAX_USERS, MapId, NotThere, PAGE,
};
use abi::perm::Mem;
use policy::PhysRange;
use std::collections::BTreeSet;
use std::ops::Range;

/// What is to be attached, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach {
    /// What.
    pub dataspace: DataspaceId,
    /// From which byte on.
    pub offset: u64,
    /// How many bytes; `None`: all from there.
    pub len: Option<u64>,
    /// Where in the map; `None`: where there is room.
    pub at: Option<u64>,
    /// Whether it can be written there.
    pub write: bool,
    /// Whether it can be executed there; not both, but in the memory of a guest.
    pub execute: bool,
}

/// Frames that are to be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// In whose address space.
    pub component: Component,
    /// Or in that guest's of the component.
    pub guest: Option<MapId>,
    /// Where.
    pub virt: u64,
    /// What.
    pub frames: PhysRange,
    /// How.
    pub perms: Mem,
    /// It is a device's: not to be cached.
    pub device: bool,
}

/// What has been attached.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Attached<P> {
    /// Where in the map.
    pub at: u64,
    /// To be mapped now. If that fails, it is to be detached again.
    pub map: Option<Mapped>,
    /// What follows else.
    pub changes: Changes<P>,
}

/// Whole pages, and not none.
fn pages(what: &'static str, value: u64, zero: bool) -> Result<u64, AttachError> {
    if value.is_multiple_of(PAGE) && (zero || value != 0) { Ok(value) } else { Err(AttachError::Pages { what, value }) }
}

impl<P: Copy> Dataspaces<P> {
    /// Attaches a part of a dataspace.
    pub fn attach(&mut self, map: MapId, a: Attach) -> Result<Attached<P>, AttachError> {
        let m = self.maps.get(&map).ok_or(AttachError::NoMap)?;
        let d = self.dataspaces.get(&a.dataspace).filter(|d| d.wanted).ok_or(AttachError::NoDataspace)?;
        let len = within(&a, d)?;
        let perms = rights(&a, d, m.is_guest())?;
        let at = place(m, a.at, len, d.like(a.offset))?;
        if d.users.len() >= MAX_USERS {
            return Err(AttachError::Users);
        }
        if self.owners.get(&m.owner).is_none_or(|o| o.regions >= MAX_REGIONS) {
            return Err(AttachError::Regions);
        }
        let (space, content, component) = (m.managed().is_none(), d.content, m.owner);
        let guest = m.is_guest().then_some(map);
        if (!space || guest.is_some()) && matches!(content, Content::Device(_)) {
            return Err(AttachError::Device);
        }
        if guest.is_some() && matches!(content, Content::Managed(_)) {
            return Err(AttachError::Managed);
        }
        self.nests(map, content)?;
        self.insert(map, at, Region { dataspace: a.dataspace, offset: a.offset, len, perms });
        if matches!(content, Content::Managed(_)) && !self.few_places(a.dataspace) {
            self.take_out(map, at);
            return Err(AttachError::Places);
        }
        let mut changes = Changes::default();
        self.wake(map, |f| (at..at + len).contains(&f.offset), &mut changes);
        let frames = match content {
            Content::Ram(frames, _) | Content::Rom(frames) | Content::Device(frames) => {
                PhysRange::new(frames.start + a.offset, len)
            }
            Content::Managed(_) | Content::Gone => return Ok(Attached { at, map: None, changes }),
        };
        let device = matches!(content, Content::Device(_));
        Ok(Attached { at, map: space.then_some(Mapped { component, guest, virt: at, frames, perms, device }), changes })
    }

    /// The RAM dataspace that a region of an address space, which starts there, shows as a whole and to be written, and its frames.
    pub fn whole_ram(&self, map: MapId, at: u64) -> Option<(DataspaceId, PhysRange)> {
        let region = self.maps.get(&map).filter(|m| m.kind == MapKind::Space)?.regions.get(&at)?;
        match self.dataspaces.get(&region.dataspace)?.content {
            Content::Ram(frames, _) if region.len == frames.len() && region.perms.contains(Mem::W) => {
                Some((region.dataspace, frames))
            }
            _ => None,
        }
    }

    /// Detaches the region that starts there.
    pub fn detach(&mut self, map: MapId, at: u64) -> Result<Changes<P>, NotThere> {
        let mut changes = Changes::default();
        if self.remove(map, at, &mut changes) { Ok(changes) } else { Err(NotThere) }
    }

    /// Whether one map in the other keeps the bounds, without those of places.
    fn nests(&self, map: MapId, content: Content<P>) -> Result<(), AttachError> {
        let Content::Managed(inner) = content else { return Ok(()) };
        let mut below = BTreeSet::new();
        let depth = self.below(inner, &mut below);
        if below.contains(&map) {
            return Err(AttachError::Cycle);
        }
        if depth + self.above(map) > MAX_DEPTH {
            return Err(AttachError::Depth);
        }
        if self.nested(map).count() >= MAX_NESTED { Err(AttachError::Nested) } else { Ok(()) }
    }

    /// Managed dataspaces in a map.
    fn nested(&self, map: MapId) -> impl Iterator<Item = DataspaceId> {
        let regions = self.maps.get(&map).into_iter().flat_map(|m| m.regions.values());
        let managed = |id: &DataspaceId| self.map_of(*id).is_some();
        regions.map(|r| r.dataspace).filter(managed)
    }

    /// The map that a dataspace is.
    pub(crate) fn map_of(&self, dataspace: DataspaceId) -> Option<MapId> {
        match self.dataspaces.get(&dataspace)?.content {
            Content::Managed(map) => Some(map),
            _ => None,
        }
    }

    /// Adds a map and all in it; how many are in each other there.
    fn below(&self, map: MapId, all: &mut BTreeSet<MapId>) -> usize {
        // Bounded by what has been attached before.
        let inner: BTreeSet<MapId> = self.nested(map).filter_map(|d| self.map_of(d)).collect();
        all.insert(map);
        1 + inner.into_iter().map(|m| self.below(m, all)).max().unwrap_or(0)
    }

    /// How many managed dataspaces a map and those around it are, one in the other.
    fn above(&self, map: MapId) -> usize {
        let Some(dataspace) = self.maps.get(&map).and_then(Map::managed) else { return 0 };
        let users = self.dataspaces.get(&dataspace).into_iter().flat_map(|d| &d.users);
        let around: BTreeSet<MapId> = users.map(|(map, _)| *map).collect();
        1 + around.into_iter().map(|m| self.above(m)).max().unwrap_or(0)
    }

    /// Whether a managed dataspace, and all in it, is at few enough places.
    fn few_places(&self, dataspace: DataspaceId) -> bool {
        let Some(map) = self.map_of(dataspace) else { return true };
        let mut all = BTreeSet::new();
        self.below(map, &mut all);
        all.into_iter().all(|m| self.count_places(m, MAX_PLACES + 1) <= MAX_PLACES)
    }

    /// Ways from a map to one that is in no other, but no more than `most`.
    fn count_places(&self, map: MapId, most: usize) -> usize {
        let dataspace = self.maps.get(&map).and_then(Map::managed).and_then(|d| self.dataspaces.get(&d));
        let Some(d) = dataspace.filter(|d| !d.users.is_empty()) else { return 1 };
        let mut count = 0;
        for (outer, _) in &d.users {
            if count >= most {
                break;
            }
            count += self.count_places(*outer, most - count);
        }
        count
    }

    /// Where a part of a map can be seen in address spaces.
    fn places(&self, map: MapId, part: Range<u64>, into: &mut Vec<Unmapped>) {
        let Some(m) = self.maps.get(&map) else { return };
        let Some(dataspace) = m.managed() else {
            let (component, guest) = (m.owner, m.is_guest().then_some(map));
            return into.push(Unmapped { component, guest, virt: part.start, len: part.end - part.start });
        };
        let users = self.dataspaces.get(&dataspace).into_iter().flat_map(|d| &d.users);
        for &(outer, at) in users {
            let Some(r) = self.maps.get(&outer).and_then(|m| m.regions.get(&at)) else { continue };
            let (start, end) = (part.start.max(r.offset), part.end.min(r.offset + r.len));
            if start < end {
                self.places(outer, at + (start - r.offset)..at + (end - r.offset), into);
            }
        }
    }

    fn insert(&mut self, map: MapId, at: u64, region: Region) {
        let Some(m) = self.maps.get_mut(&map) else { return };
        m.regions.insert(at, region);
        if let Some(o) = self.owners.get_mut(&m.owner) {
            o.regions += 1;
        }
        if let Some(d) = self.dataspaces.get_mut(&region.dataspace) {
            d.users.insert((map, at));
        }
    }

    fn take_out(&mut self, map: MapId, at: u64) -> Option<Region> {
        let m = self.maps.get_mut(&map)?;
        let region = m.regions.remove(&at)?;
        if let Some(o) = self.owners.get_mut(&m.owner) {
            o.regions -= 1;
        }
        if let Some(d) = self.dataspaces.get_mut(&region.dataspace) {
            d.users.remove(&(map, at));
        }
        Some(region)
    }

    /// Detaches a region, with all that follows; `false`: there is none.
    pub(crate) fn remove(&mut self, map: MapId, at: u64, changes: &mut Changes<P>) -> bool {
        let Some(region) = self.maps.get(&map).and_then(|m| m.regions.get(&at)) else { return false };
        let (dataspace, len) = (region.dataspace, region.len);
        self.places(map, at..at + len, &mut changes.unmap);
        if let Some(inner) = self.map_of(dataspace) {
            // Whoever waits in there may have come this way.
            let mut all = BTreeSet::new();
            self.below(inner, &mut all);
            all.into_iter().for_each(|m| self.wake(m, |_| true, changes));
        }
        self.take_out(map, at);
        self.settle(dataspace, changes);
        true
    }

    /// Those that wait in a map are to look again.
    pub(crate) fn wake(&mut self, map: MapId, which: impl Fn(&Fault) -> bool, changes: &mut Changes<P>) {
        let Some(m) = self.maps.get_mut(&map) else { return };
        let (go, stay) = m.faults.drain(..).partition::<Vec<_>, _>(which);
        m.faults = stay;
        for fault in go {
            self.waiting.remove(&fault.waiter);
            changes.retry.push(fault.waiter);
        }
    }
}

impl<P: Copy> Dataspace<P> {
    /// An address that one in a map should be like.
    fn like(&self, offset: u64) -> u64 {
        match self.content {
            Content::Ram(frames, _) | Content::Rom(frames) | Content::Device(frames) => {
                frames.start.wrapping_add(offset)
            }
            Content::Managed(_) | Content::Gone => offset,
        }
    }
}

fn within<P>(a: &Attach, d: &Dataspace<P>) -> Result<u64, AttachError> {
    let offset = pages("offset", a.offset, true)?;
    let len = match a.len {
        Some(len) => pages("length", len, false)?,
        None => d.size.saturating_sub(offset),
    };
    match offset.checked_add(len) {
        Some(end) if end <= d.size && len > 0 => Ok(len),
        _ => Err(AttachError::Range { offset, len, size: d.size }),
    }
}

fn rights<P>(a: &Attach, d: &Dataspace<P>, guest: bool) -> Result<Mem, AttachError> {
    let mut perms = Mem::R;
    perms.set(Mem::W, a.write);
    perms.set(if guest { Mem::XU | Mem::XS } else { Mem::XU }, a.execute);
    if a.write && a.execute && !guest {
        Err(AttachError::WriteExecute)
    } else if d.perms.contains(perms) {
        Ok(perms)
    } else {
        Err(AttachError::Rights("read-only"))
    }
}

fn place(map: &Map, at: Option<u64>, len: u64, like: u64) -> Result<u64, AttachError> {
    let Some(at) = at else { return map.hole(len, like).ok_or(AttachError::NoHole(len)) };
    pages("address", at, true)?;
    let Range { start, end } = map.bounds;
    let range = match at.checked_add(len) {
        Some(behind) if at >= start && behind <= end => at..behind,
        _ => return Err(AttachError::Outside { at, len, start, end }),
    };
    match map.in_the_way(&range) {
        Some(Range { start, end }) => Err(AttachError::Taken { start, end }),
        None => Ok(at),
    }
}
