//! The end of a component's domain, in whatever state its threads are, and of what we hold of it.
//!
//! The order matters. First its devices are silenced: nobody serves them any more. Then the kernel destroys the domain;
//! when that has returned, no thread or virtual CPU of it runs, and nothing that was mapped for it is mapped in any of its
//! spaces: the kernel has made all CPUs forget them. Then the handlers finish what they were at for it
//! ([`crate::helpers`]). Only now its selectors can name something else, and its memory go back to the book.
//!
//! Other spaces than its own cannot map that memory: to pass it on, a component needs a capability to the space, and of
//! spaces it has only its own and those that it has created, all of which end with its domain (docs/design/0015). Dataspaces
//! are counted, and what was written to it as a server of the log is printed here.

use crate::portals::Portals;
use crate::shared::Objects;
use crate::space::{self, SpaceError, Tried};
use abi::root_obj;
use rt::hypercall;

/// Ends it. With an error nothing is known of its memory, which must not be used again.
pub fn end_domain(index: usize, o: &Objects, portals: &Portals) -> Result<(), SpaceError> {
    portals.memory.leave(index);
    portals.devices.leave(index);
    release_account(o);
    if o.cage != 0 {
        space::destroy_domain(o.cage).tried("destroy its protection domain")?;
    }
    portals.helpers.flush();
    let ended = portals.memory.end(index);
    portals.pagers.take_back(ended.pagers);
    for (label, text) in ended.unread {
        portals.log.lines_of(&label, &text);
    }
    [o.cage, o.pd, o.obj, o.hst, o.pio, o.ec, o.sc].into_iter().for_each(rt::sel::free);
    Ok(())
}

/// Limit and use of its account of kernel memory, in frames, as long as its domain is there.
pub fn account(o: &Objects) -> Option<(u64, u64)> {
    hypercall::read_quota(o.pd).ok()
}

/// The kernel memory that it does not use is ours at once. Its account is only when nobody has a capability to anything of it
/// any more, and others may keep some for as long as they like.
fn release_account(o: &Objects) {
    if let Some((limit, used)) = account(o) {
        // Its threads still run: what they use meanwhile is missing, and then it is not moved.
        let _ = hypercall::move_quota(o.pd, root_obj::ROOT_PD, limit.saturating_sub(used));
    }
}
