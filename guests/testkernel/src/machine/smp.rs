//! Application processors: started once, by INIT and two start-up IPIs; then they wait in HLT for work.

use super::{apic, cpu, tables, trap};
use crate::spec::apic::{ASSERT, INIT, STARTUP, TO_OTHERS};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};

/// Most CPUs that the kernel uses.
pub const MAX_CPUS: usize = 8;
/// The IPI that says: there is work.
const WORK: u8 = 0xf0;
/// The page of the start-up code in low.S.
const START_PAGE: u32 = 8;
const STACK: usize = 32 << 10;

/// What low.S saw before it changed anything.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the names of the registers")]
pub struct AtStart {
    pub cr0: u32,
    pub cs: u16,
    pub reserved: u16,
    pub rflags: u32,
    pub reserved2: u32,
}

unsafe extern "C" {
    static ap_seen: [AtStart; MAX_CPUS];
    static mut ap_tickets: u32;
    static mut low_cr3: u32;
    static mut low_ap_stacks: u64;
    static mut low_ap_main: u64;
    static mut low_gdt_pointer: [u8; 10];
    static gdt_pointer: [u8; 10];
}

#[repr(C, align(16))]
struct Stacks(UnsafeCell<[[u8; STACK]; MAX_CPUS - 1]>);
// SAFETY: only the CPUs whose stacks they are use them.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK]; MAX_CPUS - 1]));
static ONLINE: AtomicUsize = AtomicUsize::new(1);
static EXPECTED: AtomicUsize = AtomicUsize::new(1);
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
static JOBS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
static FAILED: AtomicBool = AtomicBool::new(false);

/// CPUs that run, the boot CPU included.
pub fn online() -> usize {
    ONLINE.load(Acquire)
}

/// CPUs that CPUID or the command line named.
pub fn expected() -> usize {
    EXPECTED.load(Relaxed)
}

/// Sets how many there should be.
pub fn expect(cpus: usize) {
    EXPECTED.store(cpus.clamp(1, MAX_CPUS), Relaxed);
}

/// The APIC ID of CPU `n`.
pub fn apic_id(n: usize) -> u32 {
    APIC_IDS[n].load(Relaxed)
}

/// What CPU `n` (not 0) saw when it started.
pub fn at_start(n: usize) -> AtStart {
    // SAFETY: written by the CPU before it counted itself online.
    unsafe { ap_seen[n] }
}

/// CPUs by CPUID: leaf 0xb, or leaf 1.
pub fn count_by_cpuid() -> usize {
    let cores = cpu::cpuid_if_any(0xb, 1).ebx & 0xffff;
    let leaf1 = cpu::cpuid(1, 0);
    let old = if leaf1.edx >> 28 & 1 != 0 { leaf1.ebx >> 16 & 0xff } else { 1 };
    (if cores != 0 { cores } else { old }) as usize
}

/// Starts all others, if there should be any.
pub fn start_all() {
    APIC_IDS[0].store(apic::id(), Relaxed);
    // SAFETY: no other CPU runs yet.
    unsafe {
        low_cr3 = cpu::read_cr3() as u32;
        low_ap_stacks = STACKS.0.get() as u64 - STACK as u64;
        low_ap_main = ap_main as *const () as u64;
        low_gdt_pointer = gdt_pointer;
    }
    if expected() < 2 {
        return;
    }
    apic::command(INIT | ASSERT | TO_OTHERS, 0);
    delay();
    for _ in 0..2 {
        apic::command(STARTUP | ASSERT | TO_OTHERS | START_PAGE, 0);
        delay();
    }
    for _ in 0..50_000_000 {
        if online() >= expected() {
            break;
        }
        cpu::pause();
    }
}

/// INIT and start-up once more for CPU `n`.
#[track_caller]
pub fn restart(n: usize) {
    // SAFETY: no CPU starts now but this one.
    unsafe { (&raw mut ap_tickets).write_volatile(n as u32) };
    ONLINE.fetch_sub(1, AcqRel);
    let before = online();
    for ipi in [INIT, STARTUP | START_PAGE, STARTUP | START_PAGE] {
        apic::command(ipi | ASSERT, apic_id(n));
        delay();
    }
    trap::wait_for("the CPU", || online() > before);
    assert_eq!(online(), before + 1, "started once");
}

/// Some time: what the manual wants between the IPIs, on machines where a port access takes a microsecond.
fn delay() {
    for _ in 0..1000 {
        cpu::in8(crate::spec::port::POST);
    }
}

/// From low.S, on the CPU's own stack, with its number (1 and up).
extern "C" fn ap_main() -> ! {
    let number = ticket_of_stack();
    if number >= MAX_CPUS {
        cpu::halt_forever();
    }
    tables::load(number);
    cpu::write_cr4(cpu::read_cr4() | crate::spec::cr4::OSFXSR | crate::spec::cr4::OSXMMEXCPT);
    apic::enable_local();
    APIC_IDS[number].store(apic::id(), Relaxed);
    ONLINE.fetch_add(1, AcqRel);
    loop {
        match JOBS[number].load(Acquire) {
            0 => cpu::halt(),
            job => {
                work(job);
                JOBS[number].store(0, Release);
            }
        }
    }
}

fn ticket_of_stack() -> usize {
    let here = 0u8;
    let at = &raw const here as u64;
    (at - STACKS.0.get() as u64) as usize / STACK + 1
}

fn work(job: usize) {
    // SAFETY: only `start` stores jobs.
    let f: fn() = unsafe { core::mem::transmute::<usize, fn()>(job) };
    if !trap::outermost(f) {
        FAILED.store(true, Release);
    }
    cpu::disable_interrupts();
}

/// Gives CPU `n` work.
pub fn start(n: usize, f: fn()) {
    JOBS[n].store(f as usize, Release);
    apic::command(ASSERT | u32::from(WORK), apic_id(n));
}

/// Gives all others work.
pub fn start_others(f: fn()) {
    (1..online()).for_each(|n| start(n, f));
}

/// Waits until no CPU works; fails if one of them failed.
#[track_caller]
pub fn join() {
    trap::wait_for("the other CPUs", || JOBS.iter().all(|j| j.load(Acquire) == 0));
    assert!(!FAILED.swap(false, AcqRel), "failed on another CPU, see above");
}

/// Whether all others wait for work; a test that failed may have left one busy.
pub fn idle() -> bool {
    JOBS.iter().all(|j| j.load(Acquire) == 0)
}
