//! Protection domain (spec 2.1): the spaces that its execution contexts are bound to.

use super::member::{Member, Members};
use super::{account::Account, hst::HstSpace, kernel_object, obj::ObjSpace, pio::PioSpace};
use crate::mem::refs::{Header, Held, Object, Progress, Ref};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering::*};

/// Protection domain.
#[repr(C, align(32))]
pub struct Pd {
    header: Header,
    account: Held<Account>,
    /// The account was made with it: a capability to the PD is one to the account.
    pub founder: bool,
    /// ECs, spaces and PDs that were created for it.
    pub members: Members,
    member: Member,
    /// Its object space.
    pub obj: Slot<ObjSpace>,
    /// Its host space.
    pub hst: Slot<HstSpace>,
    /// Its first PIO space: that of its host ECs.
    pub pio: Slot<PioSpace>,
}
kernel_object!(Pd, Pd, member);

/// A counted reference that is set once.
pub struct Slot<T: Object>(AtomicPtr<T>);

impl<T: Object> Slot<T> {
    const fn empty() -> Self {
        Slot(AtomicPtr::new(null_mut()))
    }

    /// `false`: it was set already.
    pub fn set(&self, r: &Ref<T>) -> bool {
        let r = r.clone();
        let p = &raw const *r as *mut T;
        let ok = self.0.compare_exchange(null_mut(), p, AcqRel, Relaxed).is_ok();
        if ok {
            core::mem::forget(r);
        }
        ok
    }

    /// A space that is destroyed counts as none.
    pub fn get(&self) -> Option<Ref<T>> {
        // SAFETY: once set it stays, counted, as long as the PD is whole.
        unsafe { self.0.load(Acquire).as_ref() }.filter(|t| !t.header().doomed()).and_then(Ref::try_from_found)
    }

    fn clear(&self) {
        if let Some(p) = NonNull::new(self.0.swap(null_mut(), AcqRel)) {
            // SAFETY: the slot owned a count.
            unsafe { crate::mem::refs::release(p.cast()) };
        }
    }
}

impl Pd {
    /// A protection domain without spaces, charged to `payer`. What it will own is charged to `account`.
    pub fn create(payer: &'static Account, account: Ref<Account>, founder: bool) -> Option<Ref<Pd>> {
        let (header, obj, hst, pio) = (Header::new(Self::KIND), Slot::empty(), Slot::empty(), Slot::empty());
        Ref::new(
            payer,
            Pd {
                header,
                account: account.into(),
                founder,
                members: Members::new(),
                member: Member::new(),
                obj,
                hst,
                pio,
            },
        )
    }

    /// Destroys what belongs to it if it is destroyed itself, and lets go of everything.
    pub fn strip(&'static self) -> Progress {
        let members = if self.header.doomed() { self.members.doom() } else { self.members.dismiss() };
        if members == Progress::Done {
            self.obj.clear();
            self.hst.clear();
            self.pio.clear();
            self.account.let_go();
            self.member.leave();
        }
        members
    }

    /// What it owns is charged to this account.
    pub fn account(&self) -> &'static Account {
        self.account.found()
    }
}
