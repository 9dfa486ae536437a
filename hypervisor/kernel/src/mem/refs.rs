//! Kernel objects in memory: counted references, deferred reclamation.
//!
//! An object lives as long as something counts on it: a capability slot, another object, a queue or a running CPU.
//! When the count drops to zero the object goes to this CPU's reclaim list. It is destroyed at a quiescent point, where no
//! stack of this CPU refers to any object, after all other CPUs have passed one too (a grace period, [`crate::remote`]).
//! So a hypercall may use a `&'static` reference to an object that it found through a capability until it leaves the
//! kernel, without counting. To count on such an object fails if its count is zero already: it is on a list then.
//!
//! An object may also be destroyed while references are left ([`doom`]): no capability leads to it any more, it is ended
//! (on its own CPU, where it has one), and after a grace period it is taken apart. What is left is a shell, whose memory
//! stays until the last reference goes. Objects are taken apart in portions, one at each kernel exit.

use crate::arch::cpu::cpu;
use crate::arch::fast::slow;
use crate::mem::{pool, slab};
use crate::object::{account::Account, ec::Ec};
use crate::{object, remote};
use cap::Kind;
use core::cell::{Cell, UnsafeCell};
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use smp::Count;

/// First field of every kernel object.
#[repr(C)]
pub struct Header {
    count: Count,
    kind: Kind,
    /// A [`Life`].
    life: AtomicU8,
    next_dead: Cell<Option<NonNull<Header>>>,
}

/// How far an object is destroyed, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Life {
    /// It is not.
    Whole,
    /// No capability leads to it.
    Doomed,
    /// It does nothing any more; who found it before may still look at it.
    Ended,
    /// A shell.
    Gone,
}

impl Header {
    /// Header of a new object that one reference counts on.
    pub const fn new(kind: Kind) -> Header {
        Header { count: Count::new(), kind, life: AtomicU8::new(Life::Whole as u8), next_dead: Cell::new(None) }
    }

    /// Offset of the kind, and behind it a byte that is 0 unless it is destroyed.
    pub const KIND_AND_LIFE: usize = {
        assert!(core::mem::offset_of!(Header, life) == core::mem::offset_of!(Header, kind) + 1);
        core::mem::offset_of!(Header, kind)
    };

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is of that kind, and not destroyed.
    #[inline(always)]
    pub fn is_whole(&self, kind: Kind) -> bool {
        self.kind as u8 == kind as u8 && !self.doomed()
    }

    /// Whether it is destroyed or about to be.
    #[inline]
    pub fn doomed(&self) -> bool {
        self.life.load(Ordering::Acquire) != Life::Whole as u8
    }

    fn is(&self, l: Life) -> bool {
        self.life.load(Ordering::Acquire) == l as u8
    }

    fn set(&self, l: Life) {
        self.life.store(l as u8, Ordering::Release);
    }
}

/// A kernel object type.
///
/// # Safety
/// 1. The type is `repr(C)`, aligned to at least [`cap::OBJECT_ALIGN`], and its first field is a [`Header`] of `KIND`.
/// 2. All values but static ones live in cells of a slab, put there by [`Room::fill`].
/// 3. The type may be shared between CPUs: what is not atomic or locked is touched by its own CPU only.
pub unsafe trait Object: Sized + 'static {
    /// Kind in capabilities.
    const KIND: Kind;

    /// Its header.
    fn header(&self) -> &Header {
        // SAFETY: (1).
        unsafe { NonNull::from(self).cast().as_ref() }
    }
}

/// Room for an object that is still to be made; it goes back if it is not.
pub struct Room<T: Object>(NonNull<T>);

impl<T: Object> Room<T> {
    /// Room out of an account. `None`: no memory.
    pub fn new(a: &'static Account) -> Option<Room<T>> {
        slab::alloc(a).map(Room)
    }

    /// Makes the object, charged to the account that the room is from.
    pub fn fill(self, value: T) -> Ref<T> {
        let p = self.0;
        core::mem::forget(self);
        // SAFETY: a fresh cell of the right size and alignment.
        unsafe { p.write(value) };
        Ref(p)
    }
}

impl<T: Object> Drop for Room<T> {
    fn drop(&mut self) {
        // SAFETY: nothing was put there.
        unsafe { slab::free(self.0) };
    }
}

/// A counted reference to a kernel object.
pub struct Ref<T: Object>(NonNull<T>);

impl<T: Object> Ref<T> {
    /// An object charged to an account. `None`: no memory.
    pub fn new(a: &'static Account, value: T) -> Option<Ref<T>> {
        Some(Room::new(a)?.fill(value))
    }

    /// A reference without count, good until this CPU leaves the kernel.
    pub fn found(&self) -> &'static T {
        // SAFETY: the object is counted now, and is reclaimed at a quiescent point at the earliest.
        unsafe { self.0.as_ref() }
    }

    /// Counts on an object that was found otherwise and that something counts on now.
    pub fn from_found(t: &'static T) -> Ref<T> {
        header(t.into()).count.more();
        Ref(t.into())
    }

    /// Counts on an object that was found through a capability. `None`: the capability was the last, and is gone.
    pub fn try_from_found(t: &'static T) -> Option<Ref<T>> {
        header(t.into()).count.try_more().then(|| Ref(t.into()))
    }

    /// Gives up the reference but not its count; for capability words.
    pub fn into_address(self) -> u64 {
        let a = self.0.as_ptr() as u64;
        core::mem::forget(self);
        a
    }
}

/// The account that an object is charged to, which [`Room::fill`] has put into its cell.
pub fn account_of<T: Object>(t: &T) -> &'static Account {
    // SAFETY: its cell is in use.
    unsafe { pool::owner(t.into()) }
}

fn header<T: Object>(p: NonNull<T>) -> &'static Header {
    // SAFETY: Object (1): the header is the first field.
    unsafe { p.cast::<Header>().as_ref() }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: counted.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Object> Clone for Ref<T> {
    fn clone(&self) -> Self {
        header(self.0).count.more();
        Ref(self.0)
    }
}

impl<T: Object> Drop for Ref<T> {
    fn drop(&mut self) {
        // SAFETY: the count that this reference stands for is given up here.
        unsafe { release(self.0.cast()) };
    }
}

/// A counted reference to an object of any kind.
pub struct AnyRef(NonNull<Header>);

impl AnyRef {
    /// Whether it is destroyed and nothing but its shell is left.
    pub fn gone(&self) -> bool {
        // SAFETY: counted.
        unsafe { self.0.as_ref() }.is(Life::Gone)
    }
}

impl Drop for AnyRef {
    fn drop(&mut self) {
        // SAFETY: the count that this reference stands for is given up here.
        unsafe { release(self.0) };
    }
}

/// A counted reference that an object gives up when it is taken apart, and nobody looks at from then on: an ended object
/// does nothing, and who was looking meanwhile has left the kernel.
#[repr(C)]
pub struct Held<T: Object>(NonNull<T>, Cell<bool>);

impl<T: Object> Held<T> {
    /// A reference without count, good until this CPU leaves the kernel.
    pub fn found(&self) -> &'static T {
        // SAFETY: as in `deref`; the object is reclaimed at a quiescent point at the earliest.
        unsafe { self.0.as_ref() }
    }

    /// Gives it up.
    pub fn let_go(&self) {
        if self.1.replace(false) {
            drop(Ref(self.0));
        }
    }
}

impl<T: Object> From<Ref<T>> for Held<T> {
    fn from(r: Ref<T>) -> Self {
        let at = r.0;
        core::mem::forget(r);
        Held(at, Cell::new(true))
    }
}

impl<T: Object> Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: counted until nobody looks any more.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Object> Drop for Held<T> {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What an object has until it is taken apart.
pub struct Part<T>(UnsafeCell<Option<T>>);

impl<T> Part<T> {
    /// Perhaps it has none from the start.
    pub const fn new(t: Option<T>) -> Self {
        Part(UnsafeCell::new(t))
    }

    /// Looks at it.
    #[inline]
    pub fn as_ref(&self) -> Option<&T> {
        // SAFETY: it is taken when nobody looks.
        unsafe { &*self.0.get() }.as_ref()
    }

    /// Takes it out.
    ///
    /// # Safety
    /// Nobody looks at it: the object is being taken apart.
    pub unsafe fn take(&self) -> Option<T> {
        // SAFETY: by the caller.
        unsafe { &mut *self.0.get() }.take()
    }
}

/// Counts once more on the object at that address, for a copied capability word. `false`: it is about to be destroyed.
///
/// # Safety
/// The word was read from a slot in this kernel entry.
pub unsafe fn retain(address: u64) -> bool {
    // SAFETY: by the caller; its memory is there until this CPU leaves the kernel.
    unsafe { &*(address as *const Header) }.count.try_more()
}

/// Whether a capability word for the object at that address reads as null.
///
/// # Safety
/// As [`retain`].
#[inline]
pub unsafe fn reads_null(address: u64) -> bool {
    // SAFETY: by the caller.
    unsafe { &*(address as *const Header) }.doomed()
}

/// Destroys the object at that address, step by step; whoever waits for the end of it looks at the reference.
/// `None`: somebody else does already.
///
/// # Safety
/// As [`retain`].
pub unsafe fn doom(address: u64) -> Option<AnyRef> {
    let o = NonNull::new(address as *mut Header)?;
    // SAFETY: by the caller.
    let h = unsafe { o.as_ref() };
    // Counted first: what is about to be destroyed anyway is left to that.
    let counted = h.count.try_more().then(|| AnyRef(o))?;
    h.life.compare_exchange(Life::Whole as u8, Life::Doomed as u8, Ordering::SeqCst, Ordering::Relaxed).ok()?;
    // For the lists.
    h.count.more();
    UNDESTROYED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: it is counted.
    match unsafe { object::home(h.kind, o, true) } {
        Some(other) => remote::condemn(other, Dead(o)),
        None => cpu().reclaim.condemn(Dead(o)),
    }
    Some(counted)
}

/// Gives up one count on the object.
///
/// # Safety
/// The caller owns that count.
pub unsafe fn release(object: NonNull<Header>) {
    // SAFETY: counted until the next line.
    let h = unsafe { object.as_ref() };
    if h.count.less() {
        UNDESTROYED.fetch_add(1, Ordering::Relaxed);
        let r = &cpu().reclaim;
        r.wait(Dead(object));
    }
}

/// An object that nothing counts on, or that is being destroyed and on whose counts one stands for this; whoever has it
/// is the only one.
pub struct Dead(NonNull<Header>);
// SAFETY: as above; the objects may be shared between CPUs.
unsafe impl Send for Dead {}

/// Such objects, linked through their headers.
pub struct DeadList {
    head: Cell<Option<NonNull<Header>>>,
    len: Cell<usize>,
}
// SAFETY: as for `Dead`.
unsafe impl Send for DeadList {}

impl DeadList {
    /// Empty.
    pub const fn new() -> Self {
        DeadList { head: Cell::new(None), len: Cell::new(0) }
    }

    /// Adds an object.
    pub fn push(&self, d: Dead) {
        // SAFETY: a dead object, which is the list's from now on.
        unsafe { d.0.as_ref() }.next_dead.set(self.head.replace(Some(d.0)));
        self.len.set(self.len.get() + 1);
    }

    fn pop(&self) -> Option<Dead> {
        let d = self.head.get()?;
        // SAFETY: an object of the list.
        self.head.set(unsafe { d.as_ref() }.next_dead.take());
        self.len.set(self.len.get() - 1);
        Some(Dead(d))
    }

    /// Takes all.
    pub fn take(&self) -> DeadList {
        DeadList { head: Cell::new(self.head.take()), len: Cell::new(self.len.take()) }
    }

    /// Becomes another list; it was empty.
    fn become_list(&self, other: DeadList) {
        self.head.set(other.head.take());
        self.len.set(other.len.take());
    }

    fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }
}

/// What a CPU has to destroy.
pub struct Reclaim {
    /// For the next grace period.
    dead: DeadList,
    /// For the one that is under way.
    waiting: DeadList,
    period: Cell<u64>,
    /// To be ended, or their grace period is over.
    condemned: DeadList,
    /// Not to be touched for now.
    spared: Cell<Option<NonNull<Header>>>,
}

impl Reclaim {
    fn condemn(&self, d: Dead) {
        self.condemned.push(d);
        note_chores(true);
    }

    fn wait(&self, d: Dead) {
        self.dead.push(d);
        note_chores(true);
    }
}

/// So many dead objects are let pile up before this CPU waits for a grace period, while it has something to run.
pub const BACKLOG: usize = 64;
/// Objects that are ended or destroyed at one kernel exit. Large ones are taken apart in portions, of which one is as
/// good as all of these.
pub const PORTION: u32 = 32;

/// Whether this CPU has something to destroy.
#[inline]
pub fn chores_left() -> bool {
    cpu().slow.get() & slow::CHORES != 0
}

/// Something is in one of the lists, or nothing is.
fn note_chores(some: bool) {
    let s = &cpu().slow;
    s.set(s.get() & !slow::CHORES | if some { slow::CHORES } else { 0 });
}

/// Objects on all CPUs that are to be destroyed and are not yet.
static UNDESTROYED: AtomicU32 = AtomicU32::new(0);

/// Does a portion of what is to be destroyed, or waits until it can be, here and elsewhere. `false`: nothing is.
/// Only at a quiescent point: what the caller wants to see again it has to count on.
pub fn work() -> bool {
    if chores_left() {
        portion(0);
    } else if UNDESTROYED.load(Ordering::Relaxed) != 0 {
        // Other CPUs do a portion whenever they leave the kernel.
        remote::wait_for_grace(remote::begin_grace());
    } else {
        return false;
    }
    true
}

/// A quiescent point of this CPU: destroys a portion of what is to be destroyed here. If `most` or more
/// wait for the next grace period, waits for one that is not over. `false`: it did nothing, as that is not over.
#[cold]
pub fn portion(mut most: usize) -> bool {
    let r = &cpu().reclaim;
    let mut left = PORTION;
    while left > 0 {
        if let Some(d) = r.condemned.pop() {
            left = left.saturating_sub(bury(d));
        } else if !r.waiting.is_empty() {
            if !remote::grace_over(r.period.get()) {
                if r.dead.len.get() < most {
                    return left < PORTION;
                }
                remote::wait_for_grace(r.period.get());
                most = BACKLOG;
            }
            r.condemned.become_list(r.waiting.take());
        } else if !r.dead.is_empty() {
            r.period.set(remote::begin_grace());
            r.waiting.become_list(r.dead.take());
        } else {
            note_chores(false);
            return true;
        }
    }
    true
}

/// Objects of another CPU that only this one may end or destroy.
pub fn take_over(list: DeadList) {
    while let Some(d) = list.pop() {
        cpu().reclaim.condemn(d);
    }
}

/// An EC that stays meanwhile, whoever counts on it.
pub struct Kept(Option<Ref<Ec>>);

impl Kept {
    /// `None`: nobody counts on it, and nobody is linked to it.
    pub fn new(ec: &'static Ec) -> Option<Kept> {
        let counted = Ref::try_from_found(ec);
        if counted.is_none() {
            if !ec.ipc.linked() {
                return None;
            }
            cpu().reclaim.spared.set(Some(NonNull::from(ec).cast()));
        }
        Some(Kept(counted))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.0.is_none() {
            cpu().reclaim.spared.set(None);
        }
    }
}

/// Whether that is not to be taken apart for now.
pub fn is_spared(ec: &Ec) -> bool {
    cpu().reclaim.spared.get() == Some(NonNull::from(ec).cast())
}

/// An object that nothing counts on, and that is about to be taken apart, stays: it counts on itself until [`go_on`].
pub fn keep<T: Object>(t: &'static T) -> Progress {
    header(t.into()).count.more();
    Progress::Kept
}

/// Gives up that count.
pub fn go_on<T: Object>(t: &'static T) {
    // SAFETY: the count that `keep` has made.
    unsafe { release(NonNull::from(t).cast()) };
}

/// What is left to do of taking an object apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing.
    Done,
    /// Another portion.
    More,
    /// What other CPUs have to do first.
    Later,
    /// All, when nothing counts on it again ([`keep`]).
    Kept,
}

/// Goes on with an object; returns how much of a portion that was.
fn bury(d: Dead) -> u32 {
    let (r, o) = (&cpu().reclaim, d.0);
    // SAFETY: its memory is still there.
    let h = unsafe { o.as_ref() };
    let doomed = h.is(Life::Doomed);
    // SAFETY: as above.
    if let Some(other) = unsafe { object::home(h.kind, o, doomed) } {
        remote::condemn(other, d);
        return 1;
    }
    // An EC leaves a page of its host space, which other CPUs may have to hear of.
    let cost = if h.kind == Kind::Ec { PORTION / 4 } else { 1 };
    let progress = match () {
        // SAFETY: it is counted, and this is its CPU.
        _ if doomed => unsafe { object::end(h.kind, o) },
        _ if h.is(Life::Gone) => Progress::Done,
        // SAFETY: no capability leads to it, it does nothing, and all CPUs have passed a quiescent point since.
        _ => unsafe { object::strip(h.kind, o) },
    };
    match progress {
        Progress::More => {
            r.condemn(d);
            return PORTION;
        }
        Progress::Later => {
            r.wait(d);
            return PORTION;
        }
        Progress::Kept => _ = UNDESTROYED.fetch_sub(1, Ordering::Relaxed),
        Progress::Done if doomed => {
            h.set(Life::Ended);
            r.wait(d);
        }
        Progress::Done => {
            if h.is(Life::Ended) {
                h.set(Life::Gone);
                // SAFETY: the count that `doom` has made for the lists.
                unsafe { release(o) };
            } else {
                // SAFETY: nobody refers to it.
                unsafe { object::free(h.kind, o) };
            }
            // What it had the last count of is in the number already.
            UNDESTROYED.fetch_sub(1, Ordering::Relaxed);
        }
    }
    cost
}
