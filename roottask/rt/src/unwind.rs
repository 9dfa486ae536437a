//! Nothing unwinds (`panic = "abort"`); backtraces walk frame pointers, with which std is built.

use crate::tcb;
use core::arch::asm;

/// What a callback sees of a frame.
#[repr(C)]
struct Context {
    ip: usize,
    cfa: usize,
}

/// Deeper stacks are cut off.
const MAX_FRAMES: usize = 128;
const URC_END_OF_STACK: i32 = 5;
const URC_NO_REASON: i32 = 0;

#[unsafe(no_mangle)]
unsafe extern "C" fn _Unwind_Backtrace(f: extern "C" fn(*mut Context, *mut u8) -> i32, arg: *mut u8) -> i32 {
    let stack = tcb::my().stack;
    let (mut low, high) = (stack.low as usize, stack.top() as usize);
    let mut frame: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    for _ in 0..MAX_FRAMES {
        // Frames of code without frame pointers leave anything in RBP.
        if !frame.is_multiple_of(8) || frame <= low || frame + 16 > high {
            break;
        }
        // SAFETY: aligned and inside the own stack.
        let (next, ip) = unsafe { *(frame as *const (usize, usize)) };
        if ip == 0 {
            break;
        }
        let mut c = Context { ip, cfa: frame + 16 };
        if f(&mut c, arg) != URC_NO_REASON {
            break;
        }
        (low, frame) = (frame, next);
    }
    URC_END_OF_STACK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _Unwind_GetIP(c: *const Context) -> usize {
    // SAFETY: the context that a callback was given.
    unsafe { (*c).ip }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _Unwind_GetIPInfo(c: *const Context, before: *mut i32) -> usize {
    // SAFETY: the context that a callback was given, and C's contract.
    unsafe {
        before.write(0);
        (*c).ip
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _Unwind_GetCFA(c: *const Context) -> usize {
    // SAFETY: the context that a callback was given.
    unsafe { (*c).cfa }
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_FindEnclosingFunction(ip: usize) -> usize {
    ip
}

/// There are no other images, and this one is not described: addresses stay numbers.
#[unsafe(no_mangle)]
extern "C" fn dl_iterate_phdr(_: usize, _: usize) -> i32 {
    0
}

macro_rules! never {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! { crate::start::die(concat!("rt: ", stringify!($name), " was called\n")) }
    )* };
}

never! { _Unwind_Resume _Unwind_RaiseException _Unwind_DeleteException _Unwind_GetLanguageSpecificData
_Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_GetDataRelBase _Unwind_SetGR _Unwind_SetIP __tls_get_addr }
