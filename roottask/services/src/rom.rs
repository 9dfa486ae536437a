//! Modules that are read: boot modules, files, reports.

use crate::Dataspace;
use rpc::{Cap, Signal};

/// A module, as it is now. The session's label says which; of boot modules its last element does.
///
/// What changes, or has to be copied to be shown, is a copy for this session, which its donation pays for: whole pages.
#[rpc::interface(version = "1.0", ram = "0", caps = 2)]
pub trait Rom {
    /// What is in it, to be read; none if there is nothing yet, or no more, or if `size` is not 0 and the session has donated
    /// too little: then there is something after an upgrade. It stays until `update` or the end of the session.
    fn dataspace(&mut self) -> Option<Cap<dyn Dataspace>>;
    /// Length of the content in bytes: the dataspace ends with the page.
    fn size(&mut self) -> u64;
    /// What is raised when there is something new. A boot module never is.
    fn sigh(&mut self, signal: Signal);
    /// Takes what is new. True: it is in the same dataspace; false: `dataspace` has another one.
    fn update(&mut self) -> bool;
}
