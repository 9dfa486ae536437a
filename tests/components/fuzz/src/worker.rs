//! The part that runs in the domain that may perish: a thread on bare code, without anything of rt's.
//!
//! Key type: [`Desk`], the memory that a worker has: its fuzzer, what it has counted, its stack.

use abi::Hypercall;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use fuzz_logic::{Call, Fuzzer, NUMBERS, STATUSES, status_index};

/// Calls that are remembered.
const LAST: usize = 8;
/// Bytes of stack.
const STACK: usize = 16 << 10;

/// Memory of a worker, of whole pages. The supervisor sees it, too.
#[repr(C, align(4096))]
pub struct Desk {
    /// What is called next. Touched by the worker, and by the supervisor while there is none.
    fuzzer: UnsafeCell<Fuzzer>,
    /// A worker that is called: calls until it replies.
    pub batch: AtomicU64,
    /// Not 0: end.
    pub stop: AtomicU64,
    /// Calls made.
    pub calls: AtomicU64,
    /// What came of them: a row for each number.
    pub outcomes: [[AtomicU32; STATUSES]; NUMBERS],
    /// The last calls, for reports.
    last: UnsafeCell<[Call; LAST]>,
    stack: UnsafeCell<[u8; STACK]>,
}

/// Pages of a [`Desk`].
pub const DESK_PAGES: u64 = (size_of::<Desk>() / abi::PAGE_SIZE) as u64;

impl Desk {
    /// A new one, which is never given back: others may have it mapped.
    pub fn new(fuzzer: impl FnOnce(u64) -> Fuzzer) -> &'static Desk {
        let layout = std::alloc::Layout::new::<Desk>();
        // SAFETY: not of size zero; zero is valid in all fields but the fuzzer, which is written before it is used.
        unsafe {
            let p = std::alloc::alloc_zeroed(layout).cast::<Desk>();
            assert!(!p.is_null(), "no memory");
            (&raw mut (*p).fuzzer).cast::<Fuzzer>().write(fuzzer(p.expose_provenance() as u64));
            &*p
        }
    }

    /// Begins anew with another fuzzer. No worker may be at it.
    pub fn renew(&self, fuzzer: Fuzzer) {
        // SAFETY: by the caller.
        unsafe { self.fuzzer.get().write(fuzzer) };
        self.stop.store(0, Relaxed);
    }

    /// Its last calls, newest last.
    pub fn last(&self) -> Vec<Call> {
        // SAFETY: the worker does not move.
        let last = unsafe { *self.last.get() };
        let n = self.calls.load(Relaxed) as usize;
        (0..LAST).map(|i| last[(n + i) % LAST]).collect()
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        std::ptr::from_ref(self).expose_provenance() as u64
    }
}

// SAFETY: the fuzzer is touched by the worker only; the rest is atomic, or a stack.
unsafe impl Sync for Desk {}

// Entries. `fuzz_called`: a local thread; the portal's identifier is the desk. `fuzz_started`: a global thread; the
// answer to STARTUP put the desk into RDI. `fuzz_entries`: portals of the workers' own making, which have no stack: one
// replies, one calls the portal whose selector came as identifier (without waiting) and replies, one waits a little for
// the semaphore of the supervisor and replies, one faults.
global_asm!(
    ".balign 16",
    "fuzz_called:",
    "lea rsp, [rdi + {top}]",
    "xor ebp, ebp",
    "call {work}",
    "xor esi, esi",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    "fuzz_started:",
    "lea rsp, [rdi + {top}]",
    "xor ebp, ebp",
    "call {work}",
    "ud2",
    ".balign 16",
    "fuzz_entries:",
    "mov edi, {reply}",
    "syscall",
    ".balign 32",
    "shl rdi, 8",
    "or rdi, {call}",
    "xor esi, esi",
    "syscall",
    "mov edi, {reply}",
    "syscall",
    ".balign 32",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "lea rsi, [rax + 4096]",
    "mov edi, {down}",
    "syscall",
    "mov edi, {reply}",
    "syscall",
    ".balign 32",
    "mov rax, [0]",
    "ud2",
    top = const size_of::<Desk>(),
    work = sym work,
    reply = const Hypercall::IpcReply as u8,
    call = const Hypercall::IpcCall.identifier(1, 0),
    down = const Hypercall::CtrlSm.identifier(1, fuzz_logic::fixed::SM),
);

unsafe extern "C" {
    static fuzz_called: u8;
    static fuzz_started: u8;
    static fuzz_entries: u8;
}

/// Where a portal to a local worker leads.
pub fn called() -> u64 {
    &raw const fuzz_called as u64
}

/// Where a global worker starts.
pub fn started() -> u64 {
    &raw const fuzz_started as u64
}

/// Where portals of the workers' own making lead.
pub fn entries() -> [u64; 4] {
    let first = &raw const fuzz_entries as u64;
    [first, (first & !31) + 32, (first & !31) + 64, (first & !31) + 96]
}

/// Makes calls.
extern "C" fn work(desk: *const Desk) {
    // SAFETY: the desk is mapped, or this worker dies; the fuzzer is this worker's.
    let (desk, fuzzer) = unsafe { (&*desk, &mut *(*desk).fuzzer.get()) };
    for _ in 0..desk.batch.load(Relaxed) {
        if desk.stop.load(Relaxed) != 0 {
            return;
        }
        let call = fuzzer.next(now());
        let n = desk.calls.fetch_add(1, Relaxed);
        // SAFETY: others only read it, for a report about a worker that no longer moves.
        unsafe { (*desk.last.get())[n as usize % LAST] = call };
        let status = enter(&call);
        desk.outcomes[(call.rdi & 0xf) as usize][status_index(status)].fetch_add(1, Relaxed);
        fuzzer.learn(&call, status);
    }
}

fn now() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Any hypercall; returns the status register.
fn enter(c: &Call) -> u64 {
    let mut rdi = c.rdi;
    // SAFETY: it may take away all that this worker has, which is the purpose. Registers come back as the calling
    // convention says, or the worker dies.
    unsafe {
        rt::syscall_asm!(
            "syscall",
            inlateout("rdi") rdi,
            inlateout("rsi") c.rsi => _, inlateout("rdx") c.rdx => _, inlateout("rax") c.rax => _, inlateout("r8") c.r8 => _,
        );
    }
    rdi
}
