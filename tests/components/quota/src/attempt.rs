//! The kernel is protected against itself (docs/spec/isolation.md): a kernel for tests tries what must not work, and says
//! which fault came of it.

use crate::child::{done, equal};
use crate::{Check, Outcome};
use abi::Attempt;
use rt::hypercall as hc;
use std::arch::x86_64::__cpuid_count;
use std::sync::atomic::AtomicU8;

pub const CHECKS: &[Check] = &[
    ("isolation-1", "the kernel cannot write to its code and constants", read_only),
    ("isolation-1", "the kernel cannot execute its data", no_execute),
    ("isolation-2 isolation-1", "no entry of the page tables allows what is ruled out", audit),
    ("isolation-3", "the kernel reaches user memory neither to read nor to write nor to execute", user_memory),
    ("isolation-4", "what is of one CPU is not in the view that all share", of_one_cpu),
    ("isolation-5", "a kernel stack that is full ends in a fault", overflow),
];

const PAGE_FAULT: u64 = 14;
const DOUBLE_FAULT: u64 = 8;
/// No fault: in place of the vector.
const NONE: u64 = u64::MAX;
/// Bits of a page fault's error code: something is there; write; fetch.
const THERE: u64 = 1;
const WRITE: u64 = 2;
const FETCH: u64 = 16;

/// Vector and error code.
fn attempt(what: Attempt, at: u64) -> Result<(u64, u64), String> {
    // SAFETY: addresses are 0, or that of an atomic byte or of code, both a RET.
    done(&format!("{what:?}"), unsafe { hc::attempt(what, at) })
}

fn faults(what: Attempt, error: u64) -> Outcome {
    equal(&format!("{what:?}"), attempt(what, 0)?, (PAGE_FAULT, error))
}

fn read_only() -> Outcome {
    faults(Attempt::WriteText, THERE | WRITE)?;
    faults(Attempt::WriteRodata, THERE | WRITE)
}

fn no_execute() -> Outcome {
    faults(Attempt::CallData, THERE | FETCH)
}

fn audit() -> Outcome {
    let (bad, leaves) = attempt(Attempt::Audit, 0)?;
    equal("entries that break a rule", bad, 0)?;
    // Our own memory is 16 MiB in small pages, or few large ones; the kernel's image alone has more than these.
    if leaves > 50 { Ok(()) } else { Err(format!("the audit saw {leaves} entries only")) }
}

/// Runs with the alignment check flag set, which would switch SMAP off.
fn with_ac<T>(f: impl FnOnce() -> T) -> T {
    const AC: u64 = 1 << 18;
    let flip = || {
        // SAFETY: alignment is not checked, as the kernel has CR0.AM off: nothing changes for Rust.
        unsafe { std::arch::asm!("pushfq", "xor qword ptr [rsp], {ac}", "popfq", ac = const AC) };
    };
    flip();
    // A hypercall clears it.
    f()
}

fn user_memory() -> Outcome {
    let memory = Box::new(AtomicU8::new(0xc3));
    let at = memory.as_ptr().expose_provenance() as u64;
    let ebx = __cpuid_count(7, 0).ebx;
    let (smep, smap) = (ebx & 1 << 7 != 0, ebx & 1 << 20 != 0);
    let expect = |there: bool, error| if there { (PAGE_FAULT, error) } else { (NONE, 0) };
    println!("quota: SMEP {smep}, SMAP {smap}");
    for (what, want) in [
        (Attempt::ReadUser, expect(smap, THERE)),
        // Reads and writes in one instruction: it depends on the CPU for which of the two it faults.
        (Attempt::WriteUser, expect(smap, THERE)),
        // Our memory is not executable for us either.
        (Attempt::CallUser, (PAGE_FAULT, THERE | FETCH)),
    ] {
        let got = with_ac(|| attempt(what, at))?;
        let error = if got.0 == NONE { 0 } else { got.1 & !WRITE };
        equal(&format!("{what:?}"), (got.0, error), want)?;
    }
    // Our code is: there SMEP decides.
    let code = ret as *const () as u64;
    let got = attempt(Attempt::CallUser, code)?;
    equal("code of ours", got.0, if smep { PAGE_FAULT } else { NONE })
}

/// Nothing but RET.
#[unsafe(naked)]
extern "C" fn ret() {
    std::arch::naked_asm!("ret")
}

/// Pages of a CPU's part, and how many of them the pool may show: the bitmap of a PIO space.
const PART: (u64, usize) = (512, 2);

fn of_one_cpu() -> Outcome {
    let mut seen = Vec::new();
    for i in 0..PART.0 {
        match attempt(Attempt::ReadCpu, i)? {
            (PAGE_FAULT, 0) => {}
            _ => seen.push(i),
        }
    }
    if seen.len() <= PART.1 { Ok(()) } else { Err(format!("pages {seen:x?} of the CPU's part are in the pool")) }
}

fn overflow() -> Outcome {
    for _ in 0..2 {
        equal("vector", attempt(Attempt::Overflow, 0)?.0, DOUBLE_FAULT)?;
    }
    Ok(())
}
