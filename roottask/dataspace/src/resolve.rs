//! Faults: what is at an address, and who waits for something to be there.
//!
//! Key types: [`Resolution`], [`Fault`].

use crate::books::Content;
use crate::{Changes, Component, Dataspaces, MapId, Mapped, NotThere, PAGE};
use abi::perm::Mem;
use policy::PhysRange;
use std::fmt;

/// Whose fault waits: a component's, on a CPU. There is at most one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter {
    /// The component.
    pub component: Component,
    /// The CPU.
    pub cpu: u16,
}

/// A fault that waits for something to be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Whose.
    pub waiter: Waiter,
    /// Where in the map, a whole number of pages.
    pub offset: u64,
    /// What was tried: one of R, W, XU.
    pub access: Mem,
    /// Whether who handles the map has been told.
    pub(crate) told: bool,
}

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// These frames, the page of the address among them, are to be mapped.
    Map(Mapped),
    /// Nothing.
    Unresolved {
        /// In this map.
        map: MapId,
        /// There, a whole number of pages.
        offset: u64,
        /// Whether somebody wants to be told.
        handled: bool,
    },
    /// What is there may not be used like that.
    Denied {
        /// What is allowed.
        perms: Mem,
    },
    /// A managed dataspace was there, and its owner has freed it or has ended.
    Gone,
    /// Memory of a device, which was mapped when it was attached, as far as the kernel gives it.
    Device,
    /// No region of the address space.
    Outside,
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resolution::Map(_) => f.write_str("something is attached there"),
            Resolution::Unresolved { map: MapId(map), offset, handled } => {
                let handled = if *handled { "" } else { ", which nobody handles" };
                write!(f, "unresolved in region map {map} at offset {offset:#x}{handled}")
            }
            Resolution::Denied { perms } if perms.contains(Mem::W) => f.write_str("attached, but not to be executed"),
            Resolution::Denied { .. } => f.write_str("attached, but not like that"),
            Resolution::Gone => f.write_str("in a managed dataspace whose owner has freed it or has ended"),
            Resolution::Device => f.write_str("memory of a device that the kernel keeps to itself"),
            Resolution::Outside => f.write_str("nothing is attached there"),
        }
    }
}

impl<P: Copy> Dataspaces<P> {
    /// What is at an address of a component's, for this access (one of R, W, XU).
    pub fn resolve(&self, component: Component, address: u64, access: Mem) -> Resolution {
        let Some(owner) = self.owners.get(&component) else { return Resolution::Outside };
        let virt = address & !(PAGE - 1);
        let (mut map, mut at, mut perms) = (owner.space, virt, Mem::all());
        // How far the same regions go, down and up.
        let (mut below, mut above) = (u64::MAX, u64::MAX);
        // No deeper than maps nest.
        while let Some(m) = self.maps.get(&map) {
            let Some((start, r)) = m.at(at) else {
                return match m.managed() {
                    None => Resolution::Outside,
                    Some(_) => Resolution::Unresolved { map, offset: at, handled: m.handled },
                };
            };
            perms &= r.perms;
            if !perms.contains(access) {
                return Resolution::Denied { perms };
            }
            (below, above) = (below.min(at - start), above.min(start + r.len - at));
            at = r.offset + (at - start);
            match self.dataspaces.get(&r.dataspace).map(|d| d.content) {
                Some(Content::Ram(frames, _) | Content::Rom(frames)) => {
                    let frames = PhysRange::new(frames.start + at - below, below + above);
                    return Resolution::Map(Mapped {
                        component,
                        guest: None,
                        virt: virt - below,
                        frames,
                        perms,
                        device: false,
                    });
                }
                Some(Content::Device(_)) => return Resolution::Device,
                Some(Content::Managed(inner)) => map = inner,
                Some(Content::Gone) | None => return Resolution::Gone,
            }
        }
        Resolution::Gone
    }

    /// Whether faults in a map are to wait for its handler. Without one those that wait are to look again, and fail.
    pub fn handle(&mut self, map: MapId, handled: bool) -> Result<Changes<P>, NotThere> {
        self.maps.get_mut(&map).ok_or(NotThere)?.handled = handled;
        let mut changes = Changes::default();
        if !handled {
            self.wake(map, |_| true, &mut changes);
        }
        Ok(changes)
    }

    /// Has a fault wait, if there is nothing at its address and somebody handles the map: then the map, whose handler is to
    /// be signalled. Else what is there.
    pub fn wait(&mut self, waiter: Waiter, address: u64, access: Mem) -> Result<MapId, Resolution> {
        let found = self.resolve(waiter.component, address, access);
        let Resolution::Unresolved { map, offset, handled: true } = found else { return Err(found) };
        self.forget(waiter);
        if let Some(m) = self.maps.get_mut(&map) {
            m.faults.push(Fault { waiter, offset, access, told: false });
            self.waiting.insert(waiter, map);
        }
        Ok(map)
    }

    /// A fault that waits in a map, the oldest that was not told before.
    pub fn next_fault(&mut self, map: MapId) -> Option<Fault> {
        let fault = self.maps.get_mut(&map)?.faults.iter_mut().find(|f| !f.told)?;
        fault.told = true;
        Some(*fault)
    }

    /// Who handles a map will not attach anything at this page: those that wait for that.
    pub fn refuse(&mut self, map: MapId, offset: u64) -> Result<Vec<Waiter>, NotThere> {
        let page = offset & !(PAGE - 1);
        let mut changes = Changes::<P>::default();
        if !self.maps.contains_key(&map) {
            return Err(NotThere);
        }
        self.wake(map, |f| f.offset == page, &mut changes);
        if changes.retry.is_empty() { Err(NotThere) } else { Ok(changes.retry) }
    }

    /// A fault waits no longer.
    pub fn forget(&mut self, waiter: Waiter) {
        if let Some(map) = self.waiting.remove(&waiter).and_then(|map| self.maps.get_mut(&map)) {
            map.faults.retain(|f| f.waiter != waiter);
        }
    }
}
