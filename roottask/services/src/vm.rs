//! Guests: what a component needs before it can have one.

use crate::Dataspace;
use crate::rm::{Attr, NotAttached, NotThere};
use abi::{Sel, perm};
use rpc::{Bad, Cap, Reader, Value, Writer};

/// A guest space, with the right to assign it to virtual CPUs, and no other: a selector of one's own object space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestSpace(pub Sel);

impl Value for GuestSpace {
    const WORDS: usize = 0;
    const ITEMS: usize = 1;
    fn put(&self, to: &mut Writer<'_>) {
        to.item(self.0, perm::Space::ASSIGN.bits());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.item().map(GuestSpace)
    }
}

/// The guest-physical memory of one guest. When the session is closed it is gone, and with it the virtual CPUs that it is
/// assigned to.
#[rpc::interface(version = "1.0", ram = "0", caps = 2)]
pub trait Vm {
    /// The space itself, for virtual CPUs.
    fn space(&mut self) -> GuestSpace;
    /// Shows the guest a part of a dataspace at guest-physical address `attr.at`, whether or not `attr.use_at`. It may be
    /// writeable and executable at the same time, and may not be a managed one.
    fn attach(&mut self, dataspace: Cap<dyn Dataspace>, attr: Attr) -> Result<(), NotAttached>;
    /// Takes away the region that starts at that guest-physical address.
    fn detach(&mut self, at: u64) -> Result<(), NotThere>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{Arrival, Item, UTCB_WORDS};

    #[test]
    fn a_guest_space_can_be_assigned_and_not_be_filled() {
        let mut words = [0; UTCB_WORDS];
        let mut to = Writer::new(&mut words);
        GuestSpace(0x123).put(&mut to);
        assert_eq!(to.written(), (0, 1));
        let item = Item(words[Item::word(0)]);
        assert_eq!((item.sel(), item.perms()), (0x123, perm::Space::ASSIGN.bits()));
        words[Item::word(0)] = Item::arrived(0x77, Arrival::New, perm::Space::ASSIGN.bits()).0;
        assert_eq!(GuestSpace::take(&mut Reader::of_utcb(&words, 0, 1)), Ok(GuestSpace(0x77)));
        assert_eq!(GuestSpace::take(&mut Reader::of_utcb(&words, 0, 0)), Err(Bad::Capability));
    }
}
