//! Kernel objects in memory: counted references, deferred reclamation.
//!
//! An object lives as long as something counts on it: a capability slot, another object, a queue or a running CPU.
//! When the count drops to zero the object goes to this CPU's reclaim list. It is destroyed at a quiescent point, where no
//! stack of this CPU refers to any object, after all other CPUs have passed one too (a grace period, [`crate::remote`]).
//! So a hypercall may use a `&'static` reference to an object that it found through a capability until it leaves the
//! kernel, without counting. To count on such an object fails if its count is zero already: it is on a list then.

use crate::arch::cpu::cpu;
use crate::mem::{pool, slab};
use crate::object::account::Account;
use crate::{object, remote};
use cap::Kind;
use core::cell::Cell;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use smp::Count;

/// First field of every kernel object.
#[repr(C)]
pub struct Header {
    count: Count,
    kind: Kind,
    next_dead: Cell<Option<NonNull<Header>>>,
}

impl Header {
    /// Header of a new object that one reference counts on.
    pub const fn new(kind: Kind) -> Header {
        Header { count: Count::new(), kind, next_dead: Cell::new(None) }
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

/// Counts once more on the object at that address, for a copied capability word. `false`: it is about to be destroyed.
///
/// # Safety
/// The word was read from a slot in this kernel entry.
pub unsafe fn retain(address: u64) -> bool {
    // SAFETY: by the caller; its memory is there until this CPU leaves the kernel.
    unsafe { &*(address as *const Header) }.count.try_more()
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
        r.dead.push(Dead(object));
        r.chores.set(true);
    }
}

/// An object that nothing counts on; whoever has it is the only one.
pub struct Dead(NonNull<Header>);
// SAFETY: as above; the objects may be shared between CPUs.
unsafe impl Send for Dead {}

/// Objects that nothing counts on, linked through their headers.
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

    fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }
}

/// What a CPU has to destroy.
pub struct Reclaim {
    /// Something is in one of the lists.
    chores: Cell<bool>,
    /// For the next grace period.
    dead: DeadList,
    /// For the one that is under way.
    waiting: DeadList,
    period: Cell<u64>,
    /// Their grace period is over.
    condemned: DeadList,
}

/// So many dead objects are let pile up before this CPU waits for a grace period.
const BACKLOG: usize = 64;

/// A quiescent point of this CPU: destroys what nothing refers to any more.
#[inline]
pub fn quiescent() {
    if cpu().reclaim.chores.get() {
        chores(false);
    }
}

/// Whether this CPU has something to destroy.
pub fn chores_left() -> bool {
    cpu().reclaim.chores.get()
}

/// A quiescent point at which there is nothing else to do: leaves nothing to be destroyed later.
pub fn settle() {
    if chores_left() {
        chores(true);
    }
}

/// Objects on all CPUs that nothing counts on and that are not destroyed yet.
static UNDESTROYED: AtomicU32 = AtomicU32::new(0);

/// An object may take others along, each after a grace period of its own, and some are destroyed by another CPU: so many
/// times at most is waited for that.
const GENERATIONS: u32 = 16;

/// As [`settle`], and has all other CPUs destroy what is to be destroyed there. Where nothing is, no CPU is disturbed.
pub fn settle_all() {
    settle();
    for _ in 0..GENERATIONS {
        if UNDESTROYED.load(Ordering::Relaxed) == 0 {
            return;
        }
        remote::wait_for_grace(remote::begin_grace());
        settle();
    }
}

#[cold]
fn chores(patient: bool) {
    let r = &cpu().reclaim;
    loop {
        bury(&r.condemned);
        if !r.waiting.is_empty() {
            if !remote::grace_over(r.period.get()) {
                if !patient && r.dead.len.get() < BACKLOG {
                    return;
                }
                remote::wait_for_grace(r.period.get());
            }
            bury(&r.waiting.take());
        } else if !r.dead.is_empty() {
            r.period.set(remote::begin_grace());
            let batch = r.dead.take();
            r.waiting.head.set(batch.head.take());
            r.waiting.len.set(batch.len.take());
        } else {
            break;
        }
    }
    r.chores.set(false);
}

/// Another CPU's objects that only this one may destroy, after their grace period.
pub fn take_over(list: DeadList) {
    let r = &cpu().reclaim;
    while let Some(d) = list.pop() {
        r.condemned.push(d);
        r.chores.set(true);
    }
}

/// Destroys objects whose grace period is over, or has their CPU do it.
fn bury(list: &DeadList) {
    while let Some(Dead(o)) = list.pop() {
        // SAFETY: nobody refers to it; its memory is still there.
        let kind = unsafe { o.as_ref() }.kind;
        // SAFETY: as above.
        match unsafe { object::home(kind, o) } {
            Some(other) => remote::condemn(other, Dead(o)),
            None => {
                // SAFETY: count zero, and all CPUs have passed a quiescent point since.
                unsafe { object::destroy(kind, o) };
                // What it had the last count of is in the number already.
                UNDESTROYED.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
