//! Who runs next on this CPU.
//!
//! Every kernel entry ends in [`go`]. A hypercall or event handler only says how to go on ([`Next`]); nothing is left
//! on the stack. The scheduling context that pays (`Cpu::sc`) runs the EC at the end of its call chain, or, while that
//! waits for a busy handler, helps the chain that keeps the handler busy.

use crate::arch::{self, cpu::cpu, fpu, guest, paging, speculation, tables, time};
use crate::event;
use crate::mem::refs::{self, Ref};
use crate::object::ec::{Cont, Ec, EcKind, Expect, Resume};
use crate::object::sc::{self, Sc};
use crate::{remote, trace};
use core::arch::asm;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How a kernel entry goes on.
pub enum Next {
    /// This EC, paid by the current SC.
    Run(&'static Ec),
    /// The current SC stays ready, but somebody else may be first.
    Resched,
    /// The current SC waits until this EC is released from its semaphore.
    Park(&'static Ec),
    /// This EC goes on with a hypercall, paid by the current SC; interrupts are let in first.
    Yield(&'static Ec),
    /// There is no current SC any more.
    Pick,
}

/// After so many steps without leaving the kernel, interrupts are let in: chains of helpers can be long or circular.
const MAX_STEPS: u32 = 64;

/// Goes on, and leaves the kernel.
pub fn go(mut next: Next) -> ! {
    let mut steps = 0;
    loop {
        steps += 1;
        if steps == MAX_STEPS {
            steps = 0;
            requeue();
            preemption_point();
            next = Next::Pick;
        }
        next = match next {
            Next::Run(ec) => step(ec),
            Next::Resched => {
                requeue();
                pick()
            }
            Next::Yield(ec) => {
                steps = 0;
                preemption_point();
                step(ec)
            }
            Next::Park(ec) => {
                charge();
                if let Some(sc) = put_away() {
                    sc.park(ec);
                }
                pick()
            }
            Next::Pick => pick(),
        };
    }
}

fn step(ec: &'static Ec) -> Next {
    if ec.blocked.get() {
        return Next::Park(ec);
    }
    match ec.cont.get() {
        Cont::Sysret | Cont::Iret | Cont::Guest | Cont::Restart if preempted() => Next::Resched,
        c @ (Cont::Sysret | Cont::Iret | Cont::Guest) => {
            // Before a recall is looked for and the space is entered: destroying objects may wait, and a CPU that waits
            // answers strong recalls and shoot-downs.
            if refs::chores_left() && !tidy_up(ec, c) {
                return next_of_payer(ec);
            }
            match c {
                _ if ec.recall.load(Relaxed) => recall(ec, c),
                Cont::Sysret => leave(ec, true),
                Cont::Iret => leave(ec, false),
                _ => guest::run(ec),
            }
        }
        Cont::Startup => {
            let (resume, n) = match ec.kind {
                EcKind::Vcpu => (Resume::Guest, abi::event::GST_STARTUP),
                _ => (Resume::Iret, abi::event::HST_STARTUP),
            };
            ec.expect.set(Expect::State(resume));
            event::raise(ec, n as u16)
        }
        Cont::Event(n) => event::raise(ec, n),
        Cont::Call => crate::call::ipc::ipc_call(ec),
        Cont::Restart => crate::call::restart(ec),
        Cont::Receive | Cont::Reply | Cont::Dead => next_of_payer(ec),
    }
}

/// Destroys a portion of what is to be destroyed, before `ec` goes on. `false`: it does not any more.
#[cold]
fn tidy_up(ec: &'static Ec, cont: Cont) -> bool {
    // None: it worked for somebody who is gone, and nothing refers to it any more.
    let Some(held) = Ref::try_from_found(ec) else { return false };
    let payer = cpu().sc.get().map(|s| s as *const Sc);
    refs::portion(false);
    let same = ec.cont.get() == cont && cpu().sc.get().map(|s| s as *const Sc) == payer && !preempted();
    drop(held);
    same
}

/// `ec` does not go on as it was about to: on with whatever the current SC has to run.
fn next_of_payer(ec: &'static Ec) -> Next {
    let leaf = cpu().sc.get().map(|sc| sc.leaf.get());
    match leaf {
        // While it was looked at, it or its chain was ended, or something else is to run first.
        Some(_) if preempted() => Next::Resched,
        Some(leaf) if !core::ptr::eq(leaf, ec) => Next::Run(leaf),
        // The end of a chain receives or is dead only if the chain has ended: its SC has nothing to run.
        Some(leaf) if matches!(leaf.cont.get(), Cont::Receive | Cont::Reply | Cont::Dead) => {
            charge();
            if let Some(sc) = put_away() {
                sc.finish();
            }
            Next::Pick
        }
        Some(leaf) => Next::Run(leaf),
        None => Next::Pick,
    }
}

fn recall(ec: &'static Ec, c: Cont) -> Next {
    ec.recall.swap(false, SeqCst);
    let (resume, n) = match c {
        Cont::Guest => (Resume::Guest, abi::event::GST_RECALL),
        Cont::Sysret => (Resume::Sysret, abi::event::HST_RECALL),
        _ => (Resume::Iret, abi::event::HST_RECALL),
    };
    ec.expect.set(Expect::State(resume));
    event::raise(ec, n as u16)
}

/// Whether somebody with a higher priority is ready, or the turn is over and an equal is.
fn preempted() -> bool {
    let c = cpu();
    let Some(sc) = c.sc.get() else { return true };
    c.ready.highest().is_some_and(|p| p > sc.prio || (p == sc.prio && c.turn_over.get()))
}

/// The chain of `sc` has moved on to `leaf`. If a helper has moved it, the SC may wait for somebody that no longer
/// matters.
pub fn moved(sc: &'static Sc, leaf: &'static Ec) {
    sc.leaf.set(leaf);
    if sc.unpark() {
        ready(sc);
    }
}

/// Makes an SC ready.
pub fn ready(sc: &'static Sc) {
    cpu().ready.push_back::<sc::Ready>(sc, sc.prio);
}

/// Charges the current SC, or idle time, up to now.
pub fn charge() {
    let c = cpu();
    let t = time::now();
    let used = t.wrapping_sub(c.since.replace(t));
    match c.sc.get() {
        Some(sc) => {
            if sc.charge(used, t) {
                c.turn_over.set(true);
            }
        }
        None => {
            if let Some(i) = remote::idle() {
                i.charge(used, t);
                i.clock(0);
            }
        }
    }
}

/// The current SC does not run any more.
fn put_away() -> Option<&'static Sc> {
    let sc = cpu().sc.take()?;
    sc.clock(0);
    Some(sc)
}

/// Puts the current SC back: in front while its turn lasts, else behind its equals.
fn requeue() {
    charge();
    let c = cpu();
    let Some(sc) = put_away() else { return };
    if !sc.is_active() {
        return;
    }
    if c.turn_over.get() {
        c.ready.push_back::<sc::Ready>(sc, sc.prio);
    } else {
        c.ready.push_front::<sc::Ready>(sc, sc.prio);
    }
}

fn pick() -> Next {
    charge();
    let c = cpu();
    c.turn_over.set(false);
    let Some(sc) = c.ready.pop::<sc::Ready>() else { return idle() };
    c.sc.set(Some(sc));
    c.slice_end.set(c.since.get() + sc.left());
    sc.clock(c.since.get());
    time::rearm();
    trace!(SCHEDULE, Some(sc.leaf.get()), sc.prio.into(), trace::name(&sc.ec).into());
    Next::Run(sc.leaf.get())
}

/// The time `t` has come: notes whether the current SC's turn is over.
pub fn tick(t: u64) {
    let c = cpu();
    if c.sc.get().is_some() && t >= c.slice_end.get() {
        charge();
        c.turn_over.set(true);
        if let Some(sc) = c.sc.get() {
            c.slice_end.set(t + sc.left());
        }
    }
}

fn idle() -> Next {
    trace!(SCHEDULE, None, 0, 0);
    cpu().sc.set(None);
    leave_space();
    if refs::chores_left() {
        refs::portion(true);
        preemption_point();
        // That may have released somebody.
        return Next::Pick;
    }
    if let Some(i) = remote::idle() {
        i.clock(cpu().since.get());
    }
    time::rearm();
    // SAFETY: interrupts go to `kernel_trap`, which schedules.
    unsafe { arch::idle_halt() }
}

/// Saves what belongs to the EC that ran last, so that another can run.
fn leave_space() {
    let c = cpu();
    if let Some(old) = c.ec.take().filter(|o| o.kind != EcKind::Vcpu) {
        let (fs, gs): (u64, u64);
        // SAFETY: CR4.FSGSBASE is on.
        unsafe {
            asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
        }
        old.fs_gs.set((fs, gs));
        tables::clear_data_segments();
    }
}

/// Makes `ec` the one that the next trap belongs to.
pub fn make_current(ec: &'static Ec) {
    let c = cpu();
    if c.ec.get().is_some_and(|o| core::ptr::eq(o, ec)) {
        return;
    }
    leave_space();
    c.ec.set(Some(ec));
    if ec.kind == EcKind::Vcpu {
        return;
    }
    tables::set_trap_stack(ec.trap_stack());
    let (fs, gs) = ec.fs_gs.get();
    // SAFETY: FSGSBASE is on; a base that user mode set or zero is canonical.
    unsafe {
        asm!("wrfsbase {}", "wrgsbase {}", in(reg) fs, in(reg) gs, options(nomem, nostack, preserves_flags));
    }
}

fn enter_space(ec: &'static Ec) -> bool {
    let c = cpu();
    if !ec.hst.enter() {
        return false;
    }
    match ec.pio.as_ref().and_then(|p| p.frames()) {
        None => tables::enable_io_bitmap(false),
        Some(frames) => {
            if c.io_bitmap.replace(frames[0]) != frames[0] {
                paging::set_io_bitmap(frames);
            }
            tables::enable_io_bitmap(true);
            if c.tr_stale.replace(false) {
                tables::reload_task_register();
            }
        }
    }
    true
}

fn leave(ec: &'static Ec, sysret: bool) -> Next {
    if let Some(sc) = ec.chain.get() {
        moved(sc, ec);
    }
    make_current(ec);
    if !enter_space(ec) {
        return event::kill(ec, "has no host space on this CPU any more");
    }
    fpu::enter_host(ec);
    speculation::before_user();
    let gpr = (&raw const ec.regs().regs).cast();
    // SAFETY: the frame is complete: RIP is a user address, the selectors are the user's, flags have IF.
    unsafe { if sysret { arch::leave_sysret(gpr) } else { arch::leave_iret(gpr) } }
}

/// Lets interrupts in for a moment. If one arrives, this does not return.
pub fn preemption_point() {
    // SAFETY: interrupts go to `kernel_trap`, which schedules and does not return here.
    unsafe { asm!("sti", "nop", "cli", options(nomem, nostack)) };
}
