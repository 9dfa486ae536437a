//! In kernels for tests: breaks the rules that page tables and control registers set, and says what came of it.
//!
//! What [`Attempt`] tries has to fault. The trap handlers ask [`caught`] before they take a fault for a bug.

use super::{cpu::cpu, paging, trap::Regs};
use crate::mem::layout;
use abi::Attempt;
use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use ptab::Audit;

/// Instruction and stack pointer to go on at; 0: nothing is tried.
static BACK: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Vector and error code of the fault.
static FAULT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// A RET, as data.
static RET: AtomicU8 = AtomicU8::new(0xc3);

const READ: u64 = 0;
const WRITE: u64 = 1;
const CALL: u64 = 2;
const PUSH: u64 = 3;
/// In place of a vector: there was no fault.
const NONE: u64 = u64::MAX;

/// Tries it: vector and error code. For [`Attempt::Audit`] what breaks the rules, and leaves in all.
pub fn attempt(what: Attempt, at: u64) -> (u64, u64) {
    let (op, at) = match what {
        Attempt::WriteText => (WRITE, layout::text_start()),
        Attempt::WriteRodata => (WRITE, layout::text_end()),
        Attempt::CallData => (CALL, RET.as_ptr() as u64),
        Attempt::ReadUser => (READ, at),
        Attempt::WriteUser => (WRITE, at),
        Attempt::CallUser => (CALL, at),
        Attempt::ReadCpu => (READ, paging::pool_view(layout::CPU_PART + at % 512 * 4096)),
        Attempt::Overflow => (PUSH, 0),
        Attempt::Audit => {
            let a = Audit::of(paging::cr3() & !0xfff, paging::read);
            return (a.writable_code + a.open_kernel, a.leaves);
        }
    };
    FAULT[0].store(NONE, Relaxed);
    // SAFETY: what is read or written stays as it is, what is called is a RET; a fault goes on behind, with all
    // registers as they were.
    unsafe {
        asm!(
            "lea rax, [rip + 9f]",
            "mov [{back}], rax",
            "mov [{back} + 8], rsp",
            "cmp {op}, {call}",
            "je 4f",
            "ja 5f",
            "cmp {op}, {write}",
            "je 3f",
            "mov al, [{at}]",
            "jmp 9f",
            "3:",
            "or byte ptr [{at}], 0",
            "jmp 9f",
            "4:",
            "call {at}",
            "jmp 9f",
            "5:",
            "push rax",
            "jmp 5b",
            "9:",
            back = in(reg) BACK.as_ptr(), op = in(reg) op, at = in(reg) at, call = const CALL, write = const WRITE,
            out("rax") _,
        );
    }
    BACK[0].store(0, Relaxed);
    (FAULT[0].load(Relaxed), FAULT[1].load(Relaxed))
}

/// Goes on behind what was tried, if it was that.
pub fn caught(r: &Regs) {
    let ip = BACK[0].swap(0, Relaxed);
    if ip == 0 {
        return;
    }
    FAULT[0].store(r.vector, Relaxed);
    FAULT[1].store(r.error, Relaxed);
    let back = Regs { rip: ip, rsp: BACK[1].load(Relaxed), ..*r };
    // SAFETY: the frame is that of the fault, but for where it goes on: on the stack as it was, which is still there.
    unsafe { super::leave_iret(&back) }
}
