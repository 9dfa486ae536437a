//! Memory that can be shared.

/// What a dataspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rpc::Value)]
#[repr(u8)]
pub enum Kind {
    /// RAM that somebody pays for.
    Ram = 1,
    /// A boot module.
    Rom = 2,
    /// A region map.
    Managed = 3,
    /// Memory of a device.
    Device = 4,
}

/// Memory that can be attached in region maps, by whoever has a capability to it. Nothing of it is called to share it: the
/// capability is passed on. When its owner has freed it, or has ended, calls find it gone; what is attached stays.
#[rpc::interface(version = "1.0", ram = "0", caps = 1)]
pub trait Dataspace {
    /// Its length in bytes, whole pages.
    fn size(&mut self) -> u64;
    /// Whether it can be attached to be written.
    fn writeable(&mut self) -> bool;
    /// What it is.
    fn kind(&mut self) -> Kind;
}
