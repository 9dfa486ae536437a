//! Trace (docs/design/0010, X6): what happens on each CPU, in rings that the root task can read.
//!
//! A point of the trace is [`trace!`]: a load and test of a word that nobody writes, and a jump that is not taken. The
//! rings' protocol is in the crate `tracering`, their layout in [`abi::trace`].

use crate::arch::{cpu::cpu, time};
use crate::boot::memory;
use crate::mem::{layout, pool};
use crate::object::{account::KERNEL, ec::Ec};
use abi::trace::{RECORD_WORDS, RING_BYTES};
use abi::{PAGE_SIZE, TraceKinds, perm};
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use spin::Once;
use tracering::Record;

/// The kinds that are on.
static KINDS: AtomicU16 = AtomicU16::new(0);

/// The rings of all CPUs, and how many.
static RINGS: Once<(u64, u16)> = Once::new();

const _: () = assert!(RECORD_WORDS == tracering::RECORD_WORDS);

/// Allocates the rings and lets them be read. `None`: no memory.
pub fn init(cpus: u16) -> Option<()> {
    let first = pool::row(&KERNEL, RING_BYTES / PAGE_SIZE * cpus as usize)?;
    RINGS.call_once(|| (first.as_ptr() as u64, cpus));
    memory::open(range(), perm::Mem::R);
    Some(())
}

/// Physical range of the rings.
pub fn range() -> (u64, u64) {
    let (start, cpus) = RINGS.get().map_or((0, 0), |(at, n)| (layout::phys(*at), *n));
    (start, start + cpus as u64 * RING_BYTES as u64)
}

/// From now on these kinds are traced.
pub fn choose(kinds: TraceKinds) {
    KINDS.store(kinds.bits(), Relaxed);
}

/// Whether any is.
pub fn any() -> bool {
    KINDS.load(Relaxed) != 0
}

/// Whether one is.
#[inline(always)]
pub fn is_on(kind: TraceKinds) -> bool {
    KINDS.load(Relaxed) & kind.bits() != 0
}

/// A number that an EC has as long as it lives.
pub fn name(ec: &Ec) -> u32 {
    ((ec as *const Ec as u64 - layout::image_start()) / align_of::<Ec>() as u64) as u32
}

/// Writes a record of something that concerns an EC, or none.
#[cold]
#[inline(never)]
pub fn record(kind: TraceKinds, ec: Option<&Ec>, args: [u64; 2]) {
    let Some((rings, _)) = RINGS.get().filter(|(_, cpus)| cpu().id.get() < *cpus) else { return };
    let at = (rings + cpu().id.get() as u64 * RING_BYTES as u64) as *const AtomicU64;
    // SAFETY: this CPU's ring, which nobody else writes, for good; kernel code is not preempted.
    let words = unsafe { core::slice::from_raw_parts(at, RING_BYTES / 8) };
    let who = ec.map_or(0, name);
    tracering::write(words, &Record { time: time::now(), kind: kind.number(), who, args });
}

/// A point of the trace: kind, the EC that it concerns (or `None`), two arguments, evaluated if the kind is on.
#[macro_export]
macro_rules! trace {
    ($kind:ident, $ec:expr, $a:expr, $b:expr) => {
        if $crate::trace::is_on(abi::TraceKinds::$kind) {
            $crate::trace::record(abi::TraceKinds::$kind, $ec, [$a, $b]);
        }
    };
}
