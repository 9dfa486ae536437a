//! The fast path (docs/design/0016): calls and replies between host ECs of one CPU that change nothing but who runs are done
//! in entry.S, from `syscall` to `sysret`. Whatever is not plain goes the usual way, as if there were no other.
//!
//! What the fast path leaves out is made up for at the next entry that is not fast ([`arrive`]): the leaf of the call
//! chain, and whose vector state is in the registers.

use super::trap::{Frame, Regs};
use super::{cpu::Cpu, cpu::cpu, fpu, speculation};
use crate::boot::cpus_online;
use crate::object::ec::{Cont, Ec, Expect, Tag};
use crate::object::{obj::ObjSpace, pt::Pt};
use crate::schedule::{self, Next};
use crate::trace;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use smp::Presence;

/// Why a CPU does not use the fast path at the moment. A bit each.
pub mod slow {
    /// Something is to be destroyed.
    pub const CHORES: u32 = 1;
    /// The current EC does not own the vector registers.
    pub const FPU: u32 = 2;
    /// The current SC helps another chain, or the EC has none.
    pub const HELPS: u32 = 4;
    /// The current EC has I/O ports, or the TSC_AUX of a guest.
    pub const REGISTERS: u32 = 8;
    /// Entries are traced.
    pub const TRACE: u32 = 16;
    /// Buffers are to be cleared at each exit.
    pub const BUFFERS: u32 = 32;
    /// The machine has several CPUs: a suspicion that is not settled (CAVEATS.md).
    pub const SEVERAL: u32 = 64;
}

/// Before the current EC goes on in user mode, by the usual way.
pub fn leave(ec: &'static Ec, plain: bool) {
    let c = cpu();
    let payer = c.ipc.payer().map(|s| s as *const _);
    let bits = [
        (slow::FPU, !c.fpu_owner.get().is_some_and(|o| core::ptr::eq(o, ec))),
        (slow::HELPS, payer.is_none() || ec.ipc.chain.get().map(|s| s as *const _) != payer),
        (slow::REGISTERS, !plain || c.tsc_aux.get() != 0),
        (slow::TRACE, trace::any()),
        (slow::BUFFERS, speculation::plan().clear_buffers),
        (slow::SEVERAL, cpus_online() > 1),
    ];
    let now = bits.iter().filter(|(_, on)| *on).fold(0, |sum, (bit, _)| sum | bit);
    c.slow.set(c.slow.get() & slow::CHORES | now);
    if !ec.ipc.tag.fit.load(Relaxed) && plain && ec.fpu.as_ref().is_some() && !ec.is_kept() {
        ec.ipc.tag.fit.store(true, Relaxed);
    }
}

/// The current EC has entered the kernel by a way that is not fast. The entries before may have been.
pub fn arrive(ec: &'static Ec) {
    if cpu().slow.get() & slow::FPU == 0 {
        fpu::owned_by(ec);
    }
    ipc::is_leaf(ec);
}

/// The fast path has gone on to `ec` as far as to its registers, and found something in the way.
pub extern "C" fn go_on(ec: &'static Ec) -> ! {
    arrive(ec);
    schedule::go(Next::Run(ec))
}

/// What an EC's state reads as in the first 8 bytes, on a CPU, if it is fit and as given.
pub fn word(cont: Cont, cpu: u16) -> u64 {
    let tag = Tag { recall: AtomicBool::new(false), fit: AtomicBool::new(true), cpu };
    let s = ipc::State::<Ec>::new(cont, tag);
    s.expect.set(Expect::Words);
    // SAFETY: the first fields fill these 8 bytes, without gaps.
    unsafe { (&raw const s).cast::<u64>().read() }
}

const fn half(cont: Cont) -> u32 {
    cont as u32 | (WORDS as u32) << 8
}

/// [`Expect::Words`] as a byte.
const WORDS: u8 = {
    // SAFETY: the type has one byte.
    unsafe { core::mem::transmute::<Expect, u8>(Expect::Words) }
};

const STATE: usize = offset_of!(Ec, ipc);
const FRAME: usize = offset_of!(Ec, frame);
const REGS: usize = FRAME + offset_of!(Frame, regs);
const CPU: usize = crate::mem::layout::CPU as usize;

/// Offsets and numbers for entry.S.
pub mod at {
    use super::*;
    pub const CPU_EC: usize = CPU + offset_of!(Cpu, ec);
    pub const CPU_SLOW: usize = CPU + offset_of!(Cpu, slow);
    pub const CPU_CR3: usize = CPU + offset_of!(Cpu, cr3);
    pub const CPU_FREE: usize = CPU + offset_of!(Cpu, receives);
    pub const CPU_WAITS: usize = CPU + offset_of!(Cpu, waits);
    pub const CPU_PRESENCE: usize = CPU + offset_of!(Cpu, presence);
    pub const GPR: usize = REGS + offset_of!(Regs, gpr);
    pub const RIP: usize = REGS + offset_of!(Regs, rip);
    pub const RFLAGS: usize = REGS + offset_of!(Regs, rflags);
    pub const RSP: usize = REGS + offset_of!(Regs, rsp);
    pub const FRAME_END: usize = FRAME + size_of::<Frame>();
    pub const FS: usize = offset_of!(Ec, fs_gs);
    pub const OBJ: usize = offset_of!(Ec, obj);
    pub const UTCB: usize = offset_of!(Ec, utcb);
    pub const CR3: usize = offset_of!(Ec, cr3);
    pub const ROOT: usize = offset_of!(Ec, root);
    pub const EC_STATE: usize = STATE;
    pub const CALLER: usize = STATE + offset_of!(ipc::State<Ec>, caller);
    pub const CALLEE: usize = STATE + offset_of!(ipc::State<Ec>, callee);
    pub const CHAIN: usize = STATE + offset_of!(ipc::State<Ec>, chain);
    pub const ENTRANCE: usize = STATE + offset_of!(ipc::State<Ec>, entrance);
    pub const TABLE: usize = ObjSpace::TABLE;
    pub const KIND: usize = crate::mem::refs::Header::KIND_AND_LIFE;
    pub const PT_EC: usize = offset_of!(Pt, ec);
    pub const PT_IP: usize = offset_of!(Pt, ip);
    pub const PT_PID: usize = offset_of!(Pt, pid);
    pub const P_ROOT: usize = offset_of!(Presence, root);
    pub const P_LEAVING: usize = offset_of!(Presence, leaving);
    pub const RUNS: u32 = half(Cont::Sysret);
    pub const FREE: u32 = half(Cont::Receive);
    pub const WAITS: u32 = half(Cont::Reply);
    pub const IS_PT: u32 = cap::Kind::Pt as u32;
    pub const MAY_CALL: u8 = abi::perm::Pt::CALL.bits();
}
