//! Who runs next on this CPU.
//!
//! Every kernel entry ends in [`go`]. A hypercall or event handler only says how to go on ([`Next`]); nothing is left
//! on the stack. Who runs, and who pays, is decided by the crate `ipc`; here that meets time, and the way out.

use crate::arch::{self, cpu::cpu, fast, fast::slow, fpu, guest, paging, speculation, tables, time};
use crate::event;
use crate::mem::refs::{self, Kept};
use crate::object::ec::{Cont, Ec, EcKind, Expect};
use crate::object::hst::HstSpace;
use crate::object::sc::Sc;
use crate::{remote, trace};
use abi::Status;
use core::arch::asm;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ipc::Step;

/// How a kernel entry goes on.
pub type Next = ipc::Next<Ec>;

/// After so many steps without leaving the kernel, interrupts are let in: chains of helpers can be long or circular.
const MAX_STEPS: u32 = 64;

/// Goes on, and leaves the kernel.
pub fn go(mut next: Next) -> ! {
    let mut steps = 0;
    loop {
        steps += 1;
        if steps == MAX_STEPS {
            steps = 0;
            cpu().ipc.requeue();
            preemption_point();
            next = Next::Resched;
        }
        next = match ipc::step(next) {
            Step::Do(ec, cont) => perform(ec, cont),
            Step::Then(next) => next,
            Step::Idle => idle(),
        };
    }
}

fn perform(ec: &'static Ec, cont: Cont) -> Next {
    match cont {
        Cont::Startup => {
            let (resume, n) = match ec.kind {
                EcKind::Vcpu => (Cont::Guest, abi::event::GST_STARTUP),
                _ => (Cont::Iret, abi::event::HST_STARTUP),
            };
            ec.ipc.expect.set(Expect::State(resume));
            event::raise(ec, n as u16)
        }
        Cont::Event => event::raise(ec, ec.ipc.event.get()),
        Cont::Call => crate::call::ipc::ipc_call(ec),
        Cont::Restart => crate::call::restart(ec),
        // Before a recall is looked for and the space is entered: destroying objects may wait, and a CPU that waits
        // answers strong recalls and shoot-downs.
        _ if refs::chores_left() && !tidy_up(ec, cont) => cpu().ipc.next(),
        _ if ec.ipc.tag.recall.load(Relaxed) => recall(ec, cont),
        Cont::Guest => guest::run(ec),
        _ => leave(ec, cont == Cont::Sysret),
    }
}

/// Destroys a portion of what is to be destroyed, before `ec` goes on. `false`: it does not any more.
#[cold]
fn tidy_up(ec: &'static Ec, cont: Cont) -> bool {
    // None: it worked for somebody who is gone, and nothing refers to it any more.
    let Some(held) = Kept::new(ec) else { return false };
    refs::portion(refs::BACKLOG);
    // If somebody was ended, nobody pays now: that counts as preempted.
    let same = ec.ipc.cont.get() == cont && !cpu().ipc.preempted();
    drop(held);
    same
}

fn recall(ec: &'static Ec, c: Cont) -> Next {
    ec.ipc.tag.recall.swap(false, SeqCst);
    let n = if c == Cont::Guest { abi::event::GST_RECALL } else { abi::event::HST_RECALL };
    ec.ipc.expect.set(Expect::State(c));
    event::raise(ec, n as u16)
}

/// Charges that SC, or idle time, up to now.
fn charge(payer: Option<&'static Sc>) {
    let c = cpu();
    let t = time::now();
    let used = t.wrapping_sub(c.since.replace(t));
    match payer {
        Some(sc) => {
            if sc.charge(used, t) {
                c.ipc.turn_over.set(true);
            }
        }
        None => {
            c.idles.set(false);
            if let Some(i) = remote::idle() {
                i.charge(used, t);
                i.clock(0);
            }
        }
    }
}

/// Up to now `from` has paid, and from now on `to` does.
pub fn switch(from: Option<&'static Sc>, to: Option<&'static Sc>) {
    let c = cpu();
    // What there was between two that pay is not worth a look at the clock.
    if from.is_some() || c.idles.get() {
        charge(from);
    }
    if let Some(sc) = from {
        sc.clock(0);
    }
    if let Some(sc) = to {
        c.slice_end.set(c.since.get() + sc.left());
        sc.clock(c.since.get());
        time::rearm();
        trace!(SCHEDULE, Some(sc.ipc.leaf()), sc.ipc.prio.into(), trace::name(&sc.ipc.ec).into());
    }
}

/// The same in one, where both are somebody, and nothing is traced.
#[inline(always)]
pub fn change_payer(from: &'static Sc, to: &'static Sc) {
    let (c, t) = (cpu(), time::now());
    from.charge_and_clock(t.wrapping_sub(c.since.replace(t)), 0, || c.ipc.turn_over.set(true));
    let end = t + to.left();
    c.slice_end.set(end);
    to.clock(t);
    time::rearm_for(end);
}

/// The time `t` has come: notes whether the current SC's turn is over.
pub fn tick(t: u64) {
    let c = cpu();
    if let Some(sc) = c.ipc.payer().filter(|_| t >= c.slice_end.get()) {
        charge(Some(sc));
        c.ipc.turn_over.set(true);
        c.slice_end.set(t + sc.left());
    }
}

fn idle() -> Next {
    charge(None);
    trace!(SCHEDULE, None, 0, 0);
    leave_space();
    if let Some(i) = remote::idle() {
        i.clock(cpu().since.get());
    }
    cpu().idles.set(true);
    time::rearm();
    if refs::chores_left() {
        // Other CPUs may be long in coming, and whoever is to be woken here must not wait for them.
        while !refs::portion(usize::MAX) {
            core::hint::spin_loop();
            preemption_point();
        }
        preemption_point();
        // That may have released somebody.
        return Next::Resched;
    }
    // SAFETY: interrupts go to `kernel_trap`, which schedules.
    unsafe { arch::idle_halt() }
}

/// Saves what belongs to the EC that ran last, so that another can run.
fn leave_space() {
    let c = cpu();
    if let Some(old) = c.ec.take().filter(|o| o.kind != EcKind::Vcpu) {
        stop_being_current(old);
        tables::clear_data_segments();
    }
}

/// Saves the bases of FS and GS of a host EC.
#[inline(always)]
pub fn stop_being_current(old: &Ec) {
    let (fs, gs): (u64, u64);
    // SAFETY: CR4.FSGSBASE is on.
    unsafe {
        asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
    }
    old.fs_gs.set([fs, gs]);
}

/// Makes `ec` the one that the next trap belongs to.
pub fn make_current(ec: &'static Ec) {
    let c = cpu();
    if c.ec.get().is_some_and(|o| core::ptr::eq(o, ec)) {
        return;
    }
    leave_space();
    if ec.kind == EcKind::Vcpu {
        return c.ec.set(Some(ec));
    }
    be_current(ec);
}

/// The next trap belongs to this host EC, and nobody else does.
#[inline(always)]
pub fn be_current(ec: &'static Ec) {
    cpu().ec.set(Some(ec));
    tables::set_trap_stack(ec.trap_stack());
    let [fs, gs] = ec.fs_gs.get();
    // SAFETY: FSGSBASE is on; a base that user mode set or zero is canonical.
    unsafe {
        asm!("wrfsbase {}", "wrgsbase {}", in(reg) fs, in(reg) gs, options(nomem, nostack, preserves_flags));
    }
}

/// Whether it needs no I/O ports. `None`: it has no host space any more.
fn enter_space(ec: &'static Ec) -> Option<bool> {
    ec.hst.enter(ec.cr3).then(|| show_ports(ec))
}

/// Lets user mode have the I/O ports of `ec`. Whether it needs none.
fn show_ports(ec: &'static Ec) -> bool {
    let c = cpu();
    let ports = ec.pio.as_ref().filter(|p| p.is_used()).and_then(|p| p.frames());
    match ports {
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
    ports.is_none()
}

fn leave(ec: &'static Ec, sysret: bool) -> Next {
    make_current(ec);
    let Some(plain) = enter_space(ec) else {
        return event::kill(ec, "has no host space on this CPU any more");
    };
    fpu::enter_host(ec);
    fast::leave(ec, plain);
    speculation::before_user();
    let gpr = (&raw const ec.regs().regs).cast();
    // SAFETY: the frame is complete: RIP is a user address, the selectors are the user's, flags have IF.
    unsafe { if sysret { arch::leave_sysret(gpr) } else { arch::leave_iret(gpr) } }
}

/// Runs `ec`, which is in no queue any more, if it is by its release what runs next: what `from` does, or what interrupts that,
/// releases it with that status. Comes back with it if nothing has happened.
pub extern "C" fn run_released(from: &'static Ec, ec: &'static Ec, s: Status) -> &'static Ec {
    if cpu().slow.get() & !slow::PORTS == 0 && fast::is_blocked_plainly(ec) {
        ec.regs().set_rdi(s as u64);
        if ec.unblock_to_run(from) {
            change(from, ec)
        }
    }
    ec
}

/// The CPU, plain but perhaps for I/O ports, changes from one host EC to another, which pays already, is fit, and returns from a
/// hypercall.
#[inline(always)]
fn change(from: &'static Ec, to: &'static Ec) -> ! {
    // What is done by now may have left something to destroy.
    if cpu().slow.get() & !slow::PORTS != 0 {
        fpu::owned_by(from);
        go(Next::Run(to))
    }
    if !exchange(from, to, false) {
        go(Next::Run(to))
    }
    if cpu().slow.get() != 0 || fast::has_ports(to) {
        change_ports(to);
    }
    // SAFETY: as in `leave`.
    unsafe { arch::leave_sysret((&raw const to.regs().regs).cast()) }
}

/// What user mode has beside general registers becomes that of `to`, the next trap belongs to it, and the CPU is in its space:
/// both are host ECs and fit. The vector state of `from` may be `dead`. `false`: the space is to be entered in the usual way.
#[inline(always)]
pub fn exchange(from: &'static Ec, to: &'static Ec, dead: bool) -> bool {
    stop_being_current(from);
    tables::clear_data_segments();
    be_current(to);
    if dead {
        fpu::take_over(to);
    } else {
        fpu::change_owner(from, to);
    }
    HstSpace::enter_at_once(to.cr3, to.root)
}

/// The last step of that, where one of both has I/O ports.
#[inline(never)]
fn change_ports(to: &'static Ec) {
    cpu().slow.set(if show_ports(to) { 0 } else { slow::PORTS });
}

/// Goes on with `ec` after a hypercall: at once, if that has changed nothing but memory, capabilities and the like.
pub fn go_back(ec: &'static Ec) -> ! {
    let c = cpu();
    let same = c.slow.get() == 0 && fast::state_word(ec) & !fast::EXPECT == c.runs.get() && c.cr3.get() == ec.cr3;
    if same && !c.ipc.preempted() && !trace::any() {
        // SAFETY: as in `leave`.
        unsafe { arch::leave_sysret((&raw const ec.regs().regs).cast()) }
    }
    go(Next::Run(ec))
}

/// Lets interrupts in for a moment. If one arrives, this does not return.
pub fn preemption_point() {
    // SAFETY: interrupts go to `kernel_trap`, which schedules and does not return here.
    unsafe { asm!("sti", "nop", "cli", options(nomem, nostack)) };
}
