//! Exceptions and interrupts: hooks that tests set, counts, and `catch`, which makes a fault a value.
//!
//! What nobody expects fails the running test: [`Fault`] in the message. Neighbour: entry.S.

use super::{apic, smp, tables};
use crate::spec::vector;
use crate::x86;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What the entry code pushes (entry.S), and then what the CPU pushed.
#[repr(C)]
#[allow(missing_docs, reason = "the names of the registers")]
pub struct Frame {
    /// R15 down to RAX, in the order of the pushes.
    pub gpr: [u64; 15],
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// Index of RAX in `gpr`.
    pub const RAX: usize = 14;
}

/// An exception that was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the registers")]
pub struct Fault {
    pub vector: u8,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub cr2: u64,
    pub rax: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Fault { vector, error, rip, cs, cr2, .. } = self;
        write!(f, "exception {vector} (error {error:#x}, rip {rip:#x}, cs {cs:#x}, cr2 {cr2:#x})")
    }
}

/// What a hook makes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on with the frame as it is now.
    Resume,
    /// It is none of mine: count and acknowledge, or fail.
    Pass,
    /// Go to where `catch` is waiting, even if it is an interrupt.
    Land,
}

/// A test's handler.
pub type Hook = fn(&mut Frame) -> Answer;

/// The state of one CPU.
struct Cpu {
    /// Stack pointer of the innermost landing; 0: none.
    landing: AtomicU64,
    /// That of the runner, to which a failure goes.
    outermost: AtomicU64,
    fault: [AtomicU64; 8],
}

impl Cpu {
    const fn new() -> Cpu {
        Cpu { landing: AtomicU64::new(0), outermost: AtomicU64::new(0), fault: [const { AtomicU64::new(0) }; 8] }
    }
}

static CPUS: [Cpu; smp::MAX_CPUS] = [const { Cpu::new() }; smp::MAX_CPUS];
static HOOKS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];
static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];
/// The CPU that got the last interrupt of each vector, plus one.
static WHERE: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

unsafe extern "C" {
    fn catch_raw(f: extern "C" fn(*mut u8), data: *mut u8, landing: *mut u64) -> u64;
    fn land(rsp: u64) -> !;
    static catch_landing: u8;
}

fn this() -> &'static Cpu {
    &CPUS[tables::this_cpu()]
}

/// Runs `f` until it returns or causes an exception that no hook takes. Locals of `f` are not dropped then.
pub fn catch(f: impl FnOnce()) -> Option<Fault> {
    extern "C" fn call<F: FnOnce()>(data: *mut u8) {
        // SAFETY: `catch` passes an `Option<F>` that nobody else uses meanwhile.
        if let Some(f) = unsafe { (*data.cast::<Option<F>>()).take() } {
            f()
        }
    }
    fn enter<F: FnOnce()>(f: F) -> u64 {
        let mut f = Some(f);
        // SAFETY: `call` gets what it wants; the landing is this CPU's.
        unsafe { catch_raw(call::<F>, (&raw mut f).cast(), this().landing.as_ptr()) }
    }
    (enter(f) != 0).then(|| {
        let [vector, error, rip, cs, rflags, rsp, cr2, rax] = this().fault.each_ref().map(|v| v.load(Relaxed));
        Fault { vector: vector as u8, error, rip, cs, rflags, rsp, cr2, rax }
    })
}

/// Runs `f`, to which failures on this CPU return. Whether it came to its end.
pub fn outermost(f: impl FnOnce()) -> bool {
    let cpu = this();
    cpu.landing.store(0, Relaxed);
    let fault = catch(|| {
        cpu.outermost.store(cpu.landing.load(Relaxed), Relaxed);
        f()
    });
    cpu.outermost.store(0, Relaxed);
    fault.is_none()
}

/// Ends what runs below [`outermost`] on this CPU.
pub fn abandon() -> ! {
    let rsp = this().outermost.load(Relaxed);
    if rsp == 0 {
        super::power_off();
    }
    // SAFETY: the frame of `outermost` is still on the stack.
    unsafe { land(rsp) }
}

/// Expects an exception with this error code from `f`.
#[track_caller]
pub fn expect(vector: u8, error: u64, f: impl FnOnce()) -> Fault {
    match catch(f) {
        Some(fault) if (fault.vector, fault.error) == (vector, error) => fault,
        Some(fault) => panic!("{fault} instead of exception {vector} with error code {error:#x}"),
        None => panic!("no exception {vector}"),
    }
}

/// Expects `f` to come to its end.
#[track_caller]
pub fn expect_none(f: impl FnOnce()) {
    if let Some(fault) = catch(f) {
        panic!("{fault}");
    }
}

/// Sets a handler until the next test.
pub fn hook(vector: u8, f: Hook) {
    HOOKS[usize::from(vector)].store(f as usize, Relaxed);
}

/// Takes a handler away.
pub fn unhook(vector: u8) {
    HOOKS[usize::from(vector)].store(0, Relaxed);
}

/// No hooks.
pub fn reset() {
    HOOKS.iter().for_each(|h| h.store(0, Relaxed));
}

/// Interrupts so far, on all CPUs.
pub fn count(vector: u8) -> u32 {
    COUNTS[usize::from(vector)].load(Relaxed)
}

/// The CPU that had the last one.
pub fn last_cpu(vector: u8) -> Option<usize> {
    (WHERE[usize::from(vector)].load(Relaxed) as usize).checked_sub(1)
}

/// Counts from 0 again.
pub fn clear_counts() {
    COUNTS.iter().chain(&WHERE).for_each(|c| c.store(0, Relaxed));
}

/// From entry.S.
#[unsafe(no_mangle)]
extern "C" fn trap(frame: &mut Frame) {
    let vector = frame.vector as usize & 0xff;
    let hook = HOOKS[vector].load(Relaxed);
    if hook != 0 {
        // SAFETY: only `hook` writes other values than 0.
        let hook: Hook = unsafe { core::mem::transmute::<usize, Hook>(hook) };
        match hook(frame) {
            Answer::Resume => return,
            Answer::Pass => {}
            Answer::Land => return exception(frame),
        }
    }
    match frame.vector as u8 {
        v if v >= FIRST_INTERRUPT && v != super::user::EXIT => interrupt(v),
        _ => exception(frame),
    }
}

/// Vectors from here on are interrupts.
pub const FIRST_INTERRUPT: u8 = 0x20;

fn interrupt(vector: u8) {
    WHERE[usize::from(vector)].store(tables::this_cpu() as u32 + 1, Relaxed);
    COUNTS[usize::from(vector)].fetch_add(1, Relaxed);
    apic::end_of_interrupt(vector);
}

fn exception(frame: &mut Frame) {
    let cpu = this();
    let fault = Fault {
        vector: frame.vector as u8,
        error: frame.error,
        rip: frame.rip,
        cs: frame.cs,
        rflags: frame.rflags,
        rsp: frame.rsp,
        cr2: super::cpu::read_cr2(),
        rax: frame.gpr[Frame::RAX],
    };
    let landing = cpu.landing.load(Relaxed);
    if landing == cpu.outermost.load(Relaxed) {
        panic!("unexpected {fault}");
    }
    let Fault { vector, error, rip, cs, rflags, rsp, cr2, rax } = fault;
    for (slot, v) in cpu.fault.iter().zip([vector.into(), error, rip, cs, rflags, rsp, cr2, rax]) {
        slot.store(v, Relaxed);
    }
    frame.rip = (&raw const catch_landing) as u64;
    frame.rsp = landing;
    frame.rflags = crate::spec::rflags::FIXED;
    frame.cs = tables::selector::CODE.into();
    frame.ss = tables::selector::DATA.into();
}

/// An NMI is an exception that tests count like an interrupt: for use as a hook.
pub fn count_and_resume(frame: &mut Frame) -> Answer {
    COUNTS[frame.vector as usize & 0xff].fetch_add(1, Relaxed);
    Answer::Resume
}

/// Waits with interrupts on until `done`, not for ever. The bound is in iterations: no clock is trusted here.
#[track_caller]
pub fn wait_for(what: &str, done: impl Fn() -> bool) {
    for _ in 0..20_000_000 {
        if done() {
            return x86!("cli");
        }
        x86!("pause", "sti", "nop", "nop", "cli");
    }
    panic!("waited in vain for {what}");
}

/// #GP(0) from `f`.
#[track_caller]
pub fn expect_gp(f: impl FnOnce()) {
    expect(vector::GP, 0, f);
}
