//! Protection domain (spec 2.1): the spaces that its execution contexts are bound to.

use super::{account::Account, hst::HstSpace, kernel_object, obj::ObjSpace, pio::PioSpace};
use crate::mem::refs::{Header, Object, Ref};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::*};

/// Protection domain.
#[repr(C, align(32))]
pub struct Pd {
    header: Header,
    account: Ref<Account>,
    /// The account was made with it: a capability to the PD is one to the account.
    pub founder: bool,
    obj: Slot<ObjSpace>,
    hst: Slot<HstSpace>,
    pio: Slot<PioSpace>,
}
kernel_object!(Pd, Pd);

/// A counted reference that is set once.
struct Slot<T: Object>(AtomicPtr<T>);

impl<T: Object> Slot<T> {
    const fn empty() -> Self {
        Slot(AtomicPtr::new(null_mut()))
    }

    /// `false`: it was set already.
    fn set(&self, r: Ref<T>) -> bool {
        let p = &raw const *r as *mut T;
        let ok = self.0.compare_exchange(null_mut(), p, AcqRel, Relaxed).is_ok();
        if ok {
            core::mem::forget(r);
        }
        ok
    }

    fn get(&self) -> Option<Ref<T>> {
        // SAFETY: once set it stays, counted, as long as the PD.
        unsafe { self.0.load(Acquire).as_ref() }.map(Ref::from_found)
    }
}

impl<T: Object> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(p) = core::ptr::NonNull::new(*self.0.get_mut()) {
            // SAFETY: the slot owns a count.
            unsafe { crate::mem::refs::release(p.cast()) };
        }
    }
}

impl Pd {
    /// A protection domain without spaces, charged to `payer`. What it will own is charged to `account`.
    pub fn create(payer: &'static Account, account: Ref<Account>, founder: bool) -> Option<Ref<Pd>> {
        let (header, obj, hst, pio) = (Header::new(Self::KIND), Slot::empty(), Slot::empty(), Slot::empty());
        Ref::new(payer, Pd { header, account, founder, obj, hst, pio })
    }

    /// What it owns is charged to this account.
    pub fn account(&self) -> &'static Account {
        self.account.found()
    }

    /// Its object space.
    pub fn obj(&self) -> Option<Ref<ObjSpace>> {
        self.obj.get()
    }

    /// Its host space.
    pub fn hst(&self) -> Option<Ref<HstSpace>> {
        self.hst.get()
    }

    /// Its first PIO space.
    pub fn pio(&self) -> Option<Ref<PioSpace>> {
        self.pio.get()
    }

    /// Binds the object space; `false` if there is one.
    pub fn bind_obj(&self, s: &Ref<ObjSpace>) -> bool {
        self.obj.set(s.clone())
    }

    /// Binds the host space; `false` if there is one.
    pub fn bind_hst(&self, s: &Ref<HstSpace>) -> bool {
        self.hst.set(s.clone())
    }

    /// Makes `s` the PIO space of host ECs if there is none yet.
    pub fn bind_pio(&self, s: &Ref<PioSpace>) {
        self.pio.set(s.clone());
    }
}
