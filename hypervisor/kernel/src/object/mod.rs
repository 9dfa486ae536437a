//! Kernel objects: one file each.

pub mod account;
pub mod dma;
pub mod ec;
pub mod gst;
pub mod hst;
pub mod msr;
pub mod obj;
pub mod pd;
pub mod pio;
pub mod pt;
pub mod sc;
pub mod sm;
pub mod tables;

use crate::arch::cpu::cpu;
use crate::mem::refs::{Header, Object};
use crate::mem::slab;
use cap::Kind;
use core::ptr::NonNull;

/// The CPU that has to destroy an object, if that is another one: an EC is known to registers and per-CPU data.
///
/// # Safety
/// As [`destroy`].
pub unsafe fn home(kind: Kind, object: NonNull<Header>) -> Option<u16> {
    if kind != Kind::Ec {
        return None;
    }
    // SAFETY: by the caller.
    let home = unsafe { object.cast::<ec::Ec>().as_ref() }.cpu;
    (home != cpu().id.get()).then_some(home)
}

/// Drops an object and gives its cell back.
///
/// # Safety
/// 1. `object` is the header of an object of that kind, made by `Room::fill`, and its count is zero.
/// 2. This is a quiescent point: no reference to it is in use.
pub unsafe fn destroy(kind: Kind, object: NonNull<Header>) {
    // SAFETY: (1) gives the type, (2) that nobody looks.
    unsafe {
        match kind {
            Kind::Pd => free::<pd::Pd>(object),
            Kind::Ec => free::<ec::Ec>(object),
            Kind::Sc => free::<sc::Sc>(object),
            Kind::Pt => free::<pt::Pt>(object),
            Kind::Sm => free::<sm::Sm>(object),
            Kind::Obj => free::<obj::ObjSpace>(object),
            Kind::Hst => free::<hst::HstSpace>(object),
            Kind::Gst => free::<gst::GstSpace>(object),
            Kind::Pio => free::<pio::PioSpace>(object),
            Kind::Msr => free::<msr::MsrSpace>(object),
            Kind::Dma => free::<dma::DmaSpace>(object),
            Kind::Account => free::<account::Account>(object),
        }
    }
}

/// # Safety
/// As [`destroy`], with the right type.
unsafe fn free<T: Object>(object: NonNull<Header>) {
    let p = object.cast::<T>();
    // SAFETY: by the caller.
    unsafe {
        p.drop_in_place();
        slab::free(p);
    }
}

/// Implements [`Object`].
macro_rules! kernel_object {
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
