//! Execution context (spec 2.2): a thread (local or global) or a virtual CPU.
//!
//! An EC that is not running is a register frame and a continuation ([`Cont`]), not a stack. What it has to do with
//! other ECs is in the crate `ipc`. Its cells are touched by
//! its own CPU only; what others may touch is atomic, or a link of a queue with a lock.

use super::member::{Joins, Member};
use super::obj::{ObjSpace, Window};
use super::{account::Account, hst::HstSpace, kernel_object, pio::PioSpace, sc::Sc, sm::Sm};
use crate::arch::{cpu::cpu, fast, fpu, guest::Vcpu, trap::Frame};
use crate::mem::pool::Page;
use crate::mem::refs::{self, AnyRef, Header, Held, Object, Part, Progress, Ref, Room};
use crate::{remote, trace};
use abi::{Sel, Status, Utcb};
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
pub use ipc::{Cont, Expect};
use sched::{Deadline, Link, Node};
use smp::Root;

/// What kind of EC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EcKind {
    /// Portal handler: no SC of its own.
    Local,
    /// Thread with an SC.
    Global,
    /// Virtual CPU with an SC.
    Vcpu,
    /// Stands for a CPU without work; never runs.
    Idle,
}

/// Execution context.
#[repr(C, align(64))]
pub struct Ec {
    header: Header,
    /// Registers of a host EC in user mode. Traps and hypercalls push them here.
    pub frame: UnsafeCell<Frame>,
    /// Its kind.
    pub kind: EcKind,
    /// Who serves it and whom it serves; how it goes on.
    pub ipc: ipc::State<Ec>,
    /// How much of a hypercall is done that is done in parts.
    pub progress: Cell<u64>,
    /// Event base.
    pub evt: Sel,
    /// UTCB.
    pub utcb: Part<Page>,
    utcb_page: u64,
    /// Object space.
    pub obj: Held<ObjSpace>,
    /// Host space.
    pub hst: Held<HstSpace>,
    /// PIO space of a host EC.
    pub pio: Part<Ref<PioSpace>>,
    /// Where capabilities that are sent to it arrive.
    pub window: Window,
    /// The semaphore that it is blocked on.
    pub blocked_on: Cell<Option<Ref<Sm>>>,
    wait_link: Link<Ec>,
    posted: Link<Ec>,
    /// Timeout of the semaphore operation.
    pub deadline: Deadline<Ec>,
    /// FS and GS base while it is not the current EC.
    pub fs_gs: Cell<[u64; 2]>,
    /// CR3 of a host EC.
    pub cr3: u64,
    /// The mark of the root in it.
    pub root: *const Root,
    /// Vector state.
    pub fpu: Part<fpu::Area>,
    /// Virtual CPU state.
    pub vcpu: Part<Vcpu>,
    /// An SC is bound.
    pub bound: AtomicBool,
    /// Nothing but itself counts on it, as somebody is linked to it.
    kept: Cell<bool>,
    /// The object whose end its `destroy` waits for.
    pub awaits: Cell<Option<AnyRef>>,
    /// A hypercall lacked memory and is waiting for what is still to be destroyed.
    pub settling: Cell<bool>,
    /// How often its hypercall was gone on with.
    pub restarts: Cell<u32>,
    member: Member,
}
kernel_object!(Ec, Ec);

impl Joins for Ec {
    fn member(&self) -> &Member {
        &self.member
    }
}

/// What is compared together with the continuation, when an EC is to be called or replied to at once.
#[repr(C)]
pub struct Tag {
    /// A recall is pending.
    pub recall: AtomicBool,
    /// Whether the fast path need not look at anything else.
    pub fit: AtomicU8,
    /// Its CPU.
    pub cpu: u16,
}

/// In the queue of a semaphore.
pub struct Waiting;
/// In the timeout queue of a CPU.
pub struct Timed;
/// In the mailbox of its CPU, released by another.
pub struct Posted;

impl Node<Waiting> for Ec {
    fn link(&self) -> &Link<Ec> {
        &self.wait_link
    }
}

impl Node<Posted> for Ec {
    fn link(&self) -> &Link<Ec> {
        &self.posted
    }
}

impl Node<Timed> for Ec {
    fn link(&self) -> &Link<Ec> {
        self.deadline.link()
    }
}

impl ipc::Ec for Ec {
    type Sc = Sc;
    type Ref = Ref<Ec>;
    type Tag = Tag;

    fn cpu() -> &'static ipc::Cpu<Ec> {
        &cpu().ipc
    }

    fn ipc(&self) -> &ipc::State<Ec> {
        &self.ipc
    }

    fn found(counted: &Ref<Ec>) -> &'static Ec {
        counted.found()
    }

    fn unlinked(&'static self) {
        if self.kept.get() && !self.ipc.linked() {
            self.kept.set(false);
            refs::go_on(self);
        }
    }

    fn abort(&'static self) {
        self.set_status(Status::Aborted);
    }

    fn leave(&'static self) {
        if let Some(sm) = self.blocked_on.take() {
            // If it is not there, another CPU has released it; what that sends is ignored.
            sm.forget(self);
        }
        cpu().timeouts.disarm::<Timed>(self);
        fpu::discard(self);
        self.awaits.take();
    }
}

/// What an EC is created with.
pub struct NewEc {
    /// Kind.
    pub kind: EcKind,
    /// CPU number.
    pub cpu: u16,
    /// Object space.
    pub obj: Ref<ObjSpace>,
    /// Host space.
    pub hst: Ref<HstSpace>,
    /// PIO space.
    pub pio: Option<Ref<PioSpace>>,
    /// Page number of the UTCB (host) or vAPIC page (guest).
    pub page: u64,
    /// Initial stack pointer.
    pub sp: u64,
    /// Event base.
    pub evt: Sel,
    /// May use the FPU.
    pub fpu: bool,
}

/// Frame that is mapped into the host space: UTCB or vAPIC page.
fn mapped_frame(utcb: Option<&Page>, vcpu: Option<&Vcpu>) -> Option<u64> {
    utcb.map(Page::phys).or(vcpu.and_then(|v| v.vapic_frame()))
}

impl Ec {
    /// A new EC. `None`: no memory. Its UTCB is mapped, and its CPU has a root of the host space.
    pub fn create(a: &'static Account, n: NewEc) -> Option<Ref<Ec>> {
        let guest = n.kind == EcKind::Vcpu;
        let utcb = if matches!(n.kind, EcKind::Local | EcKind::Global) { Some(Page::new(a)?) } else { None };
        let vcpu = if guest { Some(Vcpu::create(a)?) } else { None };
        let fpu = if n.fpu || guest { Some(fpu::Area::new(a)?) } else { None };
        let root = if n.kind == EcKind::Idle { None } else { Some(n.hst.new_root(n.cpu)?) };
        let room = Room::new(a)?;
        // The last step that can fail, and the first that shows: a space keeps its tables.
        if let Some(phys) = mapped_frame(utcb.as_ref(), vcpu.as_ref()) {
            n.hst.map_page(n.page, phys)?;
        }
        if let Some(root) = root {
            n.hst.set_root(n.cpu, root);
        }
        let (cr3, root) = (n.hst.cr3_of(n.cpu).unwrap_or(0), n.hst.root_of(n.cpu));
        Some(room.fill(Ec {
            header: Header::new(Self::KIND),
            frame: UnsafeCell::new(Frame::new(n.sp)),
            kind: n.kind,
            ipc: ipc::State::new(
                if n.kind == EcKind::Local { Cont::Receive } else { Cont::Startup },
                Tag { recall: AtomicBool::new(false), fit: AtomicU8::new(fast::UNFIT), cpu: n.cpu },
            ),
            progress: Cell::new(0),
            evt: n.evt,
            utcb: Part::new(utcb),
            utcb_page: n.page,
            obj: n.obj.into(),
            hst: n.hst.into(),
            pio: Part::new(n.pio),
            window: Window::none(),
            blocked_on: Cell::new(None),
            wait_link: Link::new(),
            posted: Link::new(),
            deadline: Deadline::new(),
            fs_gs: Cell::new([0; 2]),
            cr3,
            root,
            fpu: Part::new(fpu),
            vcpu: Part::new(vcpu),
            bound: AtomicBool::new(false),
            kept: Cell::new(false),
            awaits: Cell::new(None),
            settling: Cell::new(false),
            restarts: Cell::new(0),
            member: Member::new(),
        }))
    }

    /// Its registers. Host ECs only.
    #[allow(clippy::mut_from_ref, reason = "the frame belongs to the EC's CPU, and no two borrows live at once")]
    pub fn regs(&self) -> &mut Frame {
        // SAFETY: kernel code on the EC's CPU is not preempted, and does not keep the borrow across a call that takes
        // another.
        unsafe { &mut *self.frame.get() }
    }

    /// Its UTCB; `None` for vCPUs.
    #[allow(clippy::mut_from_ref, reason = "as for `regs`")]
    pub fn utcb(&self) -> Option<&mut Utcb> {
        // SAFETY: the frame lives as long as the EC. User threads may write to it at the same time: the kernel copies
        // words and decides nothing from a second read.
        self.utcb.as_ref().map(|f| unsafe { f.at().as_mut() })
    }

    /// Its CPU.
    pub fn home(&self) -> u16 {
        self.ipc.tag.cpu
    }

    /// Whether nothing but itself counts on it.
    pub fn is_kept(&self) -> bool {
        self.kept.get()
    }

    /// End of the frame, where traps push.
    pub fn trap_stack(&self) -> u64 {
        self.frame.get() as u64 + size_of::<Frame>() as u64
    }

    /// Sets the status register of the hypercall that it is in.
    pub fn set_status(&self, s: Status) {
        trace!(STATUS, Some(self), s as u64, 0);
        self.regs().set_rdi(s as u64);
    }

    /// Releases it from a semaphore with a status, if it is blocked.
    pub fn unblock(&'static self, s: Status) {
        if ipc::unblock(self) {
            cpu().timeouts.disarm::<Timed>(self);
            self.blocked_on.take();
            self.set_status(s);
        }
    }

    /// Releases it from a semaphore, if it is by that what runs next, and not `current`, which its own SC pays for. It is
    /// blocked, and its status set. `false`: nothing has happened.
    #[inline(always)]
    pub fn unblock_to_run(&'static self, current: &'static Ec) -> bool {
        let runs = ipc::unblock_to_run(self, current);
        if runs {
            if self.deadline.armed() {
                cpu().timeouts.disarm::<Timed>(self);
            }
            self.blocked_on.take();
        }
        runs
    }

    /// Its hypercall is not the one of which a part is done.
    pub fn start_over(&self) {
        self.progress.set(0);
        self.awaits.take();
        self.settling.set(false);
        self.restarts.set(0);
    }

    /// Gives back what it has, on its CPU.
    pub fn strip(&'static self) -> Progress {
        if self.ipc.linked() {
            self.kept.set(true);
            self.ipc.tag.fit.store(fast::UNFIT, Relaxed);
            return refs::keep(self);
        }
        if refs::is_spared(self) {
            return Progress::Later;
        }
        if self.ipc.blocked() {
            // It worked for somebody who is gone, and nothing refers to it any more; but another CPU may be releasing it.
            ipc::end(self);
            return Progress::Later;
        }
        if self.posted.queued() {
            // It was killed while another CPU released it.
            remote::open_mail();
        }
        let (c, me) = (cpu(), |e: &'static Ec| core::ptr::eq(e, self));
        if c.ec.get().is_some_and(me) {
            c.ec.set(None);
        }
        if c.fpu_owner.get().is_some_and(me) {
            fpu::disown();
        }
        if c.debug_owner.get().is_some_and(me) {
            c.debug_owner.set(None);
        }
        if let Some(phys) = mapped_frame(self.utcb.as_ref(), self.vcpu.as_ref()) {
            self.hst.unmap_page(self.utcb_page, phys);
        }
        // SAFETY: it is dead, or nothing refers to it.
        unsafe {
            drop((self.utcb.take(), self.fpu.take(), self.vcpu.take(), self.pio.take()));
        }
        self.obj.let_go();
        self.hst.let_go();
        self.member.leave();
        Progress::Done
    }
}
