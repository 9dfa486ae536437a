//! Samples: the TSC right before and right after one thing.

use perf_suite::{Spread, Summary};
use rt::syscall_asm;
use std::arch::asm;
use std::sync::Mutex;
use std::time::Duration;

/// Samples of a row.
pub const SAMPLES: usize = 1024;
/// Before them, as many that do not count.
pub const WARM_UP: usize = 64;
/// Instructions between two readings with nothing in between: the second RDTSC, and the move that saves the first.
pub const OVERHEAD: u32 = 2;

/// The same with [`long_hypercall`]: two moves more.
pub const LONG_OVERHEAD: u32 = 4;

/// Registers of a hypercall.
#[derive(Clone, Copy, Default)]
pub struct Registers {
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rax: u64,
    pub r8: u64,
}

/// The clock's lower half.
#[inline(always)]
pub fn now() -> u32 {
    let ticks;
    // SAFETY: reads the clock.
    unsafe { asm!("rdtsc", out("eax") ticks, out("edx") _, options(nostack)) };
    ticks
}

/// Ticks of nothing.
pub fn empty() -> u32 {
    let d: u32;
    // SAFETY: reads the clock.
    unsafe {
        asm!("rdtsc", "mov r9d, eax", "rdtsc", "sub eax, r9d", out("eax") d, out("rdx") _, out("r9") _, options(nomem, nostack))
    };
    d
}

/// Ticks of a hypercall, and its status.
///
/// # Safety
/// The call must not change memory that Rust relies on, nor give it away.
pub unsafe fn hypercall(r: Registers) -> (u32, u64) {
    let (d, status): (u32, u64);
    // SAFETY: R9 and the rest is kept by the kernel (docs/spec/abi.md); vector registers are given up.
    unsafe {
        syscall_asm!(
            "rdtsc", "mov r9d, eax", "syscall", "rdtsc", "sub eax, r9d",
            inlateout("rdi") r.rdi => status, inlateout("rsi") r.rsi => _,
            lateout("eax") d, lateout("rdx") _, out("r9") _,
        );
    }
    (d, status & 0xff)
}

/// The same of a hypercall with more parameters than two.
///
/// # Safety
/// As [`hypercall`].
pub unsafe fn long_hypercall(r: Registers) -> (u32, u64) {
    let (d, status): (u32, u64);
    // SAFETY: as in `hypercall`.
    unsafe {
        syscall_asm!(
            "rdtsc", "mov r9d, eax", "mov rdx, r10", "mov rax, r12", "syscall", "rdtsc", "sub eax, r9d",
            inlateout("rdi") r.rdi => status, inlateout("rsi") r.rsi => _, in("r10") r.rdx, in("r12") r.rax, in("r8") r.r8,
            lateout("eax") d, lateout("rdx") _, out("r9") _,
        );
    }
    (d, status & 0xff)
}

/// Ticks of a hypercall that has to succeed.
///
/// # Safety
/// As [`hypercall`].
pub unsafe fn ticks(what: &str, r: Registers) -> Result<u32, String> {
    // SAFETY: passed on.
    succeeded(what, unsafe { long_hypercall(r) })
}

/// The ticks, if the status is success.
pub fn succeeded(what: &str, (ticks, status): (u32, u64)) -> Result<u32, String> {
    if status == 0 { Ok(ticks) } else { Err(format!("{what}: status {status:#x}")) }
}

/// So many samples are marked, as an interrupt can come into one.
const MARKED: usize = 3;

/// Where `cargo xtask perf profile` has the machine stopped: before and after warm samples of a row. A row without this has
/// no profile.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn perf_mark() {
    // SAFETY: no instruction.
    unsafe { asm!("", options(nomem, nostack)) };
}

/// The same: the row is over, and this is its name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn perf_row(name: *const u8, len: usize) {
    // SAFETY: no instruction; the registers are for the debugger to read.
    unsafe { asm!("", in("rdi") name, in("rsi") len, options(readonly, nostack)) };
}

/// As long as anything is to be destroyed, calls and exits do not go their quick ways; and that waits for all CPUs, which an
/// emulator that runs them in turn may not let run before this one is idle.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Samples of `one`, which says how many ticks it took.
pub fn sample(mut one: impl FnMut() -> Result<u32, String>) -> Result<Vec<u32>, String> {
    for _ in 0..WARM_UP {
        one()?;
    }
    let mut all = (MARKED..SAMPLES).map(|_| one()).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..MARKED {
        perf_mark();
        all.push(one()?);
    }
    perf_mark();
    Ok(all)
}

/// Samples, the first ones left out, that bare code has put at an address: 32 bits each.
pub fn samples_at(addr: u64) -> Vec<u32> {
    let at = |i: usize| std::ptr::with_exposed_provenance::<u32>(addr as usize + 4 * i);
    // SAFETY: memory of our own for so many samples, to which nothing in Rust refers.
    (WARM_UP..WARM_UP + SAMPLES).map(|i| unsafe { at(i).read_volatile() }).collect()
}

/// Lines that [`show`] shows again.
static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Lines of a screen, and how long one is shown.
const PAGE: (usize, Duration) = (23, Duration::from_secs(10));

fn keep(line: String) {
    if let Ok(mut all) = KEPT.lock() {
        all.push(line);
    }
}

/// Shows the median of each row, minimum and 99th percentile, page by page for ever: for a screen. These lines are no rows.
pub fn show() -> ! {
    loop {
        for page in KEPT.lock().map(|all| all.clone()).unwrap_or_default().chunks(PAGE.0) {
            page.iter().for_each(|line| println!("{line}"));
            std::thread::sleep(PAGE.1);
        }
        std::thread::sleep(PAGE.1);
    }
}

/// Prints a row of one figure.
pub fn figure(name: &str, value: u64, unit: &str) {
    keep(format!("{name} {value} {unit}"));
    println!("perf: {name} min {value} median {value} p99 {value} max {value} of 1 {unit}");
}

/// Prints a row of ticks, and how they are spread if they are not all the same.
pub fn row(name: &str, mut samples: Vec<u32>, overhead: u32) {
    perf_row(name.as_ptr(), name.len());
    let Some(s) = Summary::of(&mut samples, overhead) else { return missing(name, "no samples") };
    keep(format!("{name} {}, {} to {} ticks", s.median, s.min, s.p99));
    println!("perf: {name} {s} ticks");
    let spread = Spread::of(&mut samples, overhead);
    if spread.is_wide() {
        println!("perf: {name} {spread}");
    }
}

/// Says why there is no such row.
pub fn missing(name: &str, why: &str) {
    println!("perf: {name} missing: {why}");
}

/// Prints a row, or why there is none.
pub fn report(name: &str, samples: Result<Vec<u32>, String>, overhead: u32) {
    match samples {
        Ok(s) => row(name, s, overhead),
        Err(why) => missing(name, &why),
    }
}
