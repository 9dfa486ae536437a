//! Kernel objects: one file each.

pub mod account;
pub mod dma;
pub mod ec;
pub mod gst;
pub mod hst;
pub mod member;
pub mod msr;
pub mod obj;
pub mod pd;
pub mod pio;
pub mod pt;
pub mod sc;
pub mod sm;
pub mod tables;

use crate::arch::{cpu::cpu, guest};
use crate::mem::refs::{Header, Object, Progress};
use crate::mem::slab;
use cap::Kind;
use core::ptr::NonNull;

/// The CPU that has to end (`doomed`) or destroy an object, if that is another one: an EC is known to registers and
/// per-CPU data, an SC to queues, and a portal to its EC, as long as somebody is inside.
///
/// # Safety
/// `object` is the header of an object of that kind that nobody has freed.
pub unsafe fn home(kind: Kind, object: NonNull<Header>, doomed: bool) -> Option<u16> {
    // SAFETY: by the caller.
    let home = unsafe {
        match kind {
            Kind::Ec => object.cast::<ec::Ec>().as_ref().home(),
            Kind::Sc if doomed => object.cast::<sc::Sc>().as_ref().ipc.ec.home(),
            Kind::Pt => object.cast::<pt::Pt>().as_ref().ec.home(),
            _ => return None,
        }
    };
    (home != cpu().id.get()).then_some(home)
}

/// Ends an object that is being destroyed: what it does, and who waits for it. On its CPU.
///
/// # Safety
/// `object` is the header of an object of that kind, which stays.
pub unsafe fn end(kind: Kind, object: NonNull<Header>) -> Progress {
    // SAFETY: by the caller.
    unsafe {
        match kind {
            Kind::Ec => ipc::end(object.cast::<ec::Ec>().as_ref()),
            Kind::Sc => object.cast::<sc::Sc>().as_ref().end(),
            Kind::Pt => object.cast::<pt::Pt>().as_ref().end(),
            Kind::Sm => return object.cast::<sm::Sm>().as_ref().close(),
            Kind::Gst | Kind::Pio | Kind::Msr => guest::note_space_gone(),
            Kind::Obj => object.cast::<obj::ObjSpace>().as_ref().close(),
            Kind::Hst => object.cast::<hst::HstSpace>().as_ref().close(),
            Kind::Pd | Kind::Dma | Kind::Account => {}
        }
    }
    Progress::Done
}

/// Takes an object apart, a portion at each call: what is left is a shell. On its CPU.
///
/// # Safety
/// 1. `object` is the header of an object of that kind. No capability leads to it, and it is ended if it ever did something.
/// 2. This is a quiescent point, and all CPUs have passed one since: no reference to it is in use.
pub unsafe fn strip(kind: Kind, object: NonNull<Header>) -> Progress {
    // SAFETY: by the caller.
    unsafe {
        match kind {
            Kind::Pd => object.cast::<pd::Pd>().as_ref().strip(),
            Kind::Ec => object.cast::<ec::Ec>().as_ref().strip(),
            Kind::Obj => object.cast::<obj::ObjSpace>().as_ref().strip(),
            Kind::Hst => object.cast::<hst::HstSpace>().as_ref().strip(),
            Kind::Gst => object.cast::<gst::GstSpace>().as_ref().strip(),
            Kind::Pio => object.cast::<pio::PioSpace>().as_ref().strip(),
            Kind::Msr => object.cast::<msr::MsrSpace>().as_ref().strip(),
            Kind::Dma => object.cast::<dma::DmaSpace>().as_ref().strip(),
            Kind::Pt => object.cast::<pt::Pt>().as_ref().strip(),
            Kind::Sc | Kind::Sm | Kind::Account => Progress::Done,
        }
    }
}

/// Drops an object that was taken apart, and gives its cell back.
///
/// # Safety
/// 1. `object` is the header of an object of that kind, made by `Room::fill`, and its count is zero.
/// 2. This is a quiescent point: no reference to it is in use.
pub unsafe fn free(kind: Kind, object: NonNull<Header>) {
    // SAFETY: (1) gives the type, (2) that nobody looks.
    unsafe {
        match kind {
            Kind::Pd => free_as::<pd::Pd>(object),
            Kind::Ec => free_as::<ec::Ec>(object),
            Kind::Sc => free_as::<sc::Sc>(object),
            Kind::Pt => free_as::<pt::Pt>(object),
            Kind::Sm => free_as::<sm::Sm>(object),
            Kind::Obj => free_as::<obj::ObjSpace>(object),
            Kind::Hst => free_as::<hst::HstSpace>(object),
            Kind::Gst => free_as::<gst::GstSpace>(object),
            Kind::Pio => free_as::<pio::PioSpace>(object),
            Kind::Msr => free_as::<msr::MsrSpace>(object),
            Kind::Dma => free_as::<dma::DmaSpace>(object),
            Kind::Account => free_as::<account::Account>(object),
        }
    }
}

/// # Safety
/// As [`free`], with the right type.
unsafe fn free_as<T: Object>(object: NonNull<Header>) {
    let p = object.cast::<T>();
    // SAFETY: by the caller.
    unsafe {
        p.drop_in_place();
        slab::free(p);
    }
}

/// Implements [`Object`], and [`member::Joins`] for objects that can be members of a PD.
macro_rules! kernel_object {
    ($t:ty, $k:ident, member) => {
        kernel_object!($t, $k);
        impl crate::object::member::Joins for $t {
            fn member(&self) -> &Member {
                &self.member
            }
        }
    };
    ($t:ty, $k:ident) => {
        const _: () = assert!(align_of::<$t>() as u64 >= cap::OBJECT_ALIGN);
        const _: () = assert!(core::mem::offset_of!($t, header) == 0);
        // SAFETY: checked above; made by `Room::fill` only; the type's own documentation says who touches what.
        unsafe impl crate::mem::refs::Object for $t {
            const KIND: cap::Kind = cap::Kind::$k;
        }
        // SAFETY: as above: what is not atomic or locked is touched by the object's own CPU only.
        unsafe impl Sync for $t {}
    };
}
pub(crate) use kernel_object;
