//! Object space (spec 2.1.1): selectors to capabilities, a two-level table.

use super::{account::Account, kernel_object};
use crate::mem::pool::{self, Page};
use crate::mem::refs::{self, Header, Object, Ref, account_of};
use abi::Sel;
use cap::{Cap, FANOUT};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

type Leaf = [AtomicU64; FANOUT];

/// Object space. Look-ups take no lock; a slot is changed by one atomic exchange.
#[repr(C, align(32))]
pub struct ObjSpace {
    header: Header,
    root: Page,
}
kernel_object!(ObjSpace, Obj);

/// A slot cannot be filled because its table frame cannot be allocated.
pub struct NoMemory;

/// Room for the capability at a selector: the table frame that it needs if there is none yet. It goes back if unused.
pub struct Room(Option<Page>);

impl ObjSpace {
    /// An empty one.
    pub fn create(a: &'static Account) -> Option<Ref<ObjSpace>> {
        Ref::new(a, ObjSpace { header: Header::new(Self::KIND), root: Page::new(a)? })
    }

    fn root(&self) -> &[AtomicPtr<Leaf>; FANOUT] {
        // SAFETY: the frame lives as long as the space; zeroed pointers are null.
        unsafe { self.root.at().as_ref() }
    }

    fn leaf(&self, i: usize) -> Option<&Leaf> {
        // SAFETY: leaf frames stay as long as the space.
        unsafe { self.root()[i].load(Acquire).as_ref() }
    }

    /// The capability at `sel`; null if there is none or the selector is out of range.
    pub fn get(&self, sel: Sel) -> Cap {
        let Some((i, j)) = cap::index(sel) else { return Cap::NULL };
        self.leaf(i).map_or(Cap::NULL, |l| Cap(l[j].load(Acquire)))
    }

    /// The object at `sel` if it is a `T` and the capability has all of `perms`.
    pub fn find<T: Object>(&self, sel: Sel, perms: u8) -> Option<&'static T> {
        resolve(self.get(sel), perms)
    }

    /// Finds room for `sel`, so that [`ObjSpace::put`] cannot fail. Changes nothing.
    pub fn reserve(&self, sel: Sel) -> Result<Room, NoMemory> {
        let (i, _) = cap::index(sel).ok_or(NoMemory)?;
        if self.leaf(i).is_some() {
            return Ok(Room(None));
        }
        Ok(Room(Some(Page::new(account_of(self)).ok_or(NoMemory)?)))
    }

    /// Makes use of the room, unless another CPU was faster.
    fn install(&self, sel: Sel, room: Room) {
        let (Some(page), Some((i, _))) = (room.0, cap::index(sel)) else { return };
        if self.root()[i].compare_exchange(null_mut(), page.at().as_ptr(), AcqRel, Relaxed).is_ok() {
            page.into_phys();
        }
    }

    /// Puts a new object's first capability at `sel`. `false`: another CPU was faster, and the object is dropped.
    pub fn put<T: Object>(&self, sel: Sel, room: Room, object: Ref<T>, perms: u8) -> bool {
        self.install(sel, room);
        let slot = cap::index(sel).and_then(|(i, j)| self.leaf(i).map(|l| &l[j]));
        let Some(slot) = slot else { return false };
        let cap = Cap::new(T::KIND, object.found() as *const T as u64, perms);
        let free = slot.compare_exchange(Cap::NULL.0, cap.0, AcqRel, Relaxed).is_ok();
        if free && !cap.is_null() {
            // The slot counts on it now.
            object.into_address();
        }
        free
    }

    /// Copies a capability word to `sel`, counting on its object. Null needs no room.
    pub fn set(&self, sel: Sel, cap: Cap) -> Result<(), NoMemory> {
        if !cap.is_null() {
            self.install(sel, self.reserve(sel)?);
            // SAFETY: the word was read from a slot in this kernel entry.
            if !unsafe { refs::retain(cap.address()) } {
                self.store(sel, Cap::NULL);
                return Ok(());
            }
        }
        self.store(sel, cap);
        Ok(())
    }

    fn store(&self, sel: Sel, cap: Cap) {
        let Some((i, j)) = cap::index(sel) else { return };
        let Some(l) = self.leaf(i) else { return };
        drop_cap(Cap(l[j].swap(cap.0, AcqRel)));
    }
}

/// The object of a capability word that was read from a slot in this kernel entry, if it is a `T` and has all of `perms`.
pub fn resolve<T: Object>(cap: Cap, perms: u8) -> Option<&'static T> {
    let a = cap.validate(T::KIND, perms)?;
    // SAFETY: the slot counted on the object when it was read, and objects are reclaimed at quiescent points only.
    Some(unsafe { &*(a as *const T) })
}

fn drop_cap(c: Cap) {
    if let Some(p) = NonNull::new(c.address() as *mut Header).filter(|_| !c.is_null()) {
        // SAFETY: the slot owned a count, and the word is no longer in it.
        unsafe { refs::release(p) };
    }
}

impl Drop for ObjSpace {
    fn drop(&mut self) {
        for i in 0..FANOUT {
            let Some(p) = NonNull::new(self.root()[i].load(Relaxed)) else { continue };
            // SAFETY: nobody uses the space any more.
            unsafe {
                for s in p.as_ref() {
                    drop_cap(Cap(s.load(Relaxed)));
                }
                pool::free(p.cast());
            }
        }
    }
}
