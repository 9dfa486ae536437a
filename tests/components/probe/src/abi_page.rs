//! docs/spec/abi.md: registers across a hypercall, what each vector register state is afterwards.

use crate::check::{Check, Outcome, equal};
use crate::scene::{Slot, call, server};
use abi::{Hypercall, Status};
use std::arch::asm;

pub const CHECKS: &[Check] = &[
    ("abi-3 abi-7", "a hypercall keeps all general registers but RDI, RCX, R11", registers_stay),
    ("abi-1 abi-4 abi-5 abi-6 abi-9", "RCX is the address after syscall, R11 and RFLAGS are 0x202", rcx_r11_flags),
    ("abi-9", "flags of the caller (carry, direction, overflow) are clear after a hypercall", caller_flags),
    ("abi-10", "number 0xf is BAD_HYP", reserved_number),
    ("abi-2 readme-4", "bits of RDI above the status are zero", status_high_bits),
    ("readme-3", "bits without a meaning are ignored", undefined_bits),
    ("abi-8", "control words have initial values after ipc_call", control_words),
];

/// A hypercall by hand: what is in RDI, RSI, RDX afterwards.
pub fn raw(rdi: u64, rsi: u64, rdx: u64, rax: u64, r8: u64) -> (u64, u64, u64) {
    let (mut a, mut b, mut c) = (rdi, rsi, rdx);
    // SAFETY: callers make calls that fail, or change no memory.
    unsafe {
        asm!("syscall", inlateout("rdi") a, inlateout("rsi") b, inlateout("rdx") c,
             inlateout("rax") rax => _, inlateout("r8") r8 => _, lateout("rcx") _, lateout("r11") _, clobber_abi("C"));
    }
    (a, b, c)
}

/// Its status.
pub fn status(rdi: u64, rsi: u64, rdx: u64, rax: u64, r8: u64) -> Result<(), Status> {
    match Status::from_register(raw(rdi, rsi, rdx, rax, r8).0) {
        Some(Status::Success) => Ok(()),
        Some(s) => Err(s),
        None => Err(Status::BadHyp),
    }
}

fn up(sm: &Slot) -> u64 {
    Hypercall::CtrlSm.identifier(0, sm.0)
}

fn registers_stay() -> Outcome {
    let sm = Slot::sm(0)?;
    let mut r = [0u64; 12];
    let mut want = [0u64; 12];
    for (i, w) in want.iter_mut().enumerate() {
        *w = 0x1111_2222_0000_0000 + i as u64;
    }
    let pair = [want.as_ptr() as u64, r.as_mut_ptr() as u64];
    // SAFETY: all registers that it loads are saved or declared; an up of an own semaphore.
    unsafe {
        asm!(
            "push rbx", "push rbp", "push rcx",
            "mov rcx, [rcx]",
            "mov rax, [rcx]", "mov rbx, [rcx+8]", "mov rdx, [rcx+16]", "mov rsi, [rcx+24]", "mov rbp, [rcx+32]",
            "mov r8, [rcx+40]", "mov r9, [rcx+48]", "mov r10, [rcx+56]", "mov r12, [rcx+64]", "mov r13, [rcx+72]",
            "mov r14, [rcx+80]", "mov r15, [rcx+88]",
            "syscall",
            "pop rcx",
            "mov rcx, [rcx+8]",
            "mov [rcx], rax", "mov [rcx+8], rbx", "mov [rcx+16], rdx", "mov [rcx+24], rsi", "mov [rcx+32], rbp",
            "mov [rcx+40], r8", "mov [rcx+48], r9", "mov [rcx+56], r10", "mov [rcx+64], r12", "mov [rcx+72], r13",
            "mov [rcx+80], r14", "mov [rcx+88], r15",
            "pop rbp", "pop rbx",
            inout("rcx") pair.as_ptr() => _, inout("rdi") up(&sm) => _,
            out("rax") _, out("rdx") _, out("rsi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    equal("RAX RBX RDX RSI RBP R8 R9 R10 R12 R13 R14 R15", std::hint::black_box(r), want)
}

fn rcx_r11_flags() -> Outcome {
    let sm = Slot::sm(0)?;
    let (rcx, r11, flags, after): (u64, u64, u64, u64);
    // SAFETY: an up of an own semaphore.
    unsafe {
        asm!("syscall", "2:", "pushfq", "pop {f}", "lea {a}, [rip + 2b]", f = out(reg) flags, a = out(reg) after,
             inout("rdi") up(&sm) => _, out("rcx") rcx, out("r11") r11, inout("rsi") 0u64 => _, out("rdx") _);
    }
    equal("RCX", rcx, after)?;
    equal("R11", r11, 0x202)?;
    equal("RFLAGS", flags, 0x202)
}

fn caller_flags() -> Outcome {
    let sm = Slot::sm(0)?;
    let flags: u64;
    // SAFETY: an up of an own semaphore; the direction flag is cleared again whatever the kernel does.
    unsafe {
        asm!("mov {t:e}, 0x7fffffff", "add {t:e}, 1", "stc", "std", "syscall", "pushfq", "pop {f}", "cld",
             t = out(reg) _, f = out(reg) flags, inout("rdi") up(&sm) => _, out("rcx") _, out("r11") _,
             inout("rsi") 0u64 => _, out("rdx") _);
    }
    equal("RFLAGS", flags, 0x202)
}

fn reserved_number() -> Outcome {
    equal("status", raw(0x8f, 0, 0, 0, 0).0, Status::BadHyp as u64)?;
    equal("status with flags and selector", raw(0x1234_56ff, 0, 0, 0, 0).0, Status::BadHyp as u64)
}

fn status_high_bits() -> Outcome {
    let sm = Slot::sm(0)?;
    equal("RDI after up", raw(up(&sm), 0, 0, 0, 0).0, 0)?;
    equal("RDI after a refused up", raw(Hypercall::CtrlSm.identifier(0, abi::SEL_NUM), 0, 0, 0, 0).0, 5)
}

fn undefined_bits() -> Outcome {
    let s = Slot::new();
    // create_sm has no flags, and uses RSI and RDX only.
    let create = Hypercall::CreateSm.identifier(0xf, s.0);
    status(create, parent::sel::PD, 1, !0, !0).map_err(|s| format!("create_sm: {s:?}"))?;
    // ctrl_pd: bits 11:5 of RDX and RAX, 63:32 of R8.
    let copy = Slot::new();
    let call = Hypercall::CtrlPd.identifier(0xf, parent::sel::OBJ);
    let junk = 0x7f << 5;
    status(call, parent::sel::OBJ, s.0 << 12 | junk, copy.0 << 12 | junk | 0x1f, !0 << 32)
        .map_err(|s| format!("ctrl_pd: {s:?}"))?;
    equal("down of the copy", rt::hypercall::sm_down(copy.0, false, Some(1)), Ok(()))?;
    equal("down", rt::hypercall::sm_down(s.0, false, Some(1)), Err(Status::Timeout))
}

fn control_words() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, _| mtd))?;
    call(pt.0, &[1], false).map_err(|s| format!("call: {s:?}"))?;
    let id = Hypercall::IpcCall.identifier(0, pt.0);
    let mut words = [0x9f80u32, 0, 0x0f7f, 0];
    // SAFETY: a call to our own server; both words are set back to what Rust expects whatever the kernel does.
    unsafe {
        asm!("ldmxcsr [r12]", "fldcw [r12 + 8]", "syscall", "stmxcsr [r12 + 4]", "fnstcw [r12 + 12]",
             "fninit", "push 0x1f80", "ldmxcsr [rsp]", "pop rcx",
             in("r12") words.as_mut_ptr(), inout("rdi") id => _, inout("rsi") 0u64 => _, out("rdx") _,
             clobber_abi("C"));
    }
    equal("MXCSR, x87 control word", (words[1], words[3] & 0xffff), (0x1f80, 0x37f))
}
