//! Locks below std: a counter, and a kernel semaphore for those who come second.
//!
//! There is no `yield` on this system and priorities are strict, so spinning could wait for a thread that never
//! runs. A gate hands over in the order of arrival. Not reentrant; there is no priority inheritance.
//!
//! Key types: [`Lock`] (data behind a gate), [`Gate`], [`StartCell`] (written once by the first thread).

use crate::{domain, hypercall, root, sel};
use abi::{Sel, Status};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Mutual exclusion.
pub struct Gate {
    /// Threads that are inside or want to be.
    count: AtomicU32,
    /// The semaphore; 0: none yet, which is right as long as there is one thread.
    sel: AtomicU64,
}

impl Gate {
    /// An open gate, to be [equipped](Gate::equip) before there is a second thread.
    pub const fn new() -> Gate {
        Gate { count: AtomicU32::new(0), sel: AtomicU64::new(0) }
    }

    /// Creates the semaphore.
    pub fn equip(&self) -> Result<(), Status> {
        self.sel.store(new_semaphore(0)?, Ordering::Release);
        Ok(())
    }

    /// Gives the semaphore back.
    pub fn strip(&self) {
        sel::free(self.sel.swap(0, Ordering::Relaxed));
    }

    fn enter(&self) {
        if self.count.fetch_add(1, Ordering::Acquire) != 0 {
            root::contended();
            wait(self.sel.load(Ordering::Acquire));
        }
    }

    fn try_enter(&self) -> bool {
        self.count.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn leave(&self) {
        if self.count.fetch_sub(1, Ordering::Release) != 1 {
            // Whoever counted up is waiting, or about to; the token is theirs.
            let _ = hypercall::sm_up(self.sel.load(Ordering::Acquire));
        }
    }
}

/// A new semaphore of the own domain.
pub fn new_semaphore(count: u64) -> Result<Sel, Status> {
    let s = sel::alloc().ok_or(Status::MemCap)?;
    hypercall::create_sm(s, domain::own().pd, count).inspect_err(|_| sel::free(s))?;
    Ok(s)
}

/// Downs a semaphore of our own without deadline. It can only fail if someone took the semaphore away; then nothing
/// that it protects can be trusted.
pub fn wait(s: Sel) {
    if hypercall::sm_down(s, false, None).is_err() {
        crate::start::trap();
    }
}

/// Data behind a gate.
pub struct Lock<T> {
    gate: Gate,
    data: UnsafeCell<T>,
}

// SAFETY: the gate lets one thread at a time reach the data, which may move between threads.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// An unlocked one; see [`Gate::new`].
    pub const fn new(data: T) -> Lock<T> {
        Lock { gate: Gate::new(), data: UnsafeCell::new(data) }
    }

    /// The gate, to equip it.
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Runs `f` alone. `f` must not come back to the same lock.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.gate.enter();
        // SAFETY: we are alone behind the gate.
        let r = f(unsafe { &mut *self.data.get() });
        self.gate.leave();
        r
    }

    /// The same if nobody is inside.
    pub fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.gate.try_enter() {
            return None;
        }
        // SAFETY: we are alone behind the gate.
        let r = f(unsafe { &mut *self.data.get() });
        self.gate.leave();
        Some(r)
    }
}

/// A value that the first thread writes before there is another one, and that is constant from then on.
pub struct StartCell<T> {
    value: UnsafeCell<MaybeUninit<T>>,
    set: AtomicBool,
}

// SAFETY: written once, before a second thread exists (contract of `set`).
unsafe impl<T: Send + Sync> Sync for StartCell<T> {}

impl<T> StartCell<T> {
    /// Without a value.
    pub const fn new() -> StartCell<T> {
        StartCell { value: UnsafeCell::new(MaybeUninit::uninit()), set: AtomicBool::new(false) }
    }

    /// # Safety
    /// Once, by the first thread, before there is another and before anyone has a reference from [`StartCell::get`].
    pub unsafe fn set(&self, value: T) {
        // SAFETY: nobody else accesses the cell now.
        unsafe { (*self.value.get()).write(value) };
        self.set.store(true, Ordering::Release);
    }

    /// The value. Before it is set, the process ends here.
    pub fn get(&self) -> &T {
        if !self.set.load(Ordering::Acquire) {
            crate::start::trap();
        }
        // SAFETY: it is set, and constant.
        unsafe { (*self.value.get()).assume_init_ref() }
    }
}
