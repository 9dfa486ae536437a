//! Capabilities that come in messages: where they arrive, and how long they stay.
//!
//! Each thread that receives some has a window. What has arrived stays in its slot for as long as it is used: during the call
//! whose argument it is, and while somebody has it [`Held`]. Then the slot is null, and receives again. A window without room
//! for a full message is given up for a new one.
//!
//! Key types: [`Held`], [`Arrivals`].

use crate::lock::{Gate, Lock};
use crate::{domain, hypercall, sel, space, tcb};
use abi::{Arrival, Item, Sel, Status, Utcb};
use alloc::vec::Vec;
use core::ops::Deref;
use rpc::{Cap, Interface, Signal, Space, Uses, Window};
use services::vm::GuestSpace;

struct Books {
    uses: Uses,
    /// Of all threads.
    windows: Vec<Window>,
}

static BOOKS: Lock<Books> = Lock::new(Books { uses: Uses::new(), windows: Vec::new() });

pub(crate) fn gate() -> &'static Gate {
    BOOKS.gate()
}

impl Books {
    /// One use less; the last one gives the capability back.
    fn release(&mut self, s: Sel) {
        if !self.uses.less(s) {
            return;
        }
        if self.windows.iter().any(|w| w.contains(s)) {
            // If that fails the slot stays full, and no message finds it.
            let _ = space::revoke(domain::own().obj, s, 1);
        } else {
            sel::free(s);
        }
    }

    fn replace(&mut self, old: Window, new: Option<Window>) {
        self.windows.retain(|w| *w != old);
        self.windows.extend(new);
        old.free(&self.uses).for_each(sel::free);
    }
}

/// Sees to it that a thread has a window with room for a full message. Only for the calling thread, or one that does not
/// receive yet.
pub fn make_room(t: &tcb::Tcb) -> Result<(), Status> {
    let old = t.window.get();
    if BOOKS.with(|b| old.has_room(&b.uses)) {
        return Ok(());
    }
    let first = sel::alloc_range(Window::SLOTS, 1).ok_or(Status::MemCap)?;
    let new = Window { first, slots: Window::SLOTS };
    hypercall::set_window(t.ec, first, Window::SLOTS).inspect_err(|_| sel::free_range(first, Window::SLOTS))?;
    t.window.set(new);
    BOOKS.with(|b| b.replace(old, Some(new)));
    Ok(())
}

/// Gives up the window of a thread that does not run any more.
pub(crate) fn retire(window: Window) {
    if window.slots != 0 {
        BOOKS.with(|b| b.replace(window, None));
    }
}

/// What came with a message, each a use.
pub struct Arrivals {
    sels: [Option<Sel>; Item::MAX],
}

impl Arrivals {
    /// Those of a message with that many items.
    pub fn of(utcb: &Utcb, items: usize) -> Arrivals {
        let mut sels = [None; Item::MAX];
        if items > 0 {
            BOOKS.with(|b| {
                for (i, s) in sels.iter_mut().enumerate().take(items) {
                    let item = Item(utcb.words[Item::word(i)]);
                    *s = match item.arrival() {
                        Some(Arrival::New) => {
                            b.uses.arrived(item.sel());
                            Some(item.sel())
                        }
                        // In a window it has arrived at another thread, which is not here yet.
                        Some(Arrival::Known) if b.windows.iter().any(|w| w.contains(item.sel())) => {
                            b.uses.arrived(item.sel());
                            Some(item.sel())
                        }
                        // What we have another way is not in the books.
                        Some(Arrival::Known) => b.uses.more(item.sel()).then_some(item.sel()),
                        _ => None,
                    };
                }
            });
        }
        Arrivals { sels }
    }

    /// Ends the uses, but for those of the first `kept`.
    pub fn release(self, kept: usize) {
        let mut rest = self.sels.into_iter().skip(kept).flatten().peekable();
        if rest.peek().is_some() {
            BOOKS.with(|b| rest.for_each(|s| b.release(s)));
        }
    }
}

/// Capabilities that belong together.
pub trait Carried: Copy {
    /// Their selectors.
    fn sels(self) -> impl Iterator<Item = Sel>;
}

impl<I: Interface + ?Sized> Carried for Cap<I> {
    fn sels(self) -> impl Iterator<Item = Sel> {
        core::iter::once(self.sel())
    }
}

impl Carried for Signal {
    fn sels(self) -> impl Iterator<Item = Sel> {
        [self.context, self.bell].into_iter()
    }
}

impl Carried for GuestSpace {
    fn sels(self) -> impl Iterator<Item = Sel> {
        core::iter::once(self.0)
    }
}

impl Carried for Space {
    fn sels(self) -> impl Iterator<Item = Sel> {
        core::iter::once(self.0)
    }
}

/// Capabilities that came in a message, and stay until this value goes. Of those that are there another way, such as to an
/// object of our own, nothing is given back.
#[derive(Debug)]
pub struct Held<C: Carried>(C);

impl<C: Carried> Held<C> {
    /// Keeps an argument beyond the call that it came with.
    pub fn keep(cap: C) -> Held<C> {
        BOOKS.with(|b| cap.sels().for_each(|s| _ = b.uses.more(s)));
        Held(cap)
    }

    /// Takes what a call has returned. Without that it stays for good.
    pub const fn adopt(cap: C) -> Held<C> {
        Held(cap)
    }
}

impl<C: Carried> Deref for Held<C> {
    type Target = C;
    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Carried> Drop for Held<C> {
    fn drop(&mut self) {
        BOOKS.with(|b| self.0.sels().for_each(|s| b.release(s)));
    }
}
