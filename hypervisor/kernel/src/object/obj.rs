//! Object space (spec 2.1.1): selectors to capabilities, a two-level table; and the way back, from an object to the
//! selector that stands for it ([`identity`]).

use super::member::Member;
use super::{account::Account, kernel_object, tables};
use crate::mem::layout;
use crate::mem::pool::{self, Page};
use crate::mem::refs::{self, Header, Object, Part, Progress, Ref, account_of};
use abi::{Arrival, Item, Sel};
use cap::identity::{self, BUCKETS, Links};
use cap::{Cap, FANOUT, Kind, LEAF_ORDER};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};
use spin::Mutex;

/// Slots; the frame that theirs is linked to (`pool::next`) has their companion words.
type Leaf = [AtomicU64; FANOUT];
/// Where the leaves are; [`NO_LEAF`] where there is none yet.
type Table = [AtomicPtr<Leaf>; FANOUT];

/// Null capabilities. Nobody writes here: who changes slots uses [`ObjSpace::leaf`].
static NO_LEAF: Leaf = [const { AtomicU64::new(0) }; FANOUT];
/// The table of a space that is destroyed.
static NO_TABLE: Table = [const { AtomicPtr::new(&raw const NO_LEAF as *mut Leaf) }; FANOUT];

/// Object space. Look-ups take no lock; a slot is changed by one atomic exchange, and the index with it, under the lock.
#[repr(C, align(32))]
pub struct ObjSpace {
    header: Header,
    /// What look-ups use, which need no test for what is not there: that of `root`, or [`NO_TABLE`].
    table: AtomicPtr<Table>,
    root: Part<Page>,
    /// Heads of the index.
    buckets: Part<Page>,
    lock: Mutex<()>,
    member: Member,
}
kernel_object!(ObjSpace, Obj, member);

/// A slot cannot be filled because its table frame cannot be allocated.
pub struct NoMemory;

/// Room for the capability at a selector: the table frames that it needs if there are none yet. They go back if unused.
pub struct Room(Option<[Page; 2]>);

/// Receive window of an EC: selectors of its object space. Empty: the EC takes no part in transfers.
pub struct Window(AtomicU64);

impl Window {
    /// None.
    pub const fn none() -> Window {
        Window(AtomicU64::new(0))
    }

    /// Sets it, from any CPU. A transfer sees the old one or the new one.
    pub fn set(&self, w: Range<Sel>) {
        self.0.store(if w.is_empty() { 0 } else { w.end << 32 | w.start }, Relaxed);
    }

    /// Its selectors.
    pub fn get(&self) -> Range<Sel> {
        let w = self.0.load(Relaxed);
        w & u32::MAX as u64..w >> 32
    }

    /// Whether there is one.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed) != 0
    }
}

/// Index words of a space, for who holds its lock.
struct Words<'a>(&'a ObjSpace);
type Index<'a> = identity::Index<Words<'a>>;

impl identity::Memory for Words<'_> {
    fn object(&self, slot: u32) -> u64 {
        self.0.word(slot.into()).address()
    }

    fn head(&self, bucket: usize) -> u32 {
        self.0.heads().map_or(0, |h| h[bucket].load(Relaxed))
    }

    fn set_head(&mut self, bucket: usize, head: u32) {
        if let Some(h) = self.0.heads() {
            h[bucket].store(head, Relaxed);
        }
    }

    fn links(&self, slot: u32) -> Links {
        Links(self.0.companion(slot).map_or(0, |l| l.load(Relaxed)))
    }

    fn set_links(&mut self, slot: u32, links: Links) {
        if let Some(l) = self.0.companion(slot) {
            l.store(links.0, Relaxed);
        }
    }
}

impl ObjSpace {
    /// Offset of the table that look-ups use.
    pub const TABLE: usize = core::mem::offset_of!(ObjSpace, table);

    /// An empty one.
    pub fn create(a: &'static Account) -> Option<Ref<ObjSpace>> {
        let (root, buckets) = (Page::new(a)?, Part::new(Some(Page::new(a)?)));
        let table = root.at::<Table>();
        // SAFETY: a frame that nobody else knows, and zeroed pointers are pointers.
        unsafe { table.as_ref() }.iter().for_each(|l| l.store(no_leaf(), Relaxed));
        let (header, lock) = (Header::new(Self::KIND), Mutex::new(()));
        let (table, root) = (AtomicPtr::new(table.as_ptr()), Part::new(Some(root)));
        Ref::new(a, ObjSpace { header, table, root, buckets, lock, member: Member::new() })
    }

    /// `None`: the space was taken apart.
    fn root(&self) -> Option<&Table> {
        // SAFETY: `create` has made it.
        self.root.as_ref().map(|r| unsafe { r.at().as_ref() })
    }

    fn heads(&self) -> Option<&[AtomicU32; BUCKETS]> {
        // SAFETY: as above.
        self.buckets.as_ref().map(|b| unsafe { b.at().as_ref() })
    }

    fn leaf(&self, i: usize) -> Option<&Leaf> {
        let leaf = self.root()?[i].load(Acquire);
        // SAFETY: leaf frames stay until the space is taken apart.
        (leaf != no_leaf()).then(|| unsafe { &*leaf })
    }

    fn companion(&self, slot: u32) -> Option<&AtomicU64> {
        let (i, j) = cap::index(slot.into())?;
        let words = layout::virt(pool::next(pool::phys(NonNull::from(self.leaf(i)?).cast()))) as *const Leaf;
        // SAFETY: `install` has linked the frame, which stays as long as the leaf.
        Some(unsafe { &(&*words)[j] })
    }

    /// The word of a slot.
    fn word(&self, sel: Sel) -> Cap {
        let Some((i, j)) = cap::index(sel) else { return Cap::NULL };
        // SAFETY: tables and leaves stay until all CPUs have left the kernel after [`ObjSpace::close`].
        unsafe { Cap((&*(&*self.table.load(Acquire))[i].load(Acquire))[j].load(Acquire)) }
    }

    /// The capability at `sel`; null if there is none, the selector is out of range, or the object or the space is
    /// destroyed.
    pub fn get(&self, sel: Sel) -> Cap {
        readable(self.word(sel))
    }

    /// Whether a new capability may be put at `sel`.
    pub fn is_free(&self, sel: Sel) -> bool {
        cap::index(sel).is_some() && !self.header.doomed() && self.get(sel).is_null()
    }

    /// The object at `sel` if it is a `T` and the capability has all of `perms`.
    #[inline]
    pub fn find<T: Object>(&self, sel: Sel, perms: u8) -> Option<&'static T> {
        // SAFETY: of that kind, and objects are reclaimed at quiescent points only.
        self.find_kind(sel, perms, T::KIND).map(|h| unsafe { h.cast().as_ref() })
    }

    #[inline(never)]
    fn find_kind(&self, sel: Sel, perms: u8, kind: Kind) -> Option<NonNull<Header>> {
        self.look(sel, perms, kind)
    }

    /// [`ObjSpace::find`] where no instruction is to be too many.
    #[inline(always)]
    pub fn find_at_once<T: Object>(&self, sel: Sel, perms: u8) -> Option<&'static T> {
        // SAFETY: as above.
        self.look(sel, perms, T::KIND).map(|h| unsafe { h.cast().as_ref() })
    }

    #[inline(always)]
    fn look(&self, sel: Sel, perms: u8, kind: Kind) -> Option<NonNull<Header>> {
        let cap = self.word(sel);
        // A null capability has no permissions.
        let h = NonNull::new(cap.address() as *mut Header).filter(|_| cap.perms() & perms == perms)?;
        // SAFETY: the slot counted on the object when it was read.
        unsafe { h.as_ref() }.is_whole(kind).then_some(h)
    }

    /// Finds room for `sel`, so that [`ObjSpace::put`] cannot fail. Changes nothing.
    pub fn reserve(&self, sel: Sel) -> Result<Room, NoMemory> {
        let (i, _) = cap::index(sel).ok_or(NoMemory)?;
        if self.leaf(i).is_some() {
            return Ok(Room(None));
        }
        let frame = || Page::new(account_of(self)).ok_or(NoMemory);
        Ok(Room(Some([frame()?, frame()?])))
    }

    /// Makes use of the room, unless another CPU was faster.
    fn install(&self, sel: Sel, room: Room) {
        let (Some([slots, words]), Some((i, _))) = (room.0, cap::index(sel)) else { return };
        pool::set_next(slots.phys(), words.phys());
        let new = |r: &AtomicPtr<Leaf>| r.compare_exchange(no_leaf(), slots.at().as_ptr(), AcqRel, Relaxed).is_ok();
        if self.root().is_some_and(|r| new(&r[i])) {
            slots.into_phys();
            words.into_phys();
        }
    }

    /// Puts a new object's first capability at `sel`. `false`: another CPU was faster, and the object is dropped.
    pub fn put<T: Object>(&self, sel: Sel, room: Room, object: Ref<T>, perms: u8) -> bool {
        self.install(sel, room);
        let cap = Cap::new(T::KIND, object.found() as *const T as u64, perms);
        self.locked(|ix| {
            let free = self.get(sel).is_null();
            if free && !cap.is_null() {
                // The slot counts on it now.
                object.into_address();
                self.write(ix, sel, cap);
            }
            free
        })
    }

    /// Copies a capability word to `sel`, counting on its object. Null needs no room.
    pub fn set(&self, sel: Sel, cap: Cap) -> Result<(), NoMemory> {
        let mut cap = cap;
        if !cap.is_null() {
            self.install(sel, self.reserve(sel)?);
            // SAFETY: the word was read from a slot in this kernel entry.
            if !unsafe { refs::retain(cap.address()) } {
                cap = Cap::NULL;
            }
        }
        if !(cap.is_null() && self.word(sel).is_null()) {
            self.locked(|ix| self.write(ix, sel, cap));
        }
        Ok(())
    }

    /// Makes room for a window, so that nothing that arrives there lacks memory.
    pub fn open(&self, window: &Range<Sel>) -> Result<(), NoMemory> {
        if window.is_empty() || self.header.doomed() {
            return Ok(());
        }
        let (first, last) = (window.start, window.end - 1);
        let room = self.reserve(first)?;
        // It is shorter than a table.
        if first >> LEAF_ORDER != last >> LEAF_ORDER {
            self.install(last, self.reserve(last)?);
        }
        self.install(first, room);
        Ok(())
    }

    /// A capability word arrives here from another space: what became of it.
    pub fn receive(&self, cap: Cap, window: Range<Sel>) -> Item {
        if cap.is_null() || self.header.doomed() {
            return Item::default();
        }
        self.locked(|ix| {
            let known = ix.find(cap.address()).map(Sel::from);
            let arrived = |sel, how| match self.get(sel).perms() {
                0 => Item::default(),
                perms => Item::arrived(sel, how, perms),
            };
            if let Some(sel) = known {
                return arrived(sel, Arrival::Known);
            }
            let free = |sel: &Sel| self.get(*sel).is_null() && self.companion(*sel as u32).is_some();
            let Some(sel) = window.clone().find(free) else { return Item::arrived(0, Arrival::Full, 0) };
            // SAFETY: the word was read from a slot in this kernel entry.
            if !unsafe { refs::retain(cap.address()) } {
                return Item::default();
            }
            self.write(ix, sel, cap);
            arrived(sel, Arrival::New)
        })
    }

    fn locked<R>(&self, f: impl FnOnce(&mut Index) -> R) -> R {
        let _guard = self.lock.lock();
        f(&mut Index::new(Words(self), KEY.load(Relaxed)))
    }

    /// Changes a slot and the index. The count of the new word is the slot's.
    fn write(&self, ix: &mut Index, sel: Sel, cap: Cap) {
        let Some((i, j)) = cap::index(sel) else { return };
        let Some(l) = self.leaf(i) else { return };
        let old = Cap(l[j].swap(cap.0, AcqRel));
        if old.address() != cap.address() {
            if !old.is_null() {
                ix.remove(sel as u32, old.address());
            }
            if !cap.is_null() {
                ix.insert(sel as u32, cap.address());
            }
        }
        drop_cap(old);
    }

    /// It is destroyed: all its selectors are null from now on.
    pub fn close(&self) {
        self.table.store(&raw const NO_TABLE as *mut Table, Release);
    }

    /// Gives a table of capabilities back, or at last the root.
    pub fn strip(&'static self) -> Progress {
        self.close();
        let Some(root) = self.root() else { return Progress::Done };
        let leaf = |e: &AtomicPtr<Leaf>| NonNull::new(e.load(Relaxed)).filter(|l| l.as_ptr() != no_leaf());
        if let Some((entry, leaf)) = root.iter().find_map(|e| Some((e, leaf(e)?))) {
            entry.store(no_leaf(), Relaxed);
            tables::free(pool::next(pool::phys(leaf.cast())));
            // SAFETY: nobody uses the space any more.
            unsafe {
                leaf.as_ref().iter().for_each(|s| drop_cap(Cap(s.load(Relaxed))));
                pool::free(leaf.cast());
            }
            return Progress::More;
        }
        self.member.leave();
        // SAFETY: as above.
        drop(unsafe { (self.root.take(), self.buckets.take()) });
        Progress::Done
    }
}

fn no_leaf() -> *mut Leaf {
    &raw const NO_LEAF as *mut Leaf
}

/// What a word that was read from a slot in this kernel entry reads as: null if its object is destroyed.
fn readable(c: Cap) -> Cap {
    // SAFETY: the slot counted on the object when it was read.
    if !c.is_null() && unsafe { refs::reads_null(c.address()) } { Cap::NULL } else { c }
}

/// Key of all indices.
static KEY: AtomicU64 = AtomicU64::new(0);

/// Sets the key, before there is a space.
pub fn set_key(key: u64) {
    KEY.store(key, Relaxed);
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
