//! The fast path (docs/design/0016): calls and replies between host ECs of one CPU that change nothing but who runs are done
//! in entry.S, from `syscall` to `sysret`. Whatever is not plain goes the usual way, as if there were no other.
//!
//! What the fast path leaves out is made up for at the next entry that is not fast ([`arrive`]): the leaf of the call
//! chain, and whose vector state is in the registers.

use super::{cpu::cpu, fpu, guest, tables};
use crate::object::ec::{Cont, Ec, Expect, Tag};
use crate::schedule::{self, Next};
use crate::trace;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// Why a CPU does not use the fast path at the moment. A bit each.
pub mod slow {
    /// Something is to be destroyed.
    pub const CHORES: u32 = 1;
    /// The current EC does not own the vector registers.
    pub const FPU: u32 = 2;
    /// The current SC helps another chain, or the EC has none.
    pub const HELPS: u32 = 4;
    /// The current EC has the TSC_AUX of a guest.
    pub const REGISTERS: u32 = 8;
    /// Entries are traced.
    pub const TRACE: u32 = 16;
    /// It is turned off, or buffers are to be cleared at each exit. From the beginning, for good.
    pub const OFF: u32 = 32;
    /// Registers are as the guest of the EC that owns the vector registers has left them, as far as user mode does not see
    /// that. Alone it means the quick way of VM exits ([`super::super::exit`]), and keeps calls from theirs.
    pub const GUEST: u32 = 64;
    /// The current EC has I/O ports. Alone it does not keep the CPU from changing to another thread at once.
    pub const PORTS: u32 = 128;
}

/// Before the current EC goes on in user mode, by the usual way.
#[inline]
pub fn leave(ec: &'static Ec, plain: bool) {
    let c = cpu();
    let owner = match c.fpu_owner.get() {
        Some(o) if core::ptr::eq(o, ec) => bit(slow::REGISTERS, c.tsc_aux.get() != 0),
        Some(o) if guest::is_whole(o) && !ec.is_kept() => slow::GUEST,
        _ => slow::FPU,
    };
    look(ec, owner | bit(slow::PORTS, !plain), plain);
}

/// Before a guest goes on, by the usual way.
pub fn enter_guest(ec: &'static Ec) {
    tables::enable_io_bitmap(false);
    look(ec, if guest::is_whole(ec) { slow::GUEST } else { slow::FPU }, true);
}

#[inline]
fn bit(bit: u32, on: bool) -> u32 {
    if on { bit } else { 0 }
}

#[inline]
fn look(ec: &'static Ec, registers: u32, plain: bool) {
    let c = cpu();
    let payer = c.ipc.payer().map(|s| s as *const _);
    c.slow.set(
        c.slow.get() & (slow::CHORES | slow::OFF)
            | registers
            | bit(slow::HELPS, payer.is_none() || ec.ipc.chain.get().map(|s| s as *const _) != payer)
            | bit(slow::TRACE, trace::any()),
    );
    if ec.ipc.tag.fit.load(Relaxed) == UNFIT && ec.fpu.as_ref().is_some() && !ec.is_kept() {
        ec.ipc.tag.fit.store(if plain { FIT } else { FIT_WITH_PORTS }, Relaxed);
    }
}

/// The current EC has entered the kernel by a way that is not fast. The entries before may have been.
#[inline(always)]
pub fn arrive(ec: &'static Ec) {
    if cpu().slow.get() & (slow::FPU | slow::GUEST) == 0 {
        fpu::owned_by(ec);
    }
    ipc::is_leaf(ec);
}

/// The fast path has gone on to `ec` as far as to its registers, and found something in the way.
pub extern "C" fn go_on(ec: &'static Ec) -> ! {
    arrive(ec);
    schedule::go(Next::Run(ec))
}

/// [`Tag::fit`]: whether an EC can be entered, or released, at once is not known.
pub const UNFIT: u8 = 0;
/// It has vector state, and no I/O ports.
pub const FIT: u8 = 1;
/// It has both.
pub const FIT_WITH_PORTS: u8 = 3;

/// What an EC's state reads as in the first 8 bytes, on a CPU, if it is fit and as given.
pub fn word(cont: Cont, expect: Expect, cpu: u16) -> u64 {
    let tag = Tag { recall: AtomicBool::new(false), fit: AtomicU8::new(FIT), cpu };
    let s = ipc::State::<Ec>::new(cont, tag);
    s.expect.set(expect);
    read(&s)
}

/// The same of one that is blocked in a hypercall, without what it has expected last.
pub fn blocked_word(cpu: u16) -> u64 {
    let tag = Tag { recall: AtomicBool::new(false), fit: AtomicU8::new(FIT), cpu };
    let s = ipc::State::<Ec>::new(Cont::Sysret, tag);
    s.block();
    read(&s) & !EXPECT
}

/// The byte of what an EC expects.
pub const EXPECT: u64 = 0xff << (8 * core::mem::offset_of!(ipc::State<Ec>, expect));
/// What is different if it has I/O ports.
const PORTS: u64 = ((FIT ^ FIT_WITH_PORTS) as u64)
    << (8 * (core::mem::offset_of!(ipc::State<Ec>, tag) + core::mem::offset_of!(Tag, fit)));

/// The first 8 bytes.
#[inline(always)]
fn read(s: &ipc::State<Ec>) -> u64 {
    // SAFETY: the first fields fill them, without gaps; what other CPUs may write there is atomic.
    unsafe { AtomicU64::from_ptr((&raw const *s).cast_mut().cast()) }.load(Relaxed)
}

/// What is compared to know that an EC can be entered, or resumed, at once.
#[inline(always)]
pub fn state_word(ec: &Ec) -> u64 {
    read(&ec.ipc)
}

/// Whether `ec` is blocked in a hypercall and can go on at once when it is released, but perhaps for its I/O ports.
#[inline(always)]
pub fn is_blocked_plainly(ec: &Ec) -> bool {
    (state_word(ec) ^ cpu().blocked.get()) & !(EXPECT | PORTS) == 0
}

/// Whether that has I/O ports.
#[inline(always)]
pub fn has_ports(ec: &Ec) -> bool {
    ec.ipc.tag.fit.load(Relaxed) == FIT_WITH_PORTS
}

/// The first 4 of these bytes.
pub const fn half(cont: Cont, expect: Expect) -> u32 {
    // SAFETY: the type has one byte.
    let expect = unsafe { core::mem::transmute::<Expect, u8>(expect) };
    cont as u32 | (expect as u32) << 8
}
