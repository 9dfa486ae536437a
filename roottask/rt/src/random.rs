//! Random numbers: RDRAND where the CPU has it.
//!
//! Without RDRAND (most emulated CPUs) they come from a generator seeded with the time-stamp counter. That is good
//! enough for hash tables and **not for keys**: who knows about when a component started can guess them.

use crate::errno::{EINVAL, fail};
use crate::time;
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use rtlogic::Mixer;

/// CPUID leaf 1, ECX (Intel SDM volume 2, CPUID).
const CPUID_FEATURES: u32 = 1;
const ECX_RDRAND: u32 = 1 << 30;
/// Intel SDM volume 1, 7.3.17.1: ten tries, then it is out of order.
const TRIES: u32 = 10;

fn has_rdrand() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    // CPUID may trap into a hypervisor below us: once is enough.
    static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
    if KNOWN.load(Ordering::Relaxed) == UNKNOWN {
        let has = __cpuid(CPUID_FEATURES).ecx & ECX_RDRAND != 0;
        KNOWN.store(if has { YES } else { NO }, Ordering::Relaxed);
    }
    KNOWN.load(Ordering::Relaxed) == YES
}

fn rdrand() -> Option<u64> {
    (0..TRIES).find_map(|_| {
        let (value, ok): (u64, u8);
        // SAFETY: only after CPUID has said that the instruction is there.
        unsafe { asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
        (ok != 0).then_some(value)
    })
}

static STATE: AtomicU64 = AtomicU64::new(0);

/// A random number.
pub fn number() -> u64 {
    if has_rdrand()
        && let Some(v) = rdrand()
    {
        return v;
    }
    let mut m = Mixer::new(STATE.load(Ordering::Relaxed));
    m.stir(time::tsc());
    let v = m.next();
    // Two threads at a time may read the same state, but not the same TSC.
    STATE.store(v ^ m.next(), Ordering::Relaxed);
    v
}

const GRND_NONBLOCK: u32 = 1;
const GRND_RANDOM: u32 = 2;
const GRND_INSECURE: u32 = 4;

/// getrandom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(p: *mut u8, n: usize, flags: u32) -> isize {
    if flags & !(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0 {
        return fail(EINVAL);
    }
    for at in (0..n).step_by(8) {
        let bytes = number().to_ne_bytes();
        // SAFETY: C's contract: `n` bytes at `p`.
        unsafe { p.add(at).copy_from_nonoverlapping(bytes.as_ptr(), (n - at).min(8)) };
    }
    n as isize
}
