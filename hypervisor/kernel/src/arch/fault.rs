//! The quick way of page faults (docs/design/0018): from the access to the pager, and by its reply back to the access, as on the
//! fast path of calls if nothing changes but who runs. Whatever is not plain goes the usual way, from the beginning.

use super::cpu::Cpu;
use super::fast::{go_on, state_word};
use super::{enter_portal, exit, leave_iret, paging, trap};
use crate::object::ec::{Cont, Ec, Expect};
use crate::{event, schedule};
use abi::Mtd;
use x86::controlregs::cr2;

/// An exception of `ec`, which runs. It comes back if that is to go the usual way.
#[inline(always)]
pub fn raise(c: &Cpu, ec: &'static Ec) {
    let f = ec.regs();
    if c.slow.get() != 0 || f.regs.vector != trap::PF {
        return;
    }
    // SAFETY: reading CR2 has no effect.
    f.cr2 = unsafe { cr2() } as u64;
    if !paging::has_top(ec.cr3, f.cr2) {
        return;
    }
    let Some((pt, h, s)) = exit::pager_of(c, ec, trap::PF) else { return };
    let mtd = pt.mtd();
    event::save_host(ec, mtd, s);
    ipc::enter_at_once(ec, h, pt.key(), Expect::State(Cont::Iret));
    if !schedule::exchange(ec, h, false) {
        event::prepare(h, pt, mtd.bits().into());
        go_on(h)
    }
    // SAFETY: it waits in user mode, in a hypercall; portals lead to addresses there.
    unsafe { enter_portal(pt.pid(), mtd.bits(), (&raw const *h).addr(), pt.ip) }
}

/// The reply of `h` to who waits as of an exception. It comes back if there is nobody, or that is to go the usual way.
#[inline(always)]
pub fn reply(c: &Cpu, h: &'static Ec, mtd: Mtd) {
    if let Some(ec) = h.ipc.caller.get()
        && let Some(u) = h.utcb()
        && c.slow.get() == 0
        && state_word(ec) == c.fault_waits.get()
        && !h.is_kept()
    {
        event::load_host(ec, mtd, u.arch());
        ipc::return_at_once(h, ec, Cont::Iret);
        if !schedule::exchange(h, ec, true) {
            go_on(ec)
        }
        // SAFETY: the frame is complete: RIP is a user address, the selectors are the user's, flags have IF.
        unsafe { leave_iret((&raw const ec.regs().regs).cast()) }
    }
}
