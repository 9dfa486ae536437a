//! What is different in the root task: how it starts (6.2, 8.1.2), that it has no parent, and that it serves the events
//! of its own threads itself.
//!
//! At boot there is no memory but the image: stack and first heap are in `.bss` (only of binaries that begin at
//! `_start_root`; the linker drops them from others). When `core-task` has mapped more, it says so by [`set_ram`].

use crate::hypercall;
use crate::lock::{Gate, Lock, StartCell};
use crate::pages::{self, Content};
use crate::portal::PortalThread;
use crate::stack::Stack;
use crate::start::{self, First};
use crate::{domain, time};
use abi::{ArchState, Hip, Mad, Mtd, PAGE_SIZE, Scd, Sel, Status, Utcb, event, nova_obj, perm, root_obj};
use alloc::boxed::Box;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use parent::MAX_CPUS;

/// Our own host space. Below [`FREE`], behind the events.
pub const HST: Sel = 0x30;
/// Events of our own threads, CPU for CPU; those of the first thread's CPU are at 0, where the kernel wants them.
const EVENTS: Sel = 0x40;
/// Selectors for each CPU.
const EVENTS_PER_CPU: Sel = 64;
/// First selector that is free in the root task.
const FREE: Sel = EVENTS + MAX_CPUS as Sel * EVENTS_PER_CPU;
const _: () = assert!(event::HST_ARCH + event::HST_NOVA <= HST && HST < EVENTS);

/// Stack of the first thread.
const STACK_LEN: usize = 256 << 10;
/// Heap until [`set_ram`].
const HEAP_LEN: usize = 512 << 10;

/// Priority of the threads that std spawns: below the first thread, above all components.
const PRIORITY: u8 = 110;
const BUDGET_MS: u16 = 10;
/// Stack of the thread that serves our own events.
const EVENT_STACK: usize = 16 << 10;

/// Memory of the root task before it has any.
#[repr(C, align(4096))]
struct BootMemory {
    guard: [u8; PAGE_SIZE],
    stack: [u8; STACK_LEN],
    heap: [u8; HEAP_LEN],
}

#[repr(transparent)]
struct BootCell(UnsafeCell<BootMemory>);
// SAFETY: the first thread and then the allocator use it, each their part, by address only.
unsafe impl Sync for BootCell {}

static BOOT_MEMORY: BootCell =
    BootCell(UnsafeCell::new(BootMemory { guard: [0; PAGE_SIZE], stack: [0; STACK_LEN], heap: [0; HEAP_LEN] }));

// RDI and RSI are EAX and EBX of the boot loader. RSP is the address of the information page and no stack.
global_asm!(
    ".section .text._start_root, \"ax\", @progbits",
    ".globl _start_root",
    ".type _start_root, @function",
    "_start_root:",
    "mov rdx, rsp",
    "lea rsp, [rip + {memory} + {stack_end}]",
    "xor ebp, ebp",
    "call {first}",
    "ud2",
    ".size _start_root, . - _start_root",
    ".text",
    memory = sym BOOT_MEMORY,
    stack_end = const PAGE_SIZE + STACK_LEN,
    first = sym first_thread,
);

/// What the kernel left at boot.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// Hypervisor information page.
    pub hip: &'static Hip,
    /// Multiboot magic number: EAX of the boot loader.
    pub mb_magic: u32,
    /// Physical address of the Multiboot information: EBX of the boot loader.
    pub mbi_phys: u64,
}

static BOOT: StartCell<Boot> = StartCell::new();

/// What the kernel left at boot; `None` in all other components.
pub fn boot() -> Option<Boot> {
    domain::is_root().then(|| *BOOT.get())
}

extern "C" fn first_thread(magic: u64, mbi: u64, hip: *const Hip) -> ! {
    // SAFETY: the kernel maps the page for good, and it fits a page.
    let page = unsafe { &*hip };
    if page.signature != abi::HIP_SIGNATURE || take_host_space().is_err() {
        start::trap();
    }
    let memory = BOOT_MEMORY.0.get();
    // SAFETY: first thread, once, in this order. The heap is ours, in .bss and so zero; the UTCB is in the page below
    // the information page.
    unsafe {
        domain::init_root(HST, page.cpu_bsp);
        BOOT.set(Boot { hip: page, mb_magic: magic as u32, mbi_phys: mbi & 0xffff_ffff });
        time::init(page.stc_freq, 0);
        guard(&raw const (*memory).guard);
        if !pages::add((&raw const (*memory).heap).addr() as u64, HEAP_LEN as u64, Content::Zeroed) {
            start::trap();
        }
        let low = (&raw const (*memory).stack).addr() as u64;
        let first = First {
            ec: root_obj::ROOT_EC,
            sc: root_obj::ROOT_SC,
            utcb: hip.byte_sub(PAGE_SIZE).cast::<Utcb>().cast_mut(),
            stack: Stack::foreign(low, STACK_LEN as u64),
        };
        start::run(first, FREE, page.sel_num.min(root_obj::ROOT_SC), "core")
    }
}

/// Our own host space is not in our object space at boot (6.2.3.1).
fn take_host_space() -> Result<(), Status> {
    let (from, to) = (root_obj::NOVA_OBJ, root_obj::ROOT_OBJ);
    // SAFETY: into the object space, which holds no memory.
    unsafe { hypercall::ctrl_pd(from, to, nova_obj::ROOT_HST, HST, 0, perm::ALL, Mad::WB) }
}

/// Takes the page below the stack away, so that an overflow faults. If that fails there is just no guard.
fn guard(page: *const [u8; PAGE_SIZE]) {
    let page = (page.addr() / PAGE_SIZE) as u64;
    // SAFETY: nothing is in that page.
    let _ = unsafe { hypercall::ctrl_pd(HST, HST, page, page, 0, 0, Mad::WB) };
}

/// Gives the root task's allocator `len` bytes at virtual address `base`, in whole pages, whatever they hold now.
/// `false`: too little to be of use, or too many calls (two are possible).
///
/// # Safety
/// The memory must be mapped readable and writable for good, and nobody else may use it.
pub unsafe fn set_ram(base: u64, len: u64) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { pages::add(base, len, Content::Any) }
}

/// Sets the wall-clock time in ns since 1970 when the TSC was 0. Until then it is 0.
pub fn set_wall_base(ns: u64) {
    time::set_wall_base(ns);
}

/// Where lines of stdout and stderr go: `fn(&[u8])` as number, 0: nowhere.
static LOG: AtomicUsize = AtomicUsize::new(0);

/// Sets where lines of stdout and stderr go. Until then they are lost.
///
/// `f` gets one or more whole lines. It may be called by any thread, also by one that is in `f` already and panics
/// there, and must not print.
pub fn set_log(f: fn(&[u8])) {
    LOG.store(f as usize, Ordering::Release);
}

/// What to do before a thread of the root task waits for a lock: `fn()` as number, 0: nothing.
static CONTENDED: AtomicUsize = AtomicUsize::new(0);

/// Sets what to do before a thread of the root task waits for a lock, of std or of ours: who holds it may be a portal
/// thread, which runs on the time of a caller that gets none.
///
/// `f` is called with the lock's books open, by any thread: it must not take locks or use the heap, and not print.
pub fn set_contended(f: fn()) {
    CONTENDED.store(f as usize, Ordering::Release);
}

pub(crate) fn contended() {
    let f = CONTENDED.load(Ordering::Acquire);
    if f != 0 {
        // SAFETY: stored from a fn() by `set_contended`.
        unsafe { core::mem::transmute::<usize, fn()>(f)() };
    }
}

pub(crate) fn log(text: &[u8]) {
    let f = LOG.load(Ordering::Acquire);
    if f != 0 {
        // SAFETY: stored from a fn(&[u8]) by `set_log`.
        unsafe { core::mem::transmute::<usize, fn(&[u8])>(f)(text) };
    }
}

/// Ends the root task. There is nobody to tell but the log; the calling thread stops, and with it what it did.
pub(crate) fn end(code: u64) -> ! {
    say(format_args!("the root task ended with code {code}\n"));
    start::stop()
}

/// Logs without the heap and without locks.
fn say(text: core::fmt::Arguments) {
    struct Line {
        bytes: [u8; 160],
        len: usize,
    }
    impl Write for Line {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            let n = s.len().min(self.bytes.len() - self.len);
            self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
            self.len += n;
            Ok(())
        }
    }
    let mut line = Line { bytes: [0; 160], len: 0 };
    let _ = line.write_fmt(text);
    log(&line.bytes[..line.len]);
}

/// What the parent does for other components, see [`parent::Call::StartThread`].
pub(crate) fn give_sc(ec: Sel, sc: Sel, lower: u64) -> Result<(), Status> {
    let lower = u8::try_from(lower).unwrap_or(u8::MAX);
    let scd = Scd { cos: 0, prio: PRIORITY.saturating_sub(lower).max(1), budget_ms: BUDGET_MS };
    hypercall::create_sc(sc, root_obj::ROOT_PD, ec, scd)
}

/// On which CPUs [`serve_own_threads`] has been.
static SERVED: Lock<u128> = Lock::new(0);
const _: () = assert!(MAX_CPUS <= u128::BITS as usize);

/// Event base of our own threads on `cpu`.
pub(crate) fn events(cpu: u16) -> Sel {
    if cpu == domain::own().cpu { 0 } else { EVENTS + Sel::from(cpu) * EVENTS_PER_CPU }
}

pub(crate) fn gate() -> &'static Gate {
    SERVED.gate()
}

/// Serves STARTUP and the exceptions of our own threads on `cpu`, from now on.
pub(crate) fn serve_own_threads(cpu: u16) -> Result<(), Status> {
    if usize::from(cpu) >= MAX_CPUS {
        return Err(Status::BadCpu);
    }
    SERVED.with(|served| {
        if *served & 1 << cpu == 0 {
            let thread = PortalThread::unserved(cpu, EVENT_STACK, Box::new(own_event))?;
            let mtd = Mtd::GPR_0_7 | Mtd::RIP | Mtd::QUAL;
            let all = 0..event::HST_ARCH + event::HST_NOVA;
            all.into_iter().try_for_each(|n| thread.portal(events(cpu) + n, n, mtd.bits()))?;
            *served |= 1 << cpu;
        }
        Ok(())
    })
}

unsafe extern "C" {
    fn _start();
}

/// #UD (Intel SDM volume 3, 6.15): with it threads end.
const UD: u64 = 6;

/// An event of one of our own threads. Returns what of its state to write back.
fn own_event(n: u64, _mtd: u32, utcb: &mut Utcb) -> u32 {
    let state = utcb.arch_mut();
    match n {
        event::HST_STARTUP => {
            state.rip = _start as *const () as u64;
            state.gpr[ArchState::RDI] = 0;
            (Mtd::RIP | Mtd::GPR_0_7).bits()
        }
        event::HST_RECALL => 0,
        UD if state.gpr[ArchState::RAX] == parent::THREAD_EXIT => Mtd::POISON.bits(),
        vector => {
            let [error, address, _] = state.qual;
            let (rip, rsp) = (state.rip, state.gpr[ArchState::RSP]);
            say(format_args!(
                "fault in the root task: exception {vector}, error {error:#x}, address {address:#x}, rip {rip:#x}, rsp {rsp:#x}\n"
            ));
            Mtd::POISON.bits()
        }
    }
}
