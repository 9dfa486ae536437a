//! Kernel semaphores.

use crate::{hypercall, lock, sel};
use abi::{Sel, Status};

/// A semaphore: of its own, or one that came with the start information.
#[derive(Debug)]
pub struct Semaphore {
    sel: Sel,
    owned: bool,
}

impl Semaphore {
    /// Creates one. Panics if the kernel has no memory or there is no free selector; see [`Semaphore::try_new`].
    pub fn new(count: u64) -> Semaphore {
        Self::try_new(count).expect("rt: no kernel memory for a semaphore")
    }

    /// Creates one.
    pub fn try_new(count: u64) -> Result<Semaphore, Status> {
        Ok(Semaphore { sel: lock::new_semaphore(count)?, owned: true })
    }

    /// The one at a selector, which stays there when this value goes.
    pub const fn from_sel(sel: Sel) -> Semaphore {
        Semaphore { sel, owned: false }
    }

    /// Its selector.
    pub const fn sel(&self) -> Sel {
        self.sel
    }

    /// Adds one, or lets one waiter go.
    pub fn up(&self) {
        self.expect(hypercall::sm_up(self.sel));
    }

    /// Takes one, or waits for it.
    pub fn down(&self) {
        self.expect(hypercall::sm_down(self.sel, false, None));
    }

    /// Takes all there are, or waits for one.
    pub fn down_zero(&self) {
        self.expect(hypercall::sm_down(self.sel, true, None));
    }

    /// Takes one, or waits for it until the TSC reaches `tsc`; `false`: it did.
    pub fn down_until(&self, tsc: u64) -> bool {
        match hypercall::sm_down(self.sel, false, Some(tsc)) {
            Err(Status::Timeout) => false,
            other => {
                self.expect(other);
                true
            }
        }
    }

    /// A wrong selector or missing permission is a mistake in the program, as an index out of bounds is. A counter at
    /// its maximum has nothing to learn from one more.
    fn expect(&self, r: Result<(), Status>) {
        match r {
            Ok(()) | Err(Status::Ovrflow) => {}
            Err(e) => panic!("semaphore at selector {:#x}: {e:?}", self.sel),
        }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        if self.owned {
            sel::free(self.sel);
        }
    }
}
