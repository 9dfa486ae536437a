//! Futures of an entry point. They are polled on its thread, in turn with methods and handlers, when its bell rings: whoever wakes
//! one rings it. There is no thread for them, and at most [`MAX_TASKS`].
//!
//! Key types: [`Task`], [`Listener`].

use super::entrypoint::{Entrypoint, Inner};
use super::signal::{Context, bell};
use crate::hypercall;
use abi::Status;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::task;
use rpc::{Event, Full, Job, Key, Signal, Tasks};

/// Most futures of an entry point.
pub const MAX_TASKS: usize = 64;

/// Rings the bell.
type Notify = Box<dyn Fn() + Send + Sync>;
/// Those of an entry point.
pub(super) type Table = Tasks<Notify>;

/// Polls all that were woken, once. On the entry point's thread.
pub(super) fn poll(ep: &'static Inner) {
    // SAFETY: by the caller.
    let Some(woken) = (unsafe { ep.with(|state| state.tasks.as_ref().map(Tasks::woken)) }) else { return };
    for index in woken {
        // SAFETY: as above; no future is polled or dropped inside.
        let taken = unsafe { ep.with(|state| state.tasks.as_mut()?.take(index)) };
        let Some((mut job, waker)) = taken else { continue };
        let over = job.as_mut().poll(&mut task::Context::from_waker(&waker)).is_ready();
        // SAFETY: as above.
        let gone = unsafe { ep.with(|state| state.tasks.as_mut().and_then(|t| t.put_back(index, job, over))) };
        drop(gone);
    }
}

fn start(ep: &'static Inner, job: Job) -> Result<Key, Status> {
    let bell = bell(ep)?;
    let new = || -> Table {
        Tasks::new(
            MAX_TASKS,
            Box::new(move || {
                if !ep.polls_next() {
                    // A full counter has nothing to learn from one more.
                    let _ = hypercall::sm_up(bell);
                }
            }),
        )
    };
    // SAFETY: by the caller.
    let started = unsafe { ep.with(|state| state.tasks.get_or_insert_with(new).start(job)) };
    started.map_err(|Full(job)| {
        drop(job);
        Status::Ovrflow
    })
}

impl Entrypoint {
    /// Has a future run here, in turn with methods and handlers, until it ends or the [`Task`] goes. It may block as little as
    /// these. [`Status::Ovrflow`]: there are [`MAX_TASKS`].
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<Task, Status> {
        let key = self.inner().run(|ep| start(ep, Box::pin(future)))??;
        Ok(Task { ep: self.inner(), key })
    }

    /// A signal context that a future waits for.
    pub fn listen(&self) -> Result<Listener, Status> {
        let event = Arc::<Event>::default();
        let raised = event.clone();
        Ok(Listener { event, context: self.context(move || raised.raise())? })
    }
}

/// A future at an entry point. When this value goes it is dropped, if it has not ended; if it drops itself, or the entry point
/// cannot be called from where that happens, it is not before it next waits, or not at all.
pub struct Task {
    ep: &'static Inner,
    key: Key,
}

impl Task {
    /// Lets it run to its end.
    pub fn detach(self) {
        core::mem::forget(self);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let key = self.key;
        // SAFETY: `run` is on the entry point's thread. What is dropped is in no table any more, and outside.
        let _ = self.ep.run(|ep| drop(unsafe { ep.with(|state| state.tasks.as_mut().and_then(|t| t.stop(key))) }));
    }
}

impl core::fmt::Debug for Task {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.key.fmt(f)
    }
}

/// A signal context without a handler. When this value goes its signal cannot be raised any more.
#[derive(Debug)]
pub struct Listener {
    event: Arc<Event>,
    context: Context,
}

impl Listener {
    /// What raises it.
    pub fn signal(&self) -> Signal {
        self.context.signal()
    }

    /// Waits until it has been raised since the last time, as often as that may be.
    pub async fn raised(&self) {
        self.event.wait().await;
    }
}
