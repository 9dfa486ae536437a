//! pthread keys: thread-specific values with destructors. std runs its TLS destructors through one of them.

use crate::errno::{EAGAIN, EINVAL};
use crate::tcb::{self, KEYS};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

type Destructor = extern "C" fn(*mut u8);

/// Rounds of destructors that may set values again, as POSIX has it.
const ROUNDS: usize = 4;

static NEXT: AtomicUsize = AtomicUsize::new(0);
/// `Option<Destructor>` as number, by key. Keys are not used again after `pthread_key_delete`.
static DESTRUCTORS: [AtomicUsize; KEYS] = [const { AtomicUsize::new(0) }; KEYS];

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_key_create(key: *mut u32, destructor: Option<Destructor>) -> i32 {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    if n >= KEYS {
        NEXT.store(KEYS, Ordering::Relaxed);
        return EAGAIN;
    }
    DESTRUCTORS[n].store(destructor.map_or(0, |d| d as usize), Ordering::Release);
    // SAFETY: C's contract.
    unsafe { key.write(n as u32) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_key_delete(key: u32) -> i32 {
    match DESTRUCTORS.get(key as usize) {
        Some(d) => {
            d.store(0, Ordering::Release);
            0
        }
        None => EINVAL,
    }
}

/// The calling thread's value of a key.
fn slot(key: usize) -> Option<*mut *mut u8> {
    // SAFETY: only the calling thread uses its keys, and no reference outlives this call.
    (key < KEYS).then(|| unsafe { (*tcb::my().keys.get()).as_mut_ptr().add(key) })
}

#[unsafe(no_mangle)]
extern "C" fn pthread_setspecific(key: u32, value: *mut u8) -> i32 {
    match slot(key as usize) {
        Some(s) => {
            // SAFETY: see `slot`.
            unsafe { s.write(value) };
            0
        }
        None => EINVAL,
    }
}

#[unsafe(no_mangle)]
extern "C" fn pthread_getspecific(key: u32) -> *mut u8 {
    // SAFETY: see `slot`.
    slot(key as usize).map_or(null_mut(), |s| unsafe { s.read() })
}

/// Runs the destructors of the calling thread's values.
pub fn run_destructors() {
    for _ in 0..ROUNDS {
        let mut ran = false;
        for (key, d) in DESTRUCTORS.iter().enumerate() {
            let Some(s) = slot(key) else { continue };
            // SAFETY: see `slot`.
            let value = unsafe { s.replace(null_mut()) };
            let d = d.load(Ordering::Acquire);
            if d != 0 && !value.is_null() {
                // SAFETY: stored from a Destructor by pthread_key_create.
                unsafe { transmute::<usize, Destructor>(d)(value) };
                ran = true;
            }
        }
        if !ran {
            break;
        }
    }
}
