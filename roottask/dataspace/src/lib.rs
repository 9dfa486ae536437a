//! Memory that components share: *dataspaces*, and *region maps* that say what is where.
//!
//! A dataspace is RAM, whose frames somebody pays for; a boot module, which nobody writes; or a region map, which makes it a
//! *managed* one. Each component has a region map that is its address space; a managed dataspace is attached like any
//! other, so maps nest. What is attached in an address space is mapped at once, and what is attached in a managed
//! dataspace when a fault shows that it is needed ([`Dataspaces::resolve`]). A fault where nothing is attached can be left
//! to whoever handles the map ([`Dataspaces::wait`]). The memory of a guest is a map beside that of its component
//! ([`Dataspaces::guest`]).
//!
//! Frames go back when nobody has them attached any more and their owner does not want them or has died. All that changes
//! says what is to be unmapped first ([`Changes`]). Nothing here touches hardware, and nothing panics on any input.
//!
//! Key types: [`Dataspaces`], [`Changes`], [`Resolution`]. `core` carries out what follows.
#![forbid(unsafe_code)]

mod attach;
mod books;
mod error;
mod map;
mod resolve;

pub use attach::{Attach, Attached, Mapped};
pub use books::{Changes, Component, DataspaceId, Dataspaces, Kind, Released, Unmapped, View};
pub use error::{AttachError, CreateError, NotThere};
pub use map::{MapId, Region};
pub use resolve::{Fault, Resolution, Waiter};

/// Bytes of a page.
pub const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Most dataspaces of a component, managed ones included.
pub const MAX_DATASPACES: usize = 128;
/// Most managed dataspaces of a component.
pub const MAX_MAPS: usize = 16;
/// Most guests of a component.
pub const MAX_GUESTS: usize = 16;
/// Most regions in the maps of a component, its address space included.
pub const MAX_REGIONS: usize = 256;
/// Most regions of one map that are managed dataspaces.
pub const MAX_NESTED: usize = 16;
/// Most managed dataspaces one in the other.
pub const MAX_DEPTH: usize = 3;
/// Most ways from what is attached in a managed dataspace to where it can be seen.
pub const MAX_PLACES: usize = 64;
/// Most regions, of whichever maps, that show one dataspace.
pub const MAX_USERS: usize = 64;
