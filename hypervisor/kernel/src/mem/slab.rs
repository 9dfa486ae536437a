//! Slabs: frames cut into cells for objects. The frames of a slab are charged to one account, and go back as soon as their
//! last cell is free; so objects of two accounts never share a frame, and the books are exact.

use super::{inject, pool};
use crate::object::account::Account;
use abi::PAGE_SIZE;
use core::cell::Cell;
use core::ptr::NonNull;
use quota::{CLASSES, Cells, Class, FRAME_BYTES, HEAD_BYTES};
use sched::{Link, Node, Queue};
use spin::Mutex;

/// Head of a frame that is cut into cells.
#[repr(C, align(64))]
struct Head {
    cells: Cell<Cells>,
    class: Class,
    link: Link<Head>,
}

const _: () = assert!(size_of::<Head>() <= HEAD_BYTES && PAGE_SIZE == FRAME_BYTES);

/// In the list of frames of a class that have free cells.
struct Open;

impl Node<Open> for Head {
    fn link(&self) -> &Link<Head> {
        &self.link
    }
}

/// The frames of an account that have free cells, by class.
pub struct Slabs(Mutex<[Queue<Head>; CLASSES]>);

// SAFETY: heads are looked at under the lock only.
unsafe impl Send for Slabs {}
// SAFETY: as above.
unsafe impl Sync for Slabs {}

impl Slabs {
    /// None.
    pub const fn new() -> Slabs {
        Slabs(Mutex::new([const { Queue::new() }; CLASSES]))
    }
}

const fn class<T>() -> Class {
    assert!(align_of::<T>() <= HEAD_BYTES);
    Class::of(size_of::<T>()).expect("no cell is that large")
}

/// A cell out of a slab of the account. `None`: no memory.
pub fn alloc<T>(a: &'static Account) -> Option<NonNull<T>> {
    let class = const { class::<T>() };
    if inject::fails() {
        return None;
    }
    let open = a.slabs.0.lock();
    let open = &open[class.index()];
    let head = match open.head() {
        Some(h) => h,
        None => {
            let h = cut(a, class)?;
            open.push_back::<Open>(h);
            h
        }
    };
    let mut cells = head.cells.get();
    let cell = cells.take()?;
    head.cells.set(cells);
    if cells.full() {
        open.remove::<Open>(head);
    }
    // SAFETY: inside the frame.
    Some(unsafe { NonNull::from(head).cast::<u8>().add(class.offset(cell)) }.cast())
}

/// Cuts a frame into cells.
#[cold]
fn cut(a: &'static Account, class: Class) -> Option<&'static Head> {
    let head = pool::alloc(a)?.cast::<Head>();
    // SAFETY: a frame of our own, which stays until `free` has taken it out of the list.
    unsafe {
        head.write(Head { cells: Cell::new(Cells::new(class)), class, link: Link::new() });
        Some(head.as_ref())
    }
}

/// Gives a cell back, and its frame if that is the last.
///
/// # Safety
/// The cell came from [`alloc`], its value was dropped, nothing refers to it.
pub unsafe fn free<T>(cell: NonNull<T>) {
    let offset = cell.as_ptr() as usize % PAGE_SIZE;
    // SAFETY: cells lie in frames that begin with a head, and that stay while one of their cells is in use.
    let (a, head) = unsafe { (pool::owner(cell), cell.cast::<u8>().sub(offset).cast::<Head>().as_ref()) };
    let open = a.slabs.0.lock();
    let mut cells = head.cells.get();
    cells.give(head.class.cell(offset));
    head.cells.set(cells);
    let open = &open[head.class.index()];
    if !cells.empty(head.class) {
        // Behind those that are in the list already; one that is stays where it is.
        return open.push_back::<Open>(head);
    }
    open.remove::<Open>(head);
    // SAFETY: no cell is in use, and nobody finds it any more.
    unsafe { pool::free(NonNull::from(head).cast()) };
}
