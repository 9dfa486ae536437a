//! Reports of blocked accesses: a line each, so many in a second, then none until the second is over. Meanwhile the units
//! are silent, so that a device that faults all the time costs a bounded number of interrupts.

use super::machine;
use crate::arch::time;
use crate::say;
use ::iommu::Limit;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use spin::Mutex;

struct Reports {
    limit: Limit,
    left_out: u64,
}

static REPORTS: Mutex<Reports> = Mutex::new(Reports { limit: Limit::new(), left_out: 0 });
/// When the units may interrupt again; `u64::MAX`: they may.
static RESUME: AtomicU64 = AtomicU64::new(u64::MAX);

/// A unit has something to report.
pub fn interrupt() {
    let Some(m) = machine() else { return };
    let (mut r, second) = (REPORTS.lock(), time::frequency());
    for unit in m.all() {
        let lost = unit.drain(|fault| {
            if r.limit.admit(time::now(), second) {
                say!("{fault}");
            } else {
                r.left_out += 1;
            }
        });
        if lost && r.limit.admit(time::now(), second) {
            say!("DMA faults: more than the IOMMU could record");
        } else {
            r.left_out += u64::from(lost);
        }
    }
    if r.limit.exhausted() && RESUME.load(Relaxed) == u64::MAX {
        m.all().for_each(|u| u.silence(true));
        let at = time::now() + second;
        RESUME.store(at, Relaxed);
        time::arm(at);
    }
}

/// When [`resume`] has something to do.
pub fn resume_at() -> u64 {
    RESUME.load(Relaxed)
}

/// The timer fired: lets the units report again if it is time.
pub fn resume(now: u64) {
    if now < resume_at() {
        return;
    }
    let Some(m) = machine() else { return };
    RESUME.store(u64::MAX, Relaxed);
    // What came while the units were silent is in their registers, and there may be more of it than these hold.
    let mut more = false;
    for unit in m.all() {
        let lost = unit.drain(|_| REPORTS.lock().left_out += 1);
        more |= lost;
    }
    let n = core::mem::take(&mut REPORTS.lock().left_out) + u64::from(more);
    if n != 0 {
        say!("DMA faults: at least {n} more");
    }
    m.all().for_each(|u| u.silence(false));
}
