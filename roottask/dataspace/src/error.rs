//! What is refused, and why. Figures are in bytes but where they count.

use crate::{MAX_DATASPACES, MAX_DEPTH, MAX_GUESTS, MAX_MAPS, MAX_NESTED, MAX_PLACES, MAX_REGIONS, MAX_USERS};
use init::human;
use thiserror::Error;

/// Why there is no new dataspace.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// The component has ended, or was never there.
    #[error("the component has ended")]
    Ended,
    /// It has as many as it may.
    #[error("it has {MAX_DATASPACES} dataspaces, and may have no more")]
    Dataspaces,
    /// It has as many managed ones as it may.
    #[error("it has {MAX_MAPS} managed dataspaces, and may have no more")]
    Maps,
    /// It has the memory of as many guests as it may.
    #[error("it has the memory of {MAX_GUESTS} guests, and may have no more")]
    Guests,
    /// Nothing, no whole pages, or more than there are addresses.
    #[error("{0:#x} bytes are no whole pages, none, or more than there are")]
    Size(u64),
}

/// Why something is not attached. Nothing has changed then.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum AttachError {
    /// There is no such map, or its owner has ended.
    #[error("there is no such region map")]
    NoMap,
    /// There is no such dataspace, or its owner has freed it or ended.
    #[error("there is no such dataspace any more")]
    NoDataspace,
    /// Address, offset or length are not multiples of a page, or the length is 0.
    #[error("{what} {value:#x} is not a whole number of pages, or none")]
    Pages {
        /// Which of them.
        what: &'static str,
        /// What it is.
        value: u64,
    },
    /// The dataspace ends before that.
    #[error("{} from offset {offset:#x} are not in the dataspace, which has {}", human(*.len), human(*.size))]
    Range {
        /// Offset in the dataspace.
        offset: u64,
        /// Length that was asked for.
        len: u64,
        /// Length of the dataspace.
        size: u64,
    },
    /// The map does not reach there.
    #[error("{} at {at:#x} are not in the map, which is from {start:#x} to {end:#x}", human(*.len))]
    Outside {
        /// Where.
        at: u64,
        /// Length of the region.
        len: u64,
        /// First address of the map.
        start: u64,
        /// First address behind it.
        end: u64,
    },
    /// Something else is there.
    #[error("there is a region from {start:#x} to {end:#x} already")]
    Taken {
        /// First address of that.
        start: u64,
        /// First address behind it.
        end: u64,
    },
    /// The map has no hole of that size.
    #[error("there is no hole of {} in the map", human(*.0))]
    NoHole(u64),
    /// The dataspace cannot be written, or not be executed.
    #[error("the dataspace may not be attached like that: it is {0}")]
    Rights(&'static str),
    /// Writable and executable at the same time.
    #[error("a region is writable or executable, not both")]
    WriteExecute,
    /// A managed dataspace in the memory of a guest, whose faults are not core's.
    #[error("a managed dataspace cannot be attached in the memory of a guest")]
    Managed,
    /// The map would be in itself.
    #[error("the map would be in itself")]
    Cycle,
    /// Managed dataspaces in each other.
    #[error("more than {MAX_DEPTH} managed dataspaces would be in each other")]
    Depth,
    /// Managed dataspaces in one map.
    #[error("the map has {MAX_NESTED} managed dataspaces in it, and may have no more")]
    Nested,
    /// Device memory in a managed dataspace.
    #[error("memory of a device is attached in address spaces only")]
    Device,
    /// Places where something would be seen.
    #[error("something would be seen at more than {MAX_PLACES} places")]
    Places,
    /// Regions of the map's owner.
    #[error("the owner of the map has {MAX_REGIONS} regions, and may have no more")]
    Regions,
    /// Regions of the dataspace.
    #[error("the dataspace is attached {MAX_USERS} times, and may not be more often")]
    Users,
}

/// There is nothing of that kind there, or it is another component's.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("there is none, or it is another component's")]
pub struct NotThere;
