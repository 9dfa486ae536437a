//! Reports of blocked accesses: a line each, so many in a second, then none until the second is over. Meanwhile the units
//! are silent, so that a device that faults all the time costs a bounded number of interrupts. Units that do not interrupt
//! are looked at from time to time. All of this is the boot CPU's.

use super::{Machine, machine};
use crate::arch::{cpu::cpu, time};
use crate::say;
use ::iommu::Limit;
use spin::Mutex;

struct Reports {
    limit: Limit,
    left_out: u64,
    /// Until the second is over.
    silent: bool,
}

static REPORTS: Mutex<Reports> = Mutex::new(Reports { limit: Limit::new(), left_out: 0, silent: false });
/// So often in a second units are looked at that do not interrupt.
const LOOKS: u64 = 4;

/// The units are on.
pub fn start(m: &Machine) {
    if m.polled {
        cpu().look_at_iommus.set(0);
    }
}

/// A unit has something to report, or may have.
pub fn interrupt() {
    let Some(m) = machine() else { return };
    let (mut r, second) = (REPORTS.lock(), time::frequency());
    let lost = m.units.drain(&mut |fault| {
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
    if r.limit.exhausted() && !r.silent {
        r.silent = true;
        m.units.silence(true);
        let at = time::now() + second;
        cpu().look_at_iommus.set(at);
        time::arm(at);
    }
}

/// When [`resume`] has something to do on this CPU.
pub fn resume_at() -> u64 {
    cpu().look_at_iommus.get()
}

/// The timer fired: lets the units report again if it is time, or looks what they have.
pub fn resume(now: u64) {
    if now < resume_at() {
        return;
    }
    let Some(m) = machine() else { return };
    cpu().look_at_iommus.set(if m.polled { now + time::frequency() / LOOKS } else { u64::MAX });
    let mut r = REPORTS.lock();
    if !core::mem::take(&mut r.silent) {
        drop(r);
        return interrupt();
    }
    // What came while the units were silent is in their records, and there may be more of it than these hold.
    let mut n = core::mem::take(&mut r.left_out);
    n += u64::from(m.units.drain(&mut |_| n += 1));
    if n != 0 {
        say!("DMA faults: at least {n} more");
    }
    m.units.silence(false);
}
