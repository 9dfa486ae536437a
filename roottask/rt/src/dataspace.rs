//! Dataspaces in the own address space: RAM from the own quota, and memory that others share.
//!
//! Key types: [`Attached`]; [`Private`], RAM that nobody else sees. [`pd`] and [`rm`] are the own protection domain and address space at core. Their objects, and those
//! that they make, live on the first CPU.

use crate::domain;
use crate::rpc::Portal;
use abi::{PAGE_SIZE, Status};
use core::sync::atomic::AtomicU64;
use parent::sel;
use rpc::{Cap, Error};
use services::dataspace::Kind;
use services::pd::NoQuota;
use services::rm::{Attr, NotAttached};
use services::{Dataspace, DataspaceClient, PdClient, RmClient};

/// The own protection domain.
pub fn pd() -> PdClient<Portal> {
    PdClient::new(Portal::to(Cap::<dyn services::Pd>::from_sel(sel::PD_SESSION)))
}

/// The own address space.
pub fn rm() -> RmClient<Portal> {
    RmClient::new(Portal::to(Cap::<dyn services::Rm>::from_sel(sel::RM_SESSION)))
}

/// Why nothing is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The call did not come to an answer.
    Call(Error),
    /// Core refuses.
    Refused(NotAttached),
}

impl core::fmt::Display for AttachError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AttachError::Call(e) => e.fmt(f),
            AttachError::Refused(e) => e.fmt(f),
        }
    }
}

/// A part of a dataspace in the own address space, until this value goes.
#[derive(Debug)]
pub struct Attached {
    at: u64,
    len: u64,
    rom: bool,
}

/// Attaches a dataspace. The root task has no address space of that kind.
pub fn attach(dataspace: Cap<dyn Dataspace>, attr: Attr) -> Result<Attached, AttachError> {
    if domain::is_root() {
        return Err(AttachError::Call(Error::Kernel(Status::BadFtr)));
    }
    let object = DataspaceClient::new(Portal::to(dataspace));
    let kind = object.kind().map_err(AttachError::Call)?;
    let len = match attr.size {
        0 => object.size().map_err(AttachError::Call)?.saturating_sub(attr.offset),
        size => size,
    };
    // Whatever it says it is: core has attached so much, and nothing that is not core's.
    let at = rm().attach(dataspace, Attr { size: len, ..attr }).map_err(AttachError::Call)?;
    let at = at.map_err(AttachError::Refused)?;
    Ok(Attached { at, len, rom: kind == Kind::Rom })
}

impl Attached {
    /// Its first address.
    pub fn address(&self) -> u64 {
        self.at
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.len as usize
    }

    /// Its words, which others may change at any time. Who stores to what is attached to be read faults, and so does who looks
    /// at what its owner has withdrawn.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: attached at whole pages for as long as `self`, and used by atomics only; a page that is not there ends the
        // component.
        unsafe { core::slice::from_raw_parts(self.at as *const AtomicU64, (self.len / 8) as usize) }
    }

    /// The bytes of a ROM dataspace, which nobody writes. `None`: it is another one.
    pub fn bytes(&self) -> Option<&[u8]> {
        // SAFETY: as above, and core lets nobody write it.
        self.rom.then(|| unsafe { core::slice::from_raw_parts(self.at as *const u8, self.len as usize) })
    }
}

/// RAM from the own quota, zeroed, attached here. When it goes it is withdrawn, wherever else it is attached.
#[derive(Debug)]
pub(crate) struct Ram {
    /// Goes first: where it was, something else may be attached as soon as the RAM is withdrawn.
    pub(crate) attached: Attached,
    owned: Owned,
}

#[derive(Debug)]
struct Owned(Cap<dyn Dataspace>);

impl Ram {
    /// So many bytes, whole pages.
    pub(crate) fn new(size: u64) -> Result<Ram, AllocError> {
        let owned = Owned(pd().alloc(size).map_err(AllocError::Call)?.map_err(AllocError::Refused)?);
        let attached = attach(owned.0, Attr::WRITE).map_err(AllocError::Attach)?;
        Ok(Ram { attached, owned })
    }

    /// To be given to others.
    pub(crate) fn cap(&self) -> Cap<dyn Dataspace> {
        self.owned.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = pd().withdraw(self.0);
    }
}

/// RAM from the own quota, zeroed, that nobody else sees, until this value goes. What clients have donated can be used so.
#[derive(Debug)]
pub struct Private(Ram);

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocError {
    /// The call did not come to an answer.
    Call(Error),
    /// The quota does not suffice, or the machine has no such memory.
    Refused(NoQuota),
    /// It cannot be attached.
    Attach(AttachError),
}

impl core::fmt::Display for AllocError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AllocError::Call(e) => e.fmt(f),
            AllocError::Refused(e) => e.fmt(f),
            AllocError::Attach(e) => e.fmt(f),
        }
    }
}

impl Private {
    /// At least so many bytes: whole pages, and not none.
    pub fn new(bytes: usize) -> Result<Private, AllocError> {
        Ram::new((bytes.max(1) as u64).next_multiple_of(PAGE_SIZE as u64)).map(Private)
    }
}

impl AsRef<[u8]> for Private {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: attached for as long as `self`, and its capability is given to nobody: by this value alone it is touched.
        unsafe { core::slice::from_raw_parts(self.0.attached.at as *const u8, self.0.attached.len as usize) }
    }
}

impl AsMut<[u8]> for Private {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.0.attached.at as *mut u8, self.0.attached.len as usize) }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // From a thread that cannot call, it stays.
        let _ = rm().detach(self.at);
    }
}
