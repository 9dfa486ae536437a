//! Signals: semaphores that wake an entry point.
//!
//! A context is a semaphore of its own; all contexts of an entry point share a bell, and who raises a signal ups both, in
//! this order. One thread waits for the bell and calls the entry point, which looks at all contexts: so handlers are ordered
//! with calls, and ups that nobody has seen yet are one.
//!
//! Key type: [`Context`].

use super::Carried;
use super::entrypoint::{Entrypoint, Inner, SIGNALS};
use crate::{hypercall, lock, sel, thread};
use abi::{Sel, Status};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use rpc::{Error, Objects, Signal};

/// Most signal contexts of an entry point: each is looked at when the bell rings.
pub const MAX_CONTEXTS: usize = 64;
/// Has passed at any time.
const PAST: Option<u64> = Some(1);

type Handler = Rc<RefCell<dyn FnMut()>>;

/// The contexts of an entry point.
pub(super) struct Contexts {
    all: Objects<(Sel, Handler)>,
    /// The bell, since there is a context.
    bell: Option<Sel>,
}

impl Default for Contexts {
    fn default() -> Contexts {
        Contexts { all: Objects::new(MAX_CONTEXTS), bell: None }
    }
}

/// Runs the handlers of all contexts that were raised. On the entry point's thread.
pub(super) fn handle(ep: &'static Inner) {
    let at = |i: u64| {
        // SAFETY: by the caller.
        unsafe { ep.with(|state| state.contexts.all.get(i).cloned()) }
    };
    for (sm, handler) in (0..MAX_CONTEXTS as u64).filter_map(at) {
        if hypercall::sm_down(sm, true, PAST).is_ok() {
            (*handler.borrow_mut())();
        }
    }
}

/// What the thread that waits for a bell needs.
struct Bell {
    bell: Sel,
    portal: Sel,
}

extern "C" fn wait(bell: *mut u8) -> *mut u8 {
    // SAFETY: from `bell`, for this thread alone and for good.
    let Bell { bell, portal } = unsafe { &*bell.cast::<Bell>() };
    while hypercall::sm_down(*bell, true, None).is_ok() {
        let _ = hypercall::ipc_call_registers(*portal, [0; rpc::REGISTERS]);
    }
    core::ptr::null_mut()
}

/// The bell; the first context makes it, and its thread. On the entry point's thread.
pub(super) fn bell(ep: &'static Inner) -> Result<Sel, Status> {
    // SAFETY: by the caller.
    if let Some(bell) = unsafe { ep.with(|state| state.contexts.bell) } {
        return Ok(bell);
    }
    let bell = lock::new_semaphore(0)?;
    let start = || {
        let portal = ep.portal(SIGNALS)?;
        let for_thread = Box::into_raw(Box::new(Bell { bell, portal }));
        thread::spawn(ep.cpu, wait, for_thread.cast()).inspect_err(|_| {
            // SAFETY: there is no thread.
            drop(unsafe { Box::from_raw(for_thread) });
            sel::free(portal);
        })
    };
    start().inspect_err(|_| sel::free(bell))?;
    // SAFETY: by the caller.
    unsafe { ep.with(|state| state.contexts.bell = Some(bell)) };
    Ok(bell)
}

fn add(ep: &'static Inner, handler: Handler) -> Result<(usize, Signal), Status> {
    let (bell, context) = (bell(ep)?, lock::new_semaphore(0)?);
    // SAFETY: by the caller.
    let added = unsafe { ep.with(|state| state.contexts.all.insert((context, handler))) };
    match added {
        Ok(index) => Ok((index, Signal { context, bell })),
        Err(_) => {
            sel::free(context);
            Err(Status::Ovrflow)
        }
    }
}

impl Entrypoint {
    /// A signal context: `handler` runs some time after its signal was raised, once for all that were raised until then, in
    /// turn with the methods of the objects here. [`Status::Ovrflow`]: there are [`MAX_CONTEXTS`]. The first one makes
    /// a thread that waits for signals.
    pub fn context(&self, handler: impl FnMut() + Send + 'static) -> Result<Context, Status> {
        let (index, signal) = self.inner().run(|ep| add(ep, Rc::new(RefCell::new(handler))))??;
        Ok(Context { ep: self.inner(), index, signal })
    }
}

/// A signal context. When this value goes its signal cannot be raised any more; if the entry point cannot be called from where
/// that happens, the handler stays.
pub struct Context {
    ep: &'static Inner,
    index: usize,
    signal: Signal,
}

impl Context {
    /// What raises it.
    pub fn signal(&self) -> Signal {
        self.signal
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: a semaphore, which is no memory.
        let _ = unsafe { hypercall::destroy(self.signal.context) };
        sel::free(self.signal.context);
        let index = self.index;
        // SAFETY: `run` is on the entry point's thread. A handler that runs now is kept by who runs it.
        let _ = self.ep.run(|ep| drop(unsafe { ep.with(|state| state.contexts.all.remove(index)) }));
    }
}

impl core::fmt::Debug for Context {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.signal.fmt(f)
    }
}

/// Raises a signal. [`Error::Gone`]: nobody is there any more to handle it.
pub fn raise(signal: Signal) -> Result<(), Error> {
    // A thread that waits for nothing else has both in one.
    let both = if signal.context == signal.bell { 1 } else { 2 };
    for sel in signal.sels().take(both) {
        match hypercall::sm_up(sel) {
            // A full counter has nothing to learn from one more.
            Ok(()) | Err(Status::Ovrflow) => {}
            Err(Status::BadCap) => return Err(Error::Gone),
            Err(other) => return Err(Error::Kernel(other)),
        }
    }
    Ok(())
}
