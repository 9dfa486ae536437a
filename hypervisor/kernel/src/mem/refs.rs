//! Kernel objects in memory: slabs, counted references, deferred reclamation.
//!
//! An object lives as long as something counts on it: a capability slot, another object, a queue or a running CPU.
//! When the count drops to zero the object goes to this CPU's reclaim list, which is emptied at the next quiescent
//! point, where no stack of this CPU refers to any object. So a hypercall may use a `&'static` reference to an
//! object that it found through a capability until it leaves the kernel, without counting.
//!
//! With several CPUs in the kernel the list must also wait for the others; that comes with SMP.

use crate::arch::cpu::cpu;
use cap::Kind;
use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;

/// First field of every kernel object.
#[repr(C)]
pub struct Header {
    count: AtomicU32,
    kind: Kind,
    next_dead: Cell<Option<NonNull<Header>>>,
}

impl Header {
    /// Header of a new object that one reference counts on.
    pub const fn new(kind: Kind) -> Header {
        Header { count: AtomicU32::new(1), kind, next_dead: Cell::new(None) }
    }
}

/// A kernel object type.
///
/// # Safety
/// 1. The type is `repr(C)`, aligned to at least [`cap::OBJECT_ALIGN`], and its first field is a [`Header`] of `KIND`.
/// 2. All values live in the slab that [`Object::slab`] names, put there by [`Ref::new`].
/// 3. The type may be shared between CPUs: what is not atomic or locked is touched by its own CPU only.
pub unsafe trait Object: Sized + 'static {
    /// Kind in capabilities.
    const KIND: Kind;
    /// The slab of this type.
    fn slab() -> &'static Slab<Self>;
}

/// A counted reference to a kernel object.
pub struct Ref<T: Object>(NonNull<T>);

impl<T: Object> Ref<T> {
    /// Puts an object into its slab. `None`: no memory.
    pub fn new(value: T) -> Option<Ref<T>> {
        let p = T::slab().alloc()?;
        // SAFETY: a fresh cell of the right size and alignment.
        unsafe { p.write(value) };
        Some(Ref(p))
    }

    /// A reference without count, good until this CPU leaves the kernel.
    pub fn found(&self) -> &'static T {
        // SAFETY: the object is counted now, and is reclaimed at a quiescent point at the earliest.
        unsafe { self.0.as_ref() }
    }

    /// Counts on an object that was found otherwise.
    pub fn from_found(t: &'static T) -> Ref<T> {
        header(t.into()).count.fetch_add(1, Ordering::Relaxed);
        Ref(t.into())
    }

    /// Gives up the reference but not its count; for capability words.
    pub fn into_address(self) -> u64 {
        let a = self.0.as_ptr() as u64;
        core::mem::forget(self);
        a
    }
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
        header(self.0).count.fetch_add(1, Ordering::Relaxed);
        Ref(self.0)
    }
}

impl<T: Object> Drop for Ref<T> {
    fn drop(&mut self) {
        // SAFETY: the count that this reference stands for is given up here.
        unsafe { release(self.0.cast()) };
    }
}

/// Counts once more on the object at that address, for a copied capability word.
///
/// # Safety
/// A live, counted object is there.
pub unsafe fn retain(address: u64) {
    // SAFETY: by the caller.
    unsafe { &*(address as *const Header) }.count.fetch_add(1, Ordering::Relaxed);
}

/// Gives up one count on the object.
///
/// # Safety
/// The caller owns that count.
pub unsafe fn release(object: NonNull<Header>) {
    // SAFETY: counted until the next line.
    let h = unsafe { object.as_ref() };
    if h.count.fetch_sub(1, Ordering::Release) == 1 {
        let dead = &cpu().dead;
        h.next_dead.set(dead.replace(Some(object)));
    }
}

/// A quiescent point of this CPU: destroys what nothing counts on any more.
pub fn quiescent() {
    while let Some(o) = cpu().dead.get() {
        // SAFETY: on the reclaim list, so nobody else refers to it; its memory is still there.
        let h = unsafe { o.as_ref() };
        cpu().dead.set(h.next_dead.get());
        // SAFETY: count zero, quiescent.
        unsafe { crate::object::destroy(h.kind, o) };
    }
}

/// Memory for objects of one type: frames cut into cells.
pub struct Slab<T> {
    free: Mutex<FreeList>,
    marker: PhantomData<fn() -> T>,
}

struct FreeList(Option<NonNull<FreeCell>>);

struct FreeCell {
    next: Option<NonNull<FreeCell>>,
}

// SAFETY: the cells on the list belong to the list.
unsafe impl Send for FreeList {}

impl<T> Slab<T> {
    /// Empty.
    pub const fn new() -> Self {
        const { assert!(size_of::<T>() <= abi::PAGE_SIZE && size_of::<T>() >= size_of::<FreeCell>()) };
        Slab { free: Mutex::new(FreeList(None)), marker: PhantomData }
    }

    fn alloc(&self) -> Option<NonNull<T>> {
        let mut list = self.free.lock();
        if list.0.is_none() {
            let frame = super::pool::alloc()?.cast::<T>();
            for i in 0..abi::PAGE_SIZE / size_of::<T>() {
                // SAFETY: the i-th cell lies in the frame, which is ours.
                unsafe { list.put(frame.add(i)) };
            }
        }
        let cell = list.0?;
        // SAFETY: cells on the list hold a valid FreeCell.
        list.0 = unsafe { cell.as_ref() }.next;
        Some(cell.cast())
    }

    /// Frees a cell.
    ///
    /// # Safety
    /// The cell came from this slab, its value was dropped, nothing refers to it.
    pub unsafe fn free(&self, cell: NonNull<T>) {
        // SAFETY: by the caller.
        unsafe { self.free.lock().put(cell) };
    }
}

impl FreeList {
    /// # Safety
    /// The cell is unused memory.
    unsafe fn put<T>(&mut self, cell: NonNull<T>) {
        let cell = cell.cast::<FreeCell>();
        // SAFETY: by the caller.
        unsafe { cell.write(FreeCell { next: self.0 }) };
        self.0 = Some(cell);
    }
}
