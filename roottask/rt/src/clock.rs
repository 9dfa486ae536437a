//! C clocks and sleeping.

use crate::errno::{EFAULT, EINVAL, fail};
use crate::time::{self, Timespec};
use crate::{hypercall, tcb};

const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_MONOTONIC_RAW: i32 = 4;
const CLOCK_REALTIME_COARSE: i32 = 5;
const CLOCK_MONOTONIC_COARSE: i32 = 6;
const CLOCK_BOOTTIME: i32 = 7;

fn read(id: i32) -> Option<u64> {
    match id {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE => Some(time::wall_ns()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => Some(time::now_ns()),
        _ => None,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(id: i32, ts: *mut Timespec) -> i32 {
    let Some(ns) = read(id) else { return fail(EINVAL) as i32 };
    // SAFETY: C's contract.
    unsafe { ts.write(Timespec::from_ns(ns)) };
    0
}

/// Blocks the calling thread until the TSC reaches `deadline`.
fn sleep_until(deadline: u64) {
    // Nobody ups the semaphore while the thread is neither in futex nor in join.
    let sem = tcb::my().sem;
    while time::tsc() < deadline {
        let _ = hypercall::sm_down(sem, false, Some(deadline));
    }
}

/// Blocks the calling thread for so long.
pub(crate) fn sleep(ns: u64) {
    sleep_until(time::tsc_from_ns(time::now_ns().saturating_add(ns)));
}

const TIMER_ABSTIME: i32 = 1;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(id: i32, flags: i32, ts: *const Timespec, _rest: *mut Timespec) -> i32 {
    // SAFETY: C's contract: null or a valid time.
    let Some(ts) = (unsafe { ts.as_ref() }) else { return EFAULT };
    let (Some(ns), Some(now)) = (ts.ns(), read(id)) else { return EINVAL };
    let left = if flags & TIMER_ABSTIME != 0 { ns.saturating_sub(now) } else { ns };
    sleep(left);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(ts: *const Timespec, rest: *mut Timespec) -> i32 {
    // SAFETY: passed on.
    match unsafe { clock_nanosleep(CLOCK_MONOTONIC, 0, ts, rest) } {
        0 => 0,
        e => fail(e) as i32,
    }
}
