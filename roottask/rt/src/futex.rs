//! futex(2) as std uses it, in user space: hashed lists of waiters behind one lock, and each thread's own semaphore.
//!
//! Mutex, Condvar, RwLock, Once, park and mpsc of std all come here, and only when they have to wait or wake.

use crate::errno::{EAGAIN, EINVAL, ENOSYS, ETIMEDOUT, fail};
use crate::lock::{Gate, Lock};
use crate::{hypercall, random, root, tcb, time};
use abi::Sel;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, Ordering};

const BUCKETS: usize = 64;

/// A thread that waits; lies on its stack.
struct Waiter {
    addr: *const AtomicU32,
    /// Who takes the waiter off its list owes one `up` of it.
    sem: Sel,
    next: *mut Waiter,
}

/// First in, first out.
struct Queues([*mut Waiter; BUCKETS]);
// SAFETY: the lists are only touched behind the lock, and a waiter leaves its list before its stack frame goes.
unsafe impl Send for Queues {}

static QUEUES: Lock<Queues> = Lock::new(Queues([null_mut(); BUCKETS]));

pub fn gate() -> &'static Gate {
    QUEUES.gate()
}

impl Queues {
    fn bucket(&mut self, addr: *const AtomicU32) -> *mut *mut Waiter {
        let hash = (addr.addr() >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - BUCKETS.ilog2());
        &raw mut self.0[hash]
    }

    /// # Safety
    /// `w` stays where it is until it is removed.
    unsafe fn append(&mut self, w: *mut Waiter) {
        // SAFETY: all waiters on the list are valid (contract), and we hold the lock.
        unsafe {
            let mut link = self.bucket((*w).addr);
            while !(*link).is_null() {
                link = &raw mut (**link).next;
            }
            *link = w;
        }
    }

    /// Takes the first waiter off the list that `pick` accepts.
    fn take(&mut self, addr: *const AtomicU32, pick: impl Fn(*mut Waiter) -> bool) -> *mut Waiter {
        let mut link = self.bucket(addr);
        // SAFETY: as in `append`.
        unsafe {
            while !(*link).is_null() && !pick(*link) {
                link = &raw mut (**link).next;
            }
            let w = *link;
            if !w.is_null() {
                *link = (*w).next;
            }
            w
        }
    }
}

/// Waits for a wake at `addr` if the word there is `expected`; until the TSC reaches `deadline`.
///
/// # Safety
/// `addr` is a valid futex word.
unsafe fn wait(addr: *const AtomicU32, expected: u32, deadline: Option<u64>) -> Result<(), i32> {
    let sem = tcb::my().sem;
    let mut waiter = Waiter { addr, sem, next: null_mut() };
    let w = &raw mut waiter;
    let queued = QUEUES.with(|q| {
        // SAFETY: contract; `w` is off the list before we return.
        unsafe {
            let same = (*addr).load(Ordering::SeqCst) == expected;
            if same {
                q.append(w);
            }
            same
        }
    });
    if !queued {
        return Err(EAGAIN);
    }
    root::contended();
    if hypercall::sm_down(sem, false, deadline).is_ok() {
        return Ok(());
    }
    if QUEUES.with(|q| q.take(addr, |c| c == w)).is_null() {
        // A waker was first. Its `up` is on the way and must not stay for the next wait.
        crate::lock::wait(sem);
        return Ok(());
    }
    Err(ETIMEDOUT)
}

/// Wakes up to `max` waiters at `addr`; returns how many.
fn wake(addr: *const AtomicU32, max: u32) -> usize {
    let mut n = 0;
    while n < max as usize {
        let sem = QUEUES.with(|q| {
            // SAFETY: waiters on the list are valid while we hold the lock.
            let w = q.take(addr, |c| unsafe { (*c).addr == addr });
            // SAFETY: it cannot return before our `up` below, for which it has to wait.
            (!w.is_null()).then(|| unsafe { (*w).sem })
        });
        let Some(sem) = sem else { break };
        let _ = hypercall::sm_up(sem);
        n += 1;
    }
    n
}

/// Waits until the word is another than `seen`, or the TSC reaches `tsc`; or not so long.
pub(crate) fn wait_change(word: &AtomicU32, seen: u32, tsc: Option<u64>) {
    // SAFETY: a reference is valid.
    let _ = unsafe { wait(word, seen, tsc) };
}

/// Wakes all that wait for a change.
pub(crate) fn wake_all(word: &AtomicU32) {
    wake(word, u32::MAX);
}

const FUTEX_WAIT: usize = 0;
const FUTEX_WAKE: usize = 1;
const FUTEX_WAIT_BITSET: usize = 9;
const FUTEX_WAKE_BITSET: usize = 10;
const FUTEX_PRIVATE: usize = 128;

/// # Safety
/// As futex(2).
unsafe fn futex(addr: *const AtomicU32, op: usize, val: u32, ts: *const time::Timespec) -> Result<usize, i32> {
    if addr.is_null() || !addr.is_aligned() {
        return Err(EINVAL);
    }
    // SAFETY: C's contract: null or a valid time.
    let ns = unsafe { ts.as_ref() }.map(|t| t.ns().ok_or(EINVAL)).transpose()?;
    match op & !FUTEX_PRIVATE {
        // Relative.
        FUTEX_WAIT => {
            let deadline = ns.map(|ns| time::tsc_from_ns(time::now_ns().saturating_add(ns)));
            // SAFETY: contract.
            unsafe { wait(addr, val, deadline) }.map(|()| 0)
        }
        // Absolute, monotonic clock. std's bit set is always "any".
        FUTEX_WAIT_BITSET => {
            // SAFETY: contract.
            unsafe { wait(addr, val, ns.map(time::tsc_from_ns)) }.map(|()| 0)
        }
        FUTEX_WAKE | FUTEX_WAKE_BITSET => Ok(wake(addr, val.min(i32::MAX as u32))),
        _ => Err(ENOSYS),
    }
}

const SYS_GETTID: usize = 186;
const SYS_FUTEX: usize = 202;
const SYS_GETRANDOM: usize = 318;
/// As std passes it.
const ANY_BIT: u32 = u32::MAX;

/// syscall(2), for what std and the getrandom crate ask of it.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(nr: usize, a: usize, b: usize, c: usize, d: usize, _e: usize, bits: u32) -> isize {
    match nr {
        SYS_FUTEX if matches!(b & !FUTEX_PRIVATE, FUTEX_WAIT_BITSET | FUTEX_WAKE_BITSET) && bits != ANY_BIT => {
            fail(ENOSYS)
        }
        // SAFETY: C's contract; a deadline is only read for waits.
        SYS_FUTEX => {
            let ts = if matches!(b & !FUTEX_PRIVATE, FUTEX_WAIT | FUTEX_WAIT_BITSET) { d } else { 0 };
            // SAFETY: C's contract of syscall(2).
            crate::errno::ret(unsafe { futex(a as *const AtomicU32, b, c as u32, ts as *const time::Timespec) })
        }
        SYS_GETTID => tcb::my().id as isize,
        // SAFETY: C's contract.
        SYS_GETRANDOM => unsafe { random::getrandom(a as *mut u8, b, c as u32) },
        _ => fail(ENOSYS),
    }
}

/// pthread_mutex_t as a three-state futex word. Fallback paths of crates link it; std has its own.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_lock(m: *const AtomicU32) -> i32 {
    // SAFETY: C's contract.
    unsafe {
        if (*m).compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while (*m).swap(2, Ordering::Acquire) != 0 {
                let _ = wait(m, 2, None);
            }
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_unlock(m: *const AtomicU32) -> i32 {
    // SAFETY: C's contract.
    if unsafe { (*m).swap(0, Ordering::Release) } == 2 {
        wake(m, 1);
    }
    0
}
