//! Capabilities between spaces: taking from NOVA's, giving to components', and the hypercalls that make
//! threads of a domain and end one. Mapping into our own host space is in `window`.
//!
//! Key types: [`Nova`], what the root task takes at boot; [`SpaceError`].

// UNSAFETY: the hypercalls below are unsafe because they can change the caller's own memory. Each function here refuses
// the root task's own host space and protection domain, and so is safe.
#![allow(unsafe_code)]

use abi::perm::{Mem, Pio, Space};
use abi::{CreatePdOp, Mad, Sel, Status, nova_obj, root_obj};
use policy::chunks;
use rt::hypercall::{self, EcArgs};
use thiserror::Error;

/// Largest order of one `ctrl_pd`: with more the kernel would be busy for too long.
pub const MAX_ORDER: u32 = 18;

/// A step that failed.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("{what}: {status}")]
pub struct SpaceError {
    /// What was tried, in a form that continues "the kernel refused to ...".
    pub what: &'static str,
    /// The kernel's answer.
    pub status: Status,
}

/// Adds what was tried to the kernel's answer.
pub trait Tried<T> {
    /// `what` continues "the kernel refused to ...".
    fn tried(self, what: &'static str) -> Result<T, SpaceError>;
}

impl<T> Tried<T> for Result<T, Status> {
    fn tried(self, what: &'static str) -> Result<T, SpaceError> {
        self.map_err(|status| SpaceError { what, status })
    }
}

/// A free selector of our own.
pub fn free_selector() -> Result<Sel, Status> {
    rt::sel::alloc().ok_or(Status::MemCap)
}

/// The spaces that hold all resources, and our own.
#[derive(Clone, Copy, Debug)]
pub struct Nova {
    /// Physical memory, TAKE.
    pub hst: Sel,
    /// All ports, TAKE.
    pub pio: Sel,
    /// Our own host space.
    pub own_hst: Sel,
    /// Our own PIO space.
    pub own_pio: Sel,
}

impl Nova {
    /// Takes the capabilities out of the NOVA object space.
    pub fn take() -> Result<Nova, SpaceError> {
        let all = Space::all().bits();
        Ok(Nova {
            hst: take(nova_obj::NOVA_HST, Space::TAKE.bits()).tried("give its memory")?,
            pio: take(nova_obj::NOVA_PIO, Space::TAKE.bits()).tried("give its ports")?,
            own_hst: take(nova_obj::ROOT_HST, all).tried("give the root task's host space")?,
            own_pio: take(nova_obj::ROOT_PIO, all).tried("give the root task's PIO space")?,
        })
    }

    /// Frames into another host space or a guest space. All in bytes, whole pages.
    pub fn map(&self, hst: Sel, virt: u64, phys: u64, len: u64, perms: Mem) -> Result<(), Status> {
        if hst == self.own_hst {
            return Err(Status::BadPar);
        }
        let page = |a: u64| a >> abi::PAGE_BITS;
        delegate(self.hst, hst, page(phys), page(virt), page(len), perms.bits())
    }

    /// As [`map`](Self::map), cached or not; what arrives goes no further.
    pub fn map_bound(&self, hst: Sel, virt: u64, phys: u64, len: u64, perms: Mem, cached: Mad) -> Result<(), Status> {
        if hst == self.own_hst {
            return Err(Status::BadPar);
        }
        let page = |a: u64| a >> abi::PAGE_BITS;
        for c in chunks(page(phys), page(virt), page(len), MAX_ORDER) {
            // SAFETY: the host space of another PD, or a guest space.
            unsafe { hypercall::ctrl_pd_bound(self.hst, hst, c.src, c.dst, c.order, perms.bits(), cached)? };
        }
        Ok(())
    }

    /// Ports into a PIO space, also our own.
    pub fn give_ports(&self, pio: Sel, first: u16, count: u32) -> Result<(), Status> {
        delegate(self.pio, pio, first.into(), first.into(), count.into(), Pio::A.bits())
    }

    /// Takes ports out of a PIO space.
    pub fn take_ports(&self, pio: Sel, first: u16, count: u32) -> Result<(), Status> {
        delegate(self.pio, pio, first.into(), first.into(), count.into(), 0)
    }
}

/// A capability from the NOVA object space to a free selector of ours.
pub fn take(nova: Sel, pmm: u8) -> Result<Sel, Status> {
    let sel = free_selector()?;
    delegate(root_obj::NOVA_OBJ, root_obj::ROOT_OBJ, nova, sel, 1, pmm).inspect_err(|_| rt::sel::free(sel))?;
    Ok(sel)
}

/// One object capability of ours to `to` in another object space.
pub fn give(obj: Sel, own: Sel, to: Sel, pmm: u8) -> Result<(), Status> {
    delegate(root_obj::ROOT_OBJ, obj, own, to, 1, pmm)
}

/// `count` object capabilities of ours to `to` in another object space.
pub fn give_range(obj: Sel, own: Sel, to: Sel, count: u64, pmm: u8) -> Result<(), Status> {
    delegate(root_obj::ROOT_OBJ, obj, own, to, count, pmm)
}

/// Ends another protection domain: its threads, its spaces, and the domains that were created for it.
pub fn destroy_domain(pd: Sel) -> Result<(), Status> {
    if pd == root_obj::ROOT_PD {
        return Err(Status::BadPar);
    }
    // SAFETY: it is not our own PD, and nothing of ours is in its spaces.
    unsafe { hypercall::destroy(pd) }
}

/// A guest space of another domain; destroyed when it goes, with the virtual CPUs that it is assigned to.
#[derive(Debug)]
pub struct Guest(Sel);

impl Guest {
    /// An empty one, which ends with the domain at the latest. [`Status::BadFtr`]: the machine runs no guests.
    pub fn new(pd: Sel) -> Result<Guest, Status> {
        let sel = free_selector()?;
        hypercall::create_pd(CreatePdOp::Gst, sel, pd).inspect_err(|_| rt::sel::free(sel))?;
        Ok(Guest(sel))
    }

    /// Its selector.
    pub fn sel(&self) -> Sel {
        self.0
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // SAFETY: a guest space, and no part of our own domain. It may have gone with its own.
        let _ = unsafe { hypercall::destroy(self.0) };
        rt::sel::free(self.0);
    }
}

/// One object capability of another object space to a free selector of ours.
pub fn take_from(obj: Sel, theirs: Sel, pmm: u8) -> Result<Sel, Status> {
    let sel = free_selector()?;
    delegate(obj, root_obj::ROOT_OBJ, theirs, sel, 1, pmm).inspect_err(|_| rt::sel::free(sel))?;
    Ok(sel)
}

/// A global EC of another protection domain.
pub fn create_component_ec(sel: Sel, pd: Sel, args: EcArgs) -> Result<(), Status> {
    if pd == root_obj::ROOT_PD {
        return Err(Status::BadPar);
    }
    // SAFETY: it is not our own PD, so neither its UTCB page nor its stack is in our memory.
    unsafe { hypercall::create_ec(sel, pd, args) }
}

/// Not for memory into our own host space: all callers in this file see to that.
fn delegate(src: Sel, dst: Sel, from: u64, to: u64, count: u64, pmm: u8) -> Result<(), Status> {
    for c in chunks(from, to, count, MAX_ORDER) {
        // SAFETY: `dst` is an object or PIO space, or the host space of another PD.
        unsafe { hypercall::ctrl_pd(src, dst, c.src, c.dst, c.order, pmm, Mad::WB)? };
    }
    Ok(())
}
