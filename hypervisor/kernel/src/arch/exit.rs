//! The quick way of VM exits (docs/design/0017): from the guest to the handler of its exit, and by the handler's reply back,
//! if nothing changes but who runs. Whatever is not plain goes the usual way, from the beginning.
//!
//! Plain is the CPU ([`slow::GUEST`] and nothing else): what a guest has in registers that user mode does not see, or traps
//! on, is there, and stays while the handler runs. So a reply finds it again.

use super::cpu::{Cpu, cpu};
use super::fast::{slow, state_word};
use super::{enter_portal, fault, fpu, guest, tables, trap};
use crate::event;
use crate::object::ec::{Cont, Ec, Expect};
use crate::object::pt::Pt;
use crate::schedule::{self, Next};
use abi::{ArchState, Mtd, perm};

/// Groups that a reply cannot move at once: they end the vCPU, or assign it to other spaces.
const NOT_AT_ONCE: Mtd = Mtd::POISON.union(Mtd::SPACES);

/// The vCPU that has just left its guest, if the CPU is plain.
#[inline(always)]
pub fn current(c: &Cpu) -> Option<&'static Ec> {
    c.ec.get().filter(|_| c.slow.get() == slow::GUEST)
}

/// The portal for event `n` of `ec`, and its handler and that one's UTCB, if it receives and is fit.
#[inline(always)]
pub fn pager_of(c: &Cpu, ec: &'static Ec, n: u64) -> Option<(&'static Pt, &'static Ec, &'static mut ArchState)> {
    let pt = ec.obj.find_at_once::<Pt>(ec.evt.wrapping_add(n), perm::Pt::EVENT.bits())?;
    let h = pt.ec.found();
    Some((pt, h, h.utcb().filter(|_| state_word(h) == c.receives.get())?.arch_mut()))
}

/// The same if it is in the space that this CPU is in.
#[inline(always)]
pub fn handler_of(c: &Cpu, ec: &'static Ec, n: u64) -> Option<(&'static Pt, &'static Ec, &'static mut ArchState)> {
    pager_of(c, ec, n).filter(|(_, h, _)| h.cr3 == c.cr3.get())
}

/// Has the handler of an exit run, with the message that is in its UTCB.
#[inline(always)]
pub fn hand_over(ec: &'static Ec, pt: &'static Pt, h: &'static Ec, mtd: Mtd) -> ! {
    ipc::enter_at_once(ec, h, pt.key(), Expect::State(Cont::Guest));
    schedule::be_current(h);
    // SAFETY: it waits in user mode, in a hypercall; portals lead to addresses there.
    unsafe { enter_portal(pt.pid(), mtd.bits(), (&raw const *h).addr(), pt.ip) }
}

/// The same, with any message.
#[inline(never)]
pub fn save_and_hand_over(ec: &'static Ec, pt: &'static Pt, h: &'static Ec, s: &mut ArchState) -> ! {
    let mtd = pt.mtd();
    event::save(ec, mtd, s);
    hand_over(ec, pt, h, mtd)
}

/// The vCPU that waits for the reply of `h` and can go on at once: what its guest has in registers is there.
#[inline(always)]
fn waiting(c: &Cpu, h: &'static Ec) -> Option<&'static Ec> {
    let ec = h.ipc.caller.get().filter(|_| c.slow.get() == slow::GUEST)?;
    let same = state_word(ec) == c.guest_waits.get() && ec.cr3 == c.cr3.get();
    (same && fpu::owns(ec)).then_some(ec)
}

/// `ec` goes on, to which `h` has replied.
#[inline(always)]
fn back(ec: &'static Ec, h: &'static Ec) {
    ipc::return_at_once(h, ec, Cont::Guest);
    schedule::stop_being_current(h);
    cpu().ec.set(Some(ec));
}

/// A reply without flags that the fast path of calls has no use for, of the EC that runs: its registers.
pub extern "C" fn reply(h: &'static Ec, rsi: u64, rdi: u64, rip: u64) -> ! {
    if let Some(ec) = waiting(cpu(), h)
        && let (Some(v), Some(u)) = (ec.vcpu.as_ref(), h.utcb())
    {
        guest::reply_at_once(v, rsi as u32, u.arch(), || back(ec, h));
    }
    reply_usually(h, rsi, rdi, rip)
}

/// The same if more is to be done, or the CPU is plain for calls, but the caller waits for no words.
#[cold]
#[inline(never)]
pub extern "C" fn reply_usually(h: &'static Ec, rsi: u64, rdi: u64, rip: u64) -> ! {
    let mtd = Mtd::from_bits_truncate(rsi as u32);
    if !mtd.contains(Mtd::POISON) {
        fault::reply(cpu(), h, mtd);
    }
    if !mtd.intersects(NOT_AT_ONCE)
        && let Some(ec) = waiting(cpu(), h)
        && let Some(u) = h.utcb()
    {
        event::load(ec, mtd, u.arch(), h);
        back(ec, h);
        if let Some(v) = ec.vcpu.as_ref().filter(|_| !mtd.intersects(guest::RARE)) {
            guest::reply_at_once(v, 0, u.arch(), || {});
        }
        tables::clear_data_segments();
        ipc::is_leaf(ec);
        schedule::go(Next::Run(ec))
    }
    let r = &mut h.regs().regs;
    (r.gpr[trap::RSI], r.gpr[trap::RDI], r.rip, r.rflags) = (rsi, rdi, rip, trap::USER_FLAGS);
    crate::call::hypercall()
}
