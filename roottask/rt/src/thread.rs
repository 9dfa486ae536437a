//! pthreads over global ECs.
//!
//! Life of a thread: [`pthread_create`] makes block, stack, semaphore and EC; the parent gives the EC a scheduling
//! context, which raises STARTUP; the answer to that is `_start` with RDI = 0, which finds the block at the stack
//! pointer and comes to [`run`]. At the end [`finish`] publishes `GONE` in the block's `state`, wakes a joiner, and
//! asks for its death by an undefined instruction, without a stack by then. Who sees `GONE` may free everything.
//!
//! States: `RUNNING`, `DETACHED`, `GONE`, or the semaphore of the thread that waits in join.

use crate::errno::{EAGAIN, EINVAL, ENOSYS, fail};
use crate::hypercall::{self, EcArgs};
use crate::lock::{Gate, Lock, wait};
use crate::tcb::{self, Routine, Tcb};
use crate::{clock, domain, ipc, keys, root, sel, stack};
use abi::{PAGE_SIZE, Sel, Status};
use core::arch::asm;
use core::ptr::null_mut;
use core::sync::atomic::Ordering;

const RUNNING: u64 = 0;
/// Never a semaphore: it is the selector of the own PD, or null.
const DETACHED: u64 = 1;
const GONE: u64 = u64::MAX;

/// Default stack. std asks for `RUST_MIN_STACK` (see `env`) unless the program says something else.
pub(crate) const DEFAULT_STACK: usize = 128 << 10;
const MIN_STACK: usize = 16 << 10;

/// How far below the component's own priority the threads run that this thread spawns from now on. 0: the same.
pub fn set_spawn_priority(lower: u64) {
    tcb::my().spawn_lower.set(lower);
}

/// CPU on which the calling thread runs.
pub fn cpu() -> u16 {
    tcb::my().cpu
}

/// CPU of the threads that this thread spawns from now on; they spawn theirs there, too. On a CPU that the component
/// may not use (see [`parent::StartInfo::usable_cpus`]) they cannot be spawned: the kind of that error is
/// `InvalidInput`.
pub fn set_spawn_cpu(cpu: u16) {
    tcb::my().spawn_cpu.set(cpu);
}

/// Creates an EC of the own domain.
///
/// # Safety
/// As [`hypercall::create_ec`] for the own PD.
pub(crate) unsafe fn create_ec(ec: Sel, args: EcArgs) -> Result<(), Status> {
    if domain::is_root() {
        // SAFETY: passed on to the caller.
        return unsafe { hypercall::create_ec(ec, domain::own().pd, args) };
    }
    ipc::create_ec(ec, args)
}

/// Gives an EC a scheduling context at the free selector `sc`, `lower` priorities below the component's own.
pub fn give_sc(ec: Sel, sc: Sel, lower: u64) -> Result<(), Status> {
    if domain::is_root() { root::give_sc(ec, sc, lower) } else { ipc::start_thread(ec, sc, lower) }
}

/// Detached threads; those that are gone are freed at the next `pthread_create` or `pthread_detach`.
struct Detached(*mut Tcb);
// SAFETY: the list is only walked behind its lock; the blocks are not bound to a thread.
unsafe impl Send for Detached {}

static DETACHED_THREADS: Lock<Detached> = Lock::new(Detached(null_mut()));

pub(crate) fn gate() -> &'static Gate {
    DETACHED_THREADS.gate()
}

fn reap() {
    DETACHED_THREADS.with(|list| {
        let mut link = &raw mut list.0;
        // SAFETY: every block on the list is valid until it is destroyed here, after it has been unlinked; nobody has
        // a handle to a detached thread.
        unsafe {
            while !(*link).is_null() {
                let t = *link;
                if (*t).state.load(Ordering::Acquire) == GONE {
                    *link = (*t).next.get();
                    tcb::destroy(t);
                } else {
                    link = (*t).next.as_ptr();
                }
            }
        }
    });
}

/// Fills in and starts a new thread.
///
/// # Safety
/// `t` is new.
unsafe fn launch(t: *mut Tcb, stack_len: usize) -> Result<(), Status> {
    // SAFETY: passed on; page and stack are the thread's alone, STARTUP is answered with `_start`.
    unsafe { launch_by(t, stack_len, tcb::my().spawn_lower.get(), |ec, args| create_ec(ec, args)) }
}

/// The same with an EC that `create` makes, `lower` priorities below the component's own.
///
/// # Safety
/// As [`launch`].
unsafe fn launch_by(
    t: *mut Tcb,
    stack_len: usize,
    lower: u64,
    create: impl FnOnce(Sel, EcArgs) -> Result<(), Status>,
) -> Result<(), Status> {
    let page = tcb::new_utcb_page();
    // SAFETY: contract; the thread does not run before `give_sc`.
    let t = unsafe { &mut *t };
    t.stack = stack::alloc(stack_len).ok_or(Status::MemObj)?;
    t.ec = sel::alloc().ok_or(Status::MemCap)?;
    t.sc = sel::alloc().ok_or(Status::MemCap)?;
    t.utcb = tcb::utcb_at(page);
    t.spawn_lower.set(lower);
    let cpu = t.cpu;
    let sp = t.stack.top() - 16;
    // SAFETY: the top of the new stack; `_start` looks for the block there.
    unsafe { (sp as *mut *mut Tcb).write(t) };
    let evt = domain::own().events(cpu);
    let args = EcArgs { utcb_page: page, cpu, sp, evt, guest: false, global_or_offset: true, fpu: true };
    create(t.ec, args)?;
    // From here on the block is the new thread's too: nothing of `t` is used behind this.
    let (ec, sc) = (t.ec, t.sc);
    give_sc(ec, sc, lower)
}

/// A thread of the runtime's own on `cpu`, with a small stack, which nobody joins.
pub(crate) fn spawn(cpu: u16, routine: Routine, arg: *mut u8) -> Result<(), Status> {
    let t = tcb::create(cpu)?;
    // SAFETY: `t` is new and does not run before `launch`, and not at all if that fails.
    unsafe {
        ((*t).routine, (*t).arg) = (Some(routine), arg);
        launch(t, MIN_STACK).inspect_err(|_| tcb::destroy(t))
    }
}

/// The same on a CPU that may be one on which the component can have nothing but couriers.
pub(crate) fn spawn_courier(cpu: u16, routine: Routine, arg: *mut u8) -> Result<(), Status> {
    if domain::is_root() {
        root::serve_own_threads(cpu)?;
    }
    let create = |ec, args| {
        if domain::is_root() {
            // SAFETY: by `launch_by`, page and stack are the thread's alone.
            return unsafe { create_ec(ec, args) };
        }
        ipc::create_courier(ec, args)
    };
    let t = tcb::create(cpu)?;
    // SAFETY: as in `spawn`.
    unsafe {
        ((*t).routine, (*t).arg) = (Some(routine), arg);
        launch_by(t, MIN_STACK, 0, create).inspect_err(|_| tcb::destroy(t))
    }
}

/// What a new thread does. Its stack pointer is at its block's address, FS is set.
pub(crate) extern "C" fn run(t: *mut Tcb) -> ! {
    // SAFETY: `t` is the own block; the routine was stored by pthread_create.
    unsafe {
        if let Some(routine) = (*t).routine {
            (*t).result.set(routine((*t).arg));
        }
        keys::run_destructors();
        finish(t)
    }
}

/// Ends the calling thread.
///
/// # Safety
/// `t` is its block. Nothing on its stack is needed any more.
unsafe fn finish(t: *mut Tcb) -> ! {
    // SAFETY: from the exchange on, block and stack may be gone at any moment, so what is left uses registers only: up
    // the joiner's semaphore if that is what the old state says, then tell the parent (parent::THREAD_EXIT).
    unsafe {
        asm!(
            "xchg rdi, [rsi]",
            "cmp rdi, {detached}",
            "jbe 2f",
            "shl rdi, 8",
            "or rdi, {up}",
            "syscall",
            "2:",
            "mov rax, rdx",
            "ud2",
            in("rsi") &raw const (*t).state,
            in("rdi") GONE,
            detached = const DETACHED,
            up = const abi::Hypercall::CtrlSm.identifier(0, 0),
            in("rdx") parent::THREAD_EXIT,
            options(noreturn),
        )
    }
}

/// Default or explicit attributes: `pthread_attr_t` has 56 bytes, of which we use three words.
#[repr(C)]
pub(crate) struct Attr {
    stack_size: usize,
    stack_addr: usize,
    guard_size: usize,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_init(a: *mut Attr) -> i32 {
    // SAFETY: C's contract.
    unsafe { a.write(Attr { stack_size: DEFAULT_STACK, stack_addr: 0, guard_size: PAGE_SIZE }) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_destroy(_: *mut Attr) -> i32 {
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_setstacksize(a: *mut Attr, n: usize) -> i32 {
    if n < MIN_STACK || !n.is_multiple_of(PAGE_SIZE) {
        return EINVAL;
    }
    // SAFETY: C's contract.
    unsafe { (*a).stack_size = n };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_getstack(a: *const Attr, addr: *mut usize, len: *mut usize) -> i32 {
    // SAFETY: C's contract.
    unsafe {
        addr.write((*a).stack_addr);
        len.write((*a).stack_size);
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_getguardsize(a: *const Attr, n: *mut usize) -> i32 {
    // SAFETY: C's contract.
    unsafe { n.write((*a).guard_size) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_getattr_np(t: *mut Tcb, a: *mut Attr) -> i32 {
    // SAFETY: C's contract: a live thread, and memory for the attributes.
    unsafe {
        let s = (*t).stack;
        a.write(Attr { stack_size: s.len as usize, stack_addr: s.low as usize, guard_size: PAGE_SIZE });
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(out: *mut *mut Tcb, a: *const Attr, routine: Routine, arg: *mut u8) -> i32 {
    reap();
    let cpu = tcb::my().spawn_cpu.get();
    if domain::is_root() && root::serve_own_threads(cpu).is_err() {
        return EAGAIN;
    }
    let Ok(t) = tcb::create(cpu) else { return EAGAIN };
    // SAFETY: C's contract; `t` is new and does not run before `launch`, and not at all if that fails.
    unsafe {
        ((*t).routine, (*t).arg) = (Some(routine), arg);
        let len = if a.is_null() { DEFAULT_STACK } else { (*a).stack_size };
        // Before the thread runs: it may look at its own handle there.
        out.write(t);
        if let Err(status) = launch(t, len) {
            tcb::destroy(t);
            return if status == Status::BadCpu { EINVAL } else { EAGAIN };
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_join(t: *mut Tcb, result: *mut *mut u8) -> i32 {
    let sem = tcb::my().sem;
    // SAFETY: C's contract: a handle that was neither joined nor detached, so the block lives until we free it.
    unsafe {
        match (*t).state.compare_exchange(RUNNING, sem, Ordering::AcqRel, Ordering::Acquire) {
            // The thread has seen, or will see, our semaphore and up it once.
            Ok(_) => wait(sem),
            Err(GONE) => {}
            Err(_) => return EINVAL,
        }
        if !result.is_null() {
            result.write((*t).result.get());
        }
        tcb::destroy(t);
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_detach(t: *mut Tcb) -> i32 {
    DETACHED_THREADS.with(|list| {
        // SAFETY: C's contract: a handle that was neither joined nor detached. If the thread is gone already, the state
        // stays that way and it is reaped like the others.
        unsafe {
            let _ = (*t).state.compare_exchange(RUNNING, DETACHED, Ordering::AcqRel, Ordering::Acquire);
            (*t).next.set(list.0);
        }
        list.0 = t;
    });
    reap();
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_self() -> *mut Tcb {
    tcb::me()
}

/// Names are std's; nobody outside looks at them.
#[unsafe(no_mangle)]
extern "C" fn pthread_setname_np(_: *mut Tcb, _: *const u8) -> i32 {
    0
}

/// How long a thread that yields does not run.
const YIELD_NS: u64 = 50_000;

/// Whoever yields may wait, in a loop, for a thread that was preempted, perhaps of lower priority; std's channels do.
/// Priorities are strict, so the kernel has no yielding that would let such a thread run. So this sleeps a little.
#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> i32 {
    clock::sleep(YIELD_NS);
    0
}

/// What std takes for the number of threads worth having: all that this thread spawns run on one CPU.
#[unsafe(no_mangle)]
unsafe extern "C" fn sched_getaffinity(_: i32, n: usize, mask: *mut u8) -> i32 {
    let cpu = usize::from(tcb::my().spawn_cpu.get());
    if cpu / 8 >= n {
        return fail(EINVAL) as i32;
    }
    // SAFETY: C's contract: `n` bytes.
    unsafe {
        mask.write_bytes(0, n);
        mask.add(cpu / 8).write(1 << (cpu % 8));
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn sched_setaffinity(_: i32, _: usize, _: *const u8) -> i32 {
    fail(ENOSYS) as i32
}

#[unsafe(no_mangle)]
extern "C" fn gettid() -> i32 {
    tcb::my().id as i32
}
