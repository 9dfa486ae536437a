//! Who serves whom, who waits for whom, and who pays: execution contexts (ECs) and scheduling contexts (SCs) of one CPU,
//! without registers, messages and capabilities.
//!
//! A *call chain* begins at an EC with an SC and leads from each caller to who serves it. All its members know the SC, which
//! knows the *leaf*: the EC at the end, the only one that can run. An SC whose leaf waits for a busy EC *helps*: it runs the
//! leaf of the chain that keeps that busy. If whom it would run is blocked, on a semaphore, the SC is *parked* there. An
//! EC that serves nobody any more and still works is an *orphan*, for which only helpers pay; but one whose client had the
//! SC, and died, finishes with that.
//!
//! Key types: [`State`] in each EC, [`Payer`] in each SC, [`Cpu`] in each CPU; [`Ec`] and [`Sc`] are what the kernel has to
//! bring. [`step`] says what is next; [`enter`], [`reply`], [`resume`], [`unblock`], [`end`] and their neighbours are the
//! transitions. What crosses CPUs comes as mail and so is serialised. `tests/` has a model of all this.
#![no_std]
#![forbid(unsafe_code)]

mod call;
mod cpu;
mod end;
mod payer;

pub use call::{
    State, Way, enter, enter_at_once, give_up, is_leaf, reply, resume, return_at_once, unblock, unblock_to_run, way,
};
pub use cpu::{Cpu, Next, Step, step};
pub use end::{end, expel, refuse};
pub use payer::{Payer, retire, start, stop};

use sched::Node;

/// How an EC goes on when it is next chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cont {
    /// Return from a hypercall.
    Sysret,
    /// Return from a trap.
    Iret,
    /// Enter the guest.
    Guest,
    /// Raise the STARTUP event.
    Startup,
    /// Raise the event of the number [`State::event`] (again): its handler was busy.
    Event,
    /// Do the `ipc_call` again: its callee was busy.
    Call,
    /// Go on with a hypercall of which a part is done.
    Restart,
    /// A local thread waits for a message.
    Receive,
    /// Waits for a reply.
    Reply,
    /// Never again.
    Dead,
}

/// What an EC in [`Cont::Reply`] wants back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Message words.
    Words,
    /// The same, and registers may be among them.
    Registers,
    /// Architectural state; then it goes on as said, to user mode or to the guest.
    State(Cont),
}

/// In the ready queue, or parked at somebody else than its leaf: never both.
pub struct Queued;

/// An execution context. Nobody counts on who is linked ([`State::linked`]): the kernel keeps it until [`Ec::unlinked`].
pub trait Ec: Sized + 'static {
    /// Scheduling context.
    type Sc: Sc<Ec = Self>;
    /// A counted reference.
    type Ref;
    /// What the kernel wants to have beside [`State::cont`], in 4 bytes.
    type Tag;

    /// The CPU that this runs on.
    fn cpu() -> &'static Cpu<Self>;
    /// Its relations.
    fn ipc(&self) -> &State<Self>;
    /// Whom a reference counts on.
    fn found(counted: &Self::Ref) -> &'static Self;
    /// It may be linked to nobody any more.
    fn unlinked(&'static self);
    /// The hypercall that it is in is aborted.
    fn abort(&'static self);
    /// It is ending: it is to be in no queue of a semaphore.
    fn leave(&'static self);
}

/// A scheduling context.
pub trait Sc: Node<Queued> {
    /// Execution context.
    type Ec: Ec<Sc = Self>;
    /// A counted reference.
    type Ref;

    /// Its relations.
    fn ipc(&self) -> &Payer<Self>;
    /// Time is charged to `from` up to now, and to `to` from now on.
    fn switch(from: Option<&'static Self>, to: Option<&'static Self>);
}

fn same<T>(a: &T, b: &T) -> bool {
    core::ptr::eq(a, b)
}
