//! Threads that wait for components whose page faults wait.
//!
//! The handlers of portals serve all components of a CPU, so they do not wait. When a fault of a component is one that waits
//! for the first time on a CPU, its page-fault event there becomes a portal of a thread of its own, a *pager*. That has the
//! handler look, as helpers see to it that the handler lets go of locks, and waits by itself. Threads of a component on one CPU
//! whose faults wait do so one after the other. When the component has ended the pager is another one's.
//!
//! Key types: [`Pager`], [`Pagers`].

use crate::handler::Portal;
use crate::space;
use abi::{ArchState, Mtd, Sel, Status, Utcb, event, perm};
use dataspace::Component;
use parent::sel;
use rt::{PortalThread, Semaphore, hypercall};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Its stack: it makes calls and waits.
const STACK: usize = 32 << 10;
/// Page fault.
pub const PF: u64 = 14;

/// What becomes of the fault.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Answer {
    /// The access is made again.
    Again = 0,
    /// The pager waits to be woken.
    Waits = 1,
    /// The thread ends.
    Ends = 2,
}

/// A thread that waits.
pub struct Pager {
    cpu: u16,
    /// For whom.
    component: AtomicU64,
    woken: Semaphore,
    answer: AtomicU64,
}

impl Pager {
    /// Has it look again.
    pub fn wake(&self) {
        self.woken.up();
    }

    /// What the handler has found.
    pub fn answer(&self, answer: Answer) {
        self.answer.store(answer as u64, Ordering::Release);
    }

    /// What it is at: a fault of the component with that index.
    fn serve(&self, look: Sel, index: u64, state: &ArchState) -> Mtd {
        let component = self.component.load(Ordering::Acquire);
        let (error, address) = (state.qual[0], state.qual[1]);
        let place = index | u64::from(self.cpu) << 32;
        loop {
            self.answer(Answer::Ends);
            let words = [component, place, address, error, state.rip, state.gpr[ArchState::RSP]];
            if hypercall::ipc_call_registers(look, words).is_err() {
                return Mtd::POISON;
            }
            match self.answer.load(Ordering::Acquire) {
                again if again == Answer::Again as u64 => return Mtd::empty(),
                waits if waits == Answer::Waits as u64 => self.woken.down_zero(),
                _ => return Mtd::POISON,
            }
        }
    }
}

/// One with its thread.
struct Made {
    pager: Arc<Pager>,
    thread: PortalThread,
}

/// All there are.
#[derive(Default)]
pub struct Pagers {
    all: Mutex<Vec<Made>>,
    /// Those that wait for nobody, by CPU.
    idle: Mutex<BTreeMap<u16, Vec<Arc<Pager>>>>,
}

impl Pagers {
    /// One for a component, with that index and object space, on `cpu`; `look` is a portal of the handler there.
    pub fn give(
        &self,
        index: usize,
        component: Component,
        obj: Sel,
        cpu: u16,
        look: Sel,
    ) -> Result<Arc<Pager>, Status> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&cpu).and_then(Vec::pop);
        let pager = match idle {
            Some(pager) => pager,
            None => self.make(cpu, look)?,
        };
        pager.component.store(component.0, Ordering::Release);
        let given = self.connect(&pager, index, obj, cpu);
        if given.is_err() {
            self.take_back([Arc::clone(&pager)]);
        }
        given.map(|()| pager)
    }

    fn make(&self, cpu: u16, look: Sel) -> Result<Arc<Pager>, Status> {
        let (component, answer) = (AtomicU64::new(0), AtomicU64::new(0));
        let pager = Arc::new(Pager { cpu, component, woken: Semaphore::try_new(0)?, answer });
        let own = Arc::clone(&pager);
        let handler = Box::new(move |pid, _, utcb: &mut Utcb| {
            let index = Portal::index(pid);
            own.serve(look, index as u64, utcb.arch_mut()).bits()
        });
        let thread = PortalThread::new(cpu, STACK, handler)?;
        let made = Made { pager: Arc::clone(&pager), thread };
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        Ok(pager)
    }

    fn connect(&self, pager: &Arc<Pager>, index: usize, obj: Sel, cpu: u16) -> Result<(), Status> {
        let portal = space::free_selector()?;
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let made = all.iter().find(|m| Arc::ptr_eq(&m.pager, pager)).ok_or(Status::BadPar)?;
        let event = Portal::Event(event::HST_ARCH.min(PF));
        let given = made
            .thread
            .portal(portal, event.identifier(index), event.mtd().bits())
            .and_then(|()| space::give(obj, portal, sel::events(cpu) + PF, perm::Pt::EVENT.bits()));
        // Theirs stays: what they hold keeps the portal alive.
        rt::sel::free(portal);
        given
    }

    /// They wait for nobody any more.
    pub fn take_back(&self, pagers: impl IntoIterator<Item = Arc<Pager>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        pagers.into_iter().for_each(|p| idle.entry(p.cpu).or_default().push(p));
    }
}
