//! The memory functions that compiled code calls: there is no C library. String instructions, as the words of C say.

use core::arch::asm;

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe { asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") n => _) };
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe { asm!("rep stosb", inout("rdi") to => _, in("al") byte as u8, inout("rcx") n => _) };
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's. Volatile, so that this loop does not become a call of itself.
    let differs = (0..n).any(|i| unsafe { a.add(i).read_volatile() != b.add(i).read_volatile() });
    i32::from(differs)
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's.
    let pairs = (0..n).map(|i| unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) });
    pairs.map(|(x, y)| i32::from(x) - i32::from(y)).find(|d| *d != 0).unwrap_or(0)
}
