//! Entry points: a local thread at which objects live.
//!
//! Everything of an entry point is touched by its own thread only, so there are no locks: who adds or dissolves an object
//! from another thread has the entry point's do it, by a portal of its own. Objects are portals whose identifier is the
//! index of the object.
//!
//! Key types: [`Entrypoint`], [`Managed`].

use super::arrivals::{self, Arrivals};
use super::signal::Contexts;
use super::{port, task};
use crate::hypercall;
use crate::lock::Lock;
use crate::portal::PortalThread;
use crate::{domain, sel, tcb};
use abi::{Hypercall, IN_REGISTERS, Mtd, Sel, Status, Utcb, WITH_ITEMS};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use rpc::{Bad, Cap, Frame, Indices, Interface, Object, Objects, REGISTERS, Reader, Serves, Writer};

// Entered by the kernel at each call: RDI = portal identifier, RSI = descriptor, or all ones if the message is in
// registers. RSP is at the top of the stack, where the thread's block and the entry point are. The first call sets FS, which
// stays: it is by the control portal, or one of the objects that came before the thread has run.
global_asm!(
    ".section .text.rt_object_entry, \"ax\", @progbits",
    ".globl rt_object_entry",
    ".type rt_object_entry, @function",
    ".globl rt_control_entry",
    ".type rt_control_entry, @function",
    "rt_control_entry:",
    "mov rax, [rsp]",
    "wrfsbase rax",
    ".size rt_control_entry, . - rt_control_entry",
    "rt_object_entry:",
    "cmp rsi, -1",
    "jne 2f",
    "push r14",
    "push r13",
    "push r12",
    "push r10",
    "push r9",
    "push r8",
    "mov rsi, rsp",
    "mov rdx, [rsp + 56]",
    "call {registers}",
    "pop r8",
    "pop r9",
    "pop r10",
    "pop r12",
    "pop r13",
    "pop r14",
    "mov edi, {reply_registers}",
    "syscall",
    "2:",
    "mov rdx, [rsp + 8]",
    "call {message}",
    "mov esi, eax",
    "shr rax, 32",
    "mov edi, eax",
    "syscall",
    // Not reached: the kernel goes on at a portal's entry.
    "ud2",
    ".size rt_object_entry, . - rt_object_entry",
    ".text",
    registers = sym registers,
    message = sym message,
    reply_registers = const IN_REGISTERS << 4 | Hypercall::IpcReply as u8,
);

unsafe extern "C" {
    fn rt_control_entry();
    fn rt_object_entry();
}

/// Most objects of an entry point: each has a selector.
pub const MAX_OBJECTS: usize = sel::CAPACITY;
/// Identifier of the portal by which other threads have something done.
const CONTROL: u64 = u64::MAX;
/// Identifier of the portal by which signals come.
pub(super) const SIGNALS: u64 = u64::MAX - 1;
/// No object.
const NONE: u64 = u64::MAX;

type Owned = NonNull<dyn Object>;

/// What only the entry point's own thread touches.
pub(super) struct State {
    objects: Objects<Owned>,
    /// Whose method runs, or ran last.
    running: u64,
    /// Dissolved by their own methods.
    doomed: Vec<Owned>,
    pub(super) contexts: Contexts,
    /// Since there was a future.
    pub(super) tasks: Option<task::Table>,
}

/// An entry point.
pub(crate) struct Inner {
    state: UnsafeCell<State>,
    /// Its EC.
    pub(crate) ec: Sel,
    pub(super) cpu: u16,
    control: Sel,
    apart: Lock<Apart>,
    /// Objects have come or gone.
    moved: AtomicBool,
    /// The thread has run, and so has FS.
    begun: AtomicBool,
    /// It handles signals, and polls futures next.
    handles: AtomicBool,
}

/// What threads on other CPUs leave for the entry point's own, which finds it before it needs it.
struct Apart {
    indices: Indices,
    /// Objects that are to live here.
    come: Vec<(usize, Owned)>,
    /// Objects that were dissolved.
    gone: Vec<usize>,
}

// SAFETY: `state` is for one thread, by the contract of `state()`; all else is constant or behind a lock.
unsafe impl Sync for Inner {}
// SAFETY: as above; what is in `state` was Send when it came.
unsafe impl Send for Inner {}

/// Handles a message in registers.
///
/// # Safety
/// On the entry point's thread, between a call and its reply.
unsafe extern "C" fn registers(pid: u64, words: &mut [u64; REGISTERS], ep: &'static Inner) {
    // SAFETY: this is the thread; nothing of the state is borrowed when the method runs. The object is alive: it is taken
    // from the table before it is dropped, and not dropped while its method runs.
    unsafe {
        let state = ep.state.get();
        match (*state).objects.get(pid) {
            Some(object) => {
                let object = object.as_ptr();
                (*state).running = pid;
                (*object).registers(words);
            }
            None => ep.own_portal(pid, words),
        }
    }
}

/// Handles a message in the UTCB; returns the descriptor of the answer, and above it the hypercall that answers. That has the
/// flag for capabilities only if there are some, as it is slower.
///
/// # Safety
/// As [`registers`].
unsafe extern "C" fn message(pid: u64, mtd: u32, ep: &'static Inner) -> u64 {
    let (me, items) = (tcb::my(), Mtd::item_count(mtd));
    let mut frame = InUtcb { utcb: me.utcb, words: Mtd::word_count(mtd), items };
    // SAFETY: the own UTCB, of which nobody has a reference now.
    let arrived = (items > 0).then(|| Arrivals::of(unsafe { &*me.utcb }, items));
    // SAFETY: as in `registers`.
    let sent = unsafe {
        let state = ep.state.get();
        match (*state).objects.get(pid) {
            Some(object) => {
                let object = object.as_ptr();
                (*state).running = pid;
                (*object).message(&mut frame)
            }
            None => {
                ep.begun.store(true, Ordering::Relaxed);
                ep.clear();
                match ep.object(pid) {
                    Some(object) => (*object).message(&mut frame),
                    None => rpc::refuse(&mut frame, 0, Bad::Method),
                }
            }
        }
    };
    if let Some(arrived) = arrived {
        arrived.release(0);
        // Without memory for a new window, what finds no room is missing in messages, and their senders are told.
        let _ = arrivals::make_room(me);
    }
    ep.clear();
    let flags = if sent.items > 0 { WITH_ITEMS } else { 0 };
    u64::from(Mtd::with_items(Mtd::words(sent.words), sent.items)) | Hypercall::IpcReply.identifier(flags, 0) << 32
}

/// A message in the own UTCB.
struct InUtcb {
    utcb: *mut Utcb,
    words: usize,
    items: usize,
}

impl Frame for InUtcb {
    fn reader(&self) -> Reader<'_> {
        // SAFETY: the own UTCB. Who else looks at it does so by `utcb()` or a call, not while this reference lives: methods
        // run between reader and writer.
        Reader::of_utcb(unsafe { &(*self.utcb).words }, self.words, self.items)
    }

    fn writer(&mut self) -> Writer<'_> {
        // SAFETY: as above.
        Writer::new(unsafe { &mut (*self.utcb).words })
    }
}

/// What another thread wants done: a pointer to a pointer to a closure of its own.
type Job<'a> = &'a mut (dyn FnMut() + Send);

impl Inner {
    /// What only this thread touches, for `f`, which runs no code of others: no methods, handlers or destructors.
    ///
    /// # Safety
    /// On the entry point's thread.
    pub(super) unsafe fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: contract; nobody has another reference.
        f(unsafe { &mut *self.state.get() })
    }

    /// A message to one of the entry point's own portals.
    ///
    /// # Safety
    /// As [`registers`].
    #[cold]
    unsafe fn own_portal(&'static self, pid: u64, words: &mut [u64; REGISTERS]) {
        self.begun.store(true, Ordering::Relaxed);
        self.clear();
        match pid {
            // SAFETY: only `run` has that portal, and waits for the reply.
            CONTROL => unsafe { (*(words[0] as *mut Job<'static>))() },
            SIGNALS => {
                self.handles.store(true, Ordering::Relaxed);
                super::signal::handle(self);
                self.handles.store(false, Ordering::Relaxed);
                task::poll(self);
            }
            // SAFETY: as in `registers`. It has come since the last message.
            _ => match unsafe { self.object(pid) } {
                // SAFETY: as above.
                Some(object) => unsafe { (*object).registers(words) },
                None => _ = rpc::refuse(words, 0, Bad::Method),
            },
        }
    }

    /// The object of a portal, whose method is about to run.
    ///
    /// # Safety
    /// As [`registers`].
    unsafe fn object(&self, pid: u64) -> Option<*mut dyn Object> {
        let find = |state: &mut State| {
            let object = state.objects.get(pid)?.as_ptr();
            state.running = pid;
            Some(object)
        };
        // SAFETY: contract.
        unsafe { self.with(find) }
    }

    /// Lets in what has come from elsewhere. On the entry point's thread.
    fn admit(&self) {
        let come = self.apart.with(|apart| mem::take(&mut apart.come));
        // SAFETY: by the callers. The indices are theirs alone, so none is refused.
        unsafe { self.with(|state| come.into_iter().for_each(|(i, object)| _ = state.objects.put(i, object))) };
    }

    /// No method runs: lets in what has come, and drops what was dissolved meanwhile.
    fn clear(&self) {
        let mut gone = Vec::new();
        if self.moved.swap(false, Ordering::Acquire) {
            self.admit();
            gone = self.apart.with(|apart| mem::take(&mut apart.gone));
        }
        // SAFETY: on the entry point's thread by the callers.
        let doomed = unsafe {
            self.with(|state| {
                state.running = NONE;
                state.doomed.extend(gone.iter().filter_map(|&i| state.objects.remove(i)));
                mem::take(&mut state.doomed)
            })
        };
        if !gone.is_empty() {
            self.apart.with(|apart| gone.into_iter().for_each(|i| apart.indices.give(i)));
        }
        // SAFETY: from `Box::into_raw`, in no table any more.
        doomed.into_iter().for_each(|o| drop(unsafe { Box::from_raw(o.as_ptr()) }));
    }

    /// Whether the caller is the entry point's thread, and about to poll futures.
    pub(super) fn polls_next(&self) -> bool {
        self.handles.load(Ordering::Relaxed) && tcb::my().ec == self.ec
    }

    /// Has the entry point's thread do something, and waits for it.
    pub(super) fn run<R: Send>(&'static self, f: impl FnOnce(&'static Inner) -> R + Send) -> Result<R, Status> {
        if tcb::my().ec == self.ec {
            return Ok(f(self));
        }
        let (mut f, mut result) = (Some(f), None);
        let mut once = || result = f.take().map(|f| f(self));
        let mut job: Job<'_> = &mut once;
        port::call(self.control, [&raw mut job as u64, 0, 0, 0, 0, 0])?;
        result.ok_or(Status::Aborted)
    }

    /// A portal with that identifier.
    pub(super) fn portal(&self, pid: u64) -> Result<Sel, Status> {
        let at = sel::alloc().ok_or(Status::MemCap)?;
        let first = pid == CONTROL || !self.begun.load(Ordering::Relaxed);
        let entry = if first { rt_control_entry } else { rt_object_entry };
        let ip = entry as *const () as u64;
        // SAFETY: these entries are what the stack was made for, and it relies on no registers between messages.
        let made = unsafe {
            hypercall::create_pt(at, domain::own().pd, self.ec, ip)
                .and_then(|()| hypercall::ctrl_pt_registers(at, pid, 0))
        };
        made.map(|()| at).inspect_err(|_| sel::free(at))
    }

    /// On the entry point's thread.
    fn remove(&self, index: usize) {
        self.admit();
        let take = |state: &mut State| {
            let object = state.objects.remove(index)?;
            if state.running != index as u64 {
                return Some(object);
            }
            // Its method may be what dissolves it.
            state.doomed.push(object);
            None
        };
        // SAFETY: contract. What is dropped is in no table any more, and does not run.
        unsafe {
            if let Some(object) = self.with(take) {
                drop(Box::from_raw(object.as_ptr()));
            }
        }
        self.apart.with(|apart| apart.indices.give(index));
    }

    /// Leaves something for the entry point's thread.
    fn leave(&self, f: impl FnOnce(&mut Apart)) {
        self.apart.with(f);
        self.moved.store(true, Ordering::Release);
    }
}

/// A thread at which objects live: it runs their methods and the handlers of signals, one at a time, the former on the time
/// of their callers. It lives as long as the program.
#[derive(Clone, Copy)]
pub struct Entrypoint(&'static Inner);

impl Entrypoint {
    /// One on `cpu`, with a stack of at least `stack_len` bytes. [`Status::BadCpu`]: the component may not use it.
    pub fn new(cpu: u16, stack_len: usize) -> Result<Entrypoint, Status> {
        let apart = Apart { indices: Indices::new(MAX_OBJECTS), come: Vec::new(), gone: Vec::new() };
        let apart = Lock::new(apart);
        apart.gate().equip()?;
        let state = State {
            objects: Objects::new(MAX_OBJECTS),
            running: NONE,
            doomed: Vec::new(),
            contexts: Contexts::default(),
            tasks: None,
        };
        let inner = Box::into_raw(Box::new(Inner {
            state: state.into(),
            ec: 0,
            cpu,
            control: 0,
            apart,
            moved: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            handles: AtomicBool::new(false),
        }));
        match PortalThread::for_entrypoint(cpu, stack_len, inner.cast()) {
            // SAFETY: nobody else knows of it yet.
            Ok(ec) => unsafe { (*inner).ec = ec },
            Err(status) => {
                // SAFETY: as above; there is no thread.
                let inner = unsafe { Box::from_raw(inner) };
                inner.apart.gate().strip();
                return Err(status);
            }
        }
        // SAFETY: from here on it is shared, and constant. A thread that cannot be called stays, as portal threads do.
        unsafe {
            (*inner).control = (*inner).portal(CONTROL)?;
            Ok(Entrypoint(&*inner))
        }
    }

    /// Has an object live here. From a thread on another CPU, too: then it moves in at its first call.
    /// [`Status::Ovrflow`]: there are [`MAX_OBJECTS`].
    pub fn manage<S: Serves + Send + 'static>(&self, object: S) -> Result<Managed<S::Interface>, Status> {
        let ep = self.0;
        if tcb::my().cpu == ep.cpu && !ep.begun.load(Ordering::Relaxed) {
            // Portals made after the thread has run are shorter.
            self.settle()?;
        }
        let index = ep.apart.with(|apart| apart.indices.take()).ok_or(Status::Ovrflow)?;
        let sel = ep.portal(index as u64).inspect_err(|_| ep.apart.with(|apart| apart.indices.give(index)))?;
        let object: Box<dyn Object> = Box::new(object);
        let object = NonNull::from(Box::leak(object));
        // From here on its end is that of any other.
        let managed = Managed { ep, index, sel, interface: PhantomData };
        ep.leave(|apart| apart.come.push((index, object)));
        Ok(managed)
    }

    /// Returns when the entry point is done with what it was at. From a thread on its CPU, and not its own.
    pub fn settle(&self) -> Result<(), Status> {
        self.0.run(|_| ())
    }

    /// The entry point.
    pub(crate) fn inner(&self) -> &'static Inner {
        self.0
    }
}

impl core::fmt::Debug for Entrypoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Entrypoint({:#x})", self.0.ec)
    }
}

/// An object that lives at an entry point. When this value goes it is dissolved: who has called it gets
/// [`Gone`](rpc::Error::Gone), and all capabilities to it are null. The object is dropped when its method has returned; if
/// this value goes in its own method, or the entry point cannot be called from where that happens, when it handles something
/// else after that. The rest of a method whose caller is told meanwhile runs on the time of whoever calls next.
pub struct Managed<I: ?Sized> {
    ep: &'static Inner,
    index: usize,
    sel: Sel,
    interface: PhantomData<fn(&I)>,
}

impl<I: Interface + ?Sized> Managed<I> {
    /// A capability to it.
    pub fn cap(&self) -> Cap<I> {
        Cap::from_sel(self.sel)
    }
}

impl<I: ?Sized> Drop for Managed<I> {
    fn drop(&mut self) {
        // SAFETY: a portal, which is no memory. Callers find it gone.
        let _ = unsafe { hypercall::destroy(self.sel) };
        sel::free(self.sel);
        let (ep, index) = (self.ep, self.index);
        // The root task waits for nobody on another CPU.
        let apart = domain::is_root() && tcb::my().cpu != ep.cpu;
        if apart || ep.run(|ep| ep.remove(index)).is_err() {
            ep.leave(|apart| apart.gone.push(index));
        }
    }
}

impl<I: Interface + ?Sized> core::fmt::Debug for Managed<I> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.cap().fmt(f)
    }
}
