//! Couriers: threads of our own on other CPUs, which make the calls there of threads that cannot.
//!
//! A portal is called on its CPU, which the kernel names to whoever calls it elsewhere. That thread gives an errand to a courier on
//! that CPU and waits at its own semaphore. A courier has one errand at a time, and nobody waits for another's while there can be a
//! further courier: a call may take long, or be made in the midst of another one that waits for it. Couriers stay.
//!
//! Neighbours: `port`, who asks; `rpc::Pool`, who gets which.

use super::arrivals::{Arrivals, make_room};
use crate::hypercall::{self, Reply};
use crate::lock::{self, Gate, Lock};
use crate::{sel, tcb, thread};
use abi::{Item, Mtd, REGISTER_WORDS, Sel, Status, UTCB_WORDS, Utcb};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use parent::MAX_COURIERS;
use rpc::{Pool, Turn};

/// A message, and its answer in its place.
enum Message {
    Registers([u64; REGISTER_WORDS]),
    Utcb {
        /// The caller's.
        utcb: *mut Utcb,
        mtd: u32,
        /// Capabilities may come with the answer.
        room: bool,
        /// Those that came.
        arrivals: Option<Arrivals>,
    },
}

/// On the stack of a caller that waits until it is done.
struct Errand {
    portal: Sel,
    message: Message,
    done: Result<(), Status>,
    /// Semaphore of the caller.
    caller: Sel,
    /// Who was handed over to a caller that waits for one.
    courier: Option<&'static Courier>,
}

/// A caller that waits for a courier.
struct Waiter(*mut Errand);
// SAFETY: whoever takes it out of the queue has it to himself, until he ups the semaphore.
unsafe impl Send for Waiter {}

struct Courier {
    /// Upped when there is an errand.
    work: Sel,
    errand: AtomicPtr<Errand>,
}

/// By CPU.
static POOLS: Lock<BTreeMap<u16, Couriers>> = Lock::new(BTreeMap::new());
type Couriers = Pool<&'static Courier, Waiter>;

pub(crate) fn gate() -> &'static Gate {
    POOLS.gate()
}

fn with<R>(cpu: u16, f: impl FnOnce(&mut Couriers) -> R) -> R {
    POOLS.with(|pools| f(pools.entry(cpu).or_insert_with(|| Pool::new(MAX_COURIERS))))
}

/// What a courier does.
extern "C" fn work(own: *mut u8) -> *mut u8 {
    // SAFETY: from `make`, for good.
    let own = unsafe { &*own.cast::<Courier>() };
    while hypercall::sm_down(own.work, false, None).is_ok() {
        // SAFETY: set before the up; its caller waits, and does not touch it before ours.
        let caller = unsafe {
            let errand = &mut *own.errand.load(Ordering::Acquire);
            errand.done = go(errand.portal, &mut errand.message);
            errand.caller
        };
        // From here on the errand is gone.
        let _ = hypercall::sm_up(caller);
    }
    null_mut()
}

fn go(portal: Sel, message: &mut Message) -> Result<(), Status> {
    match message {
        Message::Registers(words) => {
            *words = match hypercall::ipc_call_registers(portal, *words)? {
                Reply::Words(words) => words,
                Reply::Utcb(mtd) => super::port::from_utcb(mtd),
            };
        }
        Message::Utcb { utcb, mtd, room, arrivals } => {
            let me = tcb::my();
            if *room {
                make_room(me)?;
            }
            // SAFETY: the caller waits, and has no reference to its UTCB; nor have we to ours.
            unsafe { copy(*utcb, me.utcb, *mtd) };
            *mtd = hypercall::ipc_call_any(portal, *mtd).map_err(|f| f.status())?;
            let items = Mtd::item_count(*mtd);
            // SAFETY: as above. Before the next errand, so that nothing else arrives there.
            unsafe {
                *arrivals = (items > 0).then(|| Arrivals::of(&*me.utcb, items));
                copy(me.utcb, *utcb, *mtd);
            }
        }
    }
    Ok(())
}

/// Words and items of a message.
///
/// # Safety
/// Nobody has a reference to either.
unsafe fn copy(from: *const Utcb, to: *mut Utcb, mtd: u32) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let first_item = UTCB_WORDS - Mtd::item_count(mtd).min(Item::MAX);
    // SAFETY: both are UTCB_WORDS words, and different ones.
    unsafe {
        to.copy_from_nonoverlapping(from, Mtd::word_count(mtd));
        to.add(first_item).copy_from_nonoverlapping(from.add(first_item), UTCB_WORDS - first_item);
    }
}

fn make(cpu: u16) -> Result<&'static Courier, Status> {
    let own = Box::into_raw(Box::new(Courier { work: lock::new_semaphore(0)?, errand: AtomicPtr::new(null_mut()) }));
    // SAFETY: just made, and shared for good from now on.
    let courier = unsafe { &*own };
    thread::spawn_courier(cpu, work, own.cast()).inspect_err(|_| {
        sel::free(courier.work);
        // SAFETY: there is no thread.
        drop(unsafe { Box::from_raw(own) });
    })?;
    Ok(courier)
}

/// A courier on `cpu` for an errand.
fn courier(cpu: u16, errand: *mut Errand) -> Result<&'static Courier, Status> {
    match with(cpu, |p| p.ask(Waiter(errand))) {
        Turn::Make => make(cpu).or_else(|why| match with(cpu, |p| p.cannot_make(Waiter(errand))) {
            Turn::Fail(others) => {
                others.into_iter().for_each(|w| hand_over(w, Err(why)));
                Err(why)
            }
            turn => follow(turn, errand),
        }),
        turn => follow(turn, errand),
    }
}

fn follow(turn: Turn<&'static Courier, Waiter>, errand: *mut Errand) -> Result<&'static Courier, Status> {
    if let Turn::Use(courier) = turn {
        return Ok(courier);
    }
    lock::wait(tcb::my().sem);
    // SAFETY: the errand is ours again.
    let errand = unsafe { &mut *errand };
    errand.courier.take().ok_or(errand.done.err().unwrap_or(Status::Aborted))
}

fn hand_over(to: Waiter, courier: Result<&'static Courier, Status>) {
    // SAFETY: its caller waits for the up.
    let caller = unsafe {
        let errand = &mut *to.0;
        (errand.courier, errand.done) = (courier.ok(), courier.map(drop));
        errand.caller
    };
    let _ = hypercall::sm_up(caller);
}

fn give_back(cpu: u16, courier: &'static Courier) {
    if let Some((courier, waiter)) = with(cpu, |p| p.give_back(courier)) {
        hand_over(waiter, Ok(courier));
    }
}

/// Has a courier on `cpu` call a portal.
fn send(cpu: u16, portal: Sel, message: Message) -> Result<Message, Status> {
    let sem = tcb::my().sem;
    let mut errand = Errand { portal, message, done: Ok(()), caller: sem, courier: None };
    let courier = courier(cpu, &raw mut errand)?;
    courier.errand.store(&raw mut errand, Ordering::Release);
    let _ = hypercall::sm_up(courier.work);
    lock::wait(sem);
    give_back(cpu, courier);
    errand.done.map(|()| errand.message)
}

/// As [`hypercall::ipc_call_registers`], on another CPU; the answer is in registers.
pub(super) fn registers(cpu: u16, portal: Sel, words: [u64; REGISTER_WORDS]) -> Result<[u64; REGISTER_WORDS], Status> {
    match send(cpu, portal, Message::Registers(words))? {
        Message::Registers(words) => Ok(words),
        Message::Utcb { .. } => Err(Status::Aborted),
    }
}

/// As [`hypercall::ipc_call_any`] on another CPU, with what came in the answer. `room`: capabilities may.
pub(super) fn message(cpu: u16, portal: Sel, mtd: u32, room: bool) -> Result<(u32, Option<Arrivals>), Status> {
    match send(cpu, portal, Message::Utcb { utcb: tcb::my().utcb, mtd, room, arrivals: None })? {
        Message::Utcb { mtd, arrivals, .. } => Ok((mtd, arrivals)),
        Message::Registers(_) => Err(Status::Aborted),
    }
}

/// Sees to it that there is a courier on `cpu`, which otherwise the first call makes of an object there. [`Status::BadCpu`]: the
/// component can have none there.
pub fn provide_courier(cpu: u16) -> Result<(), Status> {
    if with(cpu, |p| p.is_empty()) {
        let mut none = Errand {
            portal: 0,
            message: Message::Registers([0; 6]),
            done: Ok(()),
            caller: tcb::my().sem,
            courier: None,
        };
        let courier = courier(cpu, &raw mut none)?;
        give_back(cpu, courier);
    }
    Ok(())
}
