//! One region map: which addresses are taken, and by what.
//!
//! Key types: [`Region`], [`Map`].

use crate::resolve::Fault;
use crate::{Component, DataspaceId, PAGE};
use abi::perm::Mem;
use std::collections::BTreeMap;
use std::ops::Range;

/// Regions of this size are placed so that large pages can map them.
const LARGE: u64 = 2 << 20;

/// A region map; never another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapId(pub(crate) u64);

/// A part of a dataspace in a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// What is there.
    pub dataspace: DataspaceId,
    /// First byte of it that is.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// What can be done there, if the dataspace, and all maps around it, allow it.
    pub perms: Mem,
}

/// What a region map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapKind {
    /// The address space of its owner.
    Space,
    /// The memory of a guest.
    Guest,
    /// This dataspace.
    Managed(DataspaceId),
}

#[derive(Debug)]
pub(crate) struct Map {
    pub owner: Component,
    /// What the map is.
    pub kind: MapKind,
    /// Addresses that can be taken.
    pub bounds: Range<u64>,
    /// By their first addresses; disjoint.
    pub regions: BTreeMap<u64, Region>,
    /// Whether somebody wants to be told of faults.
    pub handled: bool,
    /// Those that wait.
    pub faults: Vec<Fault>,
}

impl Map {
    pub fn new(owner: Component, kind: MapKind, bounds: Range<u64>) -> Map {
        Map { owner, kind, bounds, regions: BTreeMap::new(), handled: false, faults: Vec::new() }
    }

    /// The dataspace that the map is.
    pub fn managed(&self) -> Option<DataspaceId> {
        if let MapKind::Managed(dataspace) = self.kind { Some(dataspace) } else { None }
    }

    /// Whether it is the memory of a guest.
    pub fn is_guest(&self) -> bool {
        self.kind == MapKind::Guest
    }

    /// The region of an address, and where it starts.
    pub fn at(&self, address: u64) -> Option<(u64, &Region)> {
        let (&start, region) = self.regions.range(..=address).next_back()?;
        (address - start < region.len).then_some((start, region))
    }

    /// A region that has an address of the range.
    pub fn in_the_way(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let (&start, region) = self.regions.range(..range.end).next_back()?;
        (start + region.len > range.start).then(|| start..start + region.len)
    }

    /// Lowest address for `len` bytes that differs from `like`, an address of the frames or an offset, by a multiple of
    /// a large page if they are that many. At least a page between regions stays free.
    pub fn hole(&self, len: u64, like: u64) -> Option<u64> {
        let fit = |from: u64| {
            if len < LARGE {
                return Some(from);
            }
            let up = like.wrapping_sub(from) % LARGE;
            from.checked_add(up)
        };
        let mut from = self.bounds.start;
        for (&start, region) in &self.regions {
            let fits =
                |at: &u64| at.checked_add(len).and_then(|end| end.checked_add(PAGE)).is_some_and(|end| end <= start);
            if let Some(at) = fit(from).filter(fits) {
                return Some(at);
            }
            from = start + region.len + PAGE;
        }
        fit(from).filter(|at| at.checked_add(len).is_some_and(|end| end <= self.bounds.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(regions: &[(u64, u64)]) -> Map {
        let mut map = Map::new(Component(1), MapKind::Space, 0x1000..0x100_0000);
        for &(start, len) in regions {
            let region = Region { dataspace: DataspaceId(1), offset: 0, len, perms: Mem::R };
            map.regions.insert(start, region);
        }
        map
    }

    #[test]
    fn addresses_belong_to_the_region_around_them() {
        let m = map(&[(0x2000, 0x2000), (0x8000, 0x1000)]);
        let at = |a| m.at(a).map(|(start, _)| start);
        assert_eq!([at(0x1fff), at(0x2000), at(0x3fff), at(0x4000)], [None, Some(0x2000), Some(0x2000), None]);
        assert_eq!(m.in_the_way(&(0x4000..0x8000)), None);
        assert_eq!(m.in_the_way(&(0x3000..0x8000)), Some(0x2000..0x4000));
        assert_eq!(m.in_the_way(&(0x4000..0x9000)), Some(0x8000..0x9000));
    }

    #[test]
    fn holes_leave_a_page_between_regions() {
        assert_eq!(map(&[]).hole(0x1000, 0), Some(0x1000));
        let m = map(&[(0x1000, 0x1000), (0x4000, 0x1000)]);
        assert_eq!(m.hole(0x1000, 0), Some(0x6000), "0x3000 would touch the next one");
        let m = map(&[(0x1000, 0x1000), (0x5000, 0x1000)]);
        assert_eq!(m.hole(0x1000, 0), Some(0x3000));
        assert_eq!(m.hole(0xff_f000, 0), None);
        assert_eq!(m.hole(!0xfff, 0), None);
    }

    #[test]
    fn large_ones_lie_as_their_frames_do() {
        let m = map(&[]);
        assert_eq!(m.hole(LARGE, 0x4567_8000), Some(0x7_8000));
        assert_eq!(m.hole(LARGE, 0), Some(LARGE));
        assert_eq!(m.hole(LARGE - PAGE, 0x4567_8000), Some(0x1000));
    }
}
