//! Environment, limits, signals (there are none), error texts.

use crate::errno::{EINVAL, ENOSYS, ERANGE, TEXTS, fail};
use core::ffi::{CStr, c_char};
use core::ptr::null_mut;

/// A list of C strings that ends with null, as C wants it.
#[repr(transparent)]
pub struct List<const N: usize>(pub [*const c_char; N]);
// SAFETY: constants.
unsafe impl<const N: usize> Sync for List<N> {}

/// The whole environment. std's default stack of 2 MiB would be a large part of most components' RAM, which is not
/// paged in on demand here; this is its documented way to ask for another one. `thread::DEFAULT_STACK` is the same.
static ENVIRONMENT: List<2> = List([c"RUST_MIN_STACK=131072".as_ptr(), core::ptr::null()]);
const _: () = assert!(crate::thread::DEFAULT_STACK == 131_072);

/// The variable of C.
#[unsafe(no_mangle)]
static mut environ: *const *const c_char = ENVIRONMENT.0.as_ptr();

/// What main gets.
pub fn environment() -> *const *const c_char {
    ENVIRONMENT.0.as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getenv(key: *const c_char) -> *const c_char {
    // SAFETY: C's contract.
    let key = unsafe { CStr::from_ptr(key) }.to_bytes();
    let value = |entry: &*const c_char| {
        // SAFETY: the list holds C strings and one null, which was filtered out.
        let entry = unsafe { CStr::from_ptr(*entry) };
        let rest = entry.to_bytes().strip_prefix(key)?.strip_prefix(b"=")?;
        Some(rest.as_ptr().cast())
    };
    ENVIRONMENT.0.iter().filter(|e| !e.is_null()).find_map(value).unwrap_or(core::ptr::null())
}

#[unsafe(no_mangle)]
extern "C" fn setenv(_: *const c_char, _: *const c_char, _: i32) -> i32 {
    fail(ENOSYS) as i32
}

#[unsafe(no_mangle)]
extern "C" fn unsetenv(_: *const c_char) -> i32 {
    fail(ENOSYS) as i32
}

/// No auxiliary vector.
#[unsafe(no_mangle)]
extern "C" fn getauxval(_: u64) -> u64 {
    0
}

const SC_PAGESIZE: i32 = 30;
const SC_NPROCESSORS_CONF: i32 = 83;
const SC_NPROCESSORS_ONLN: i32 = 84;

#[unsafe(no_mangle)]
extern "C" fn sysconf(n: i32) -> i64 {
    match n {
        SC_PAGESIZE => abi::PAGE_SIZE as i64,
        // Those that the threads of std can use.
        SC_NPROCESSORS_CONF | SC_NPROCESSORS_ONLN => 1,
        _ => fail(EINVAL) as i64,
    }
}

/// `struct sigaction`, of which the first word is the handler.
type SigAction = [usize; 19];
const SIG_IGN: usize = 1;

/// No signals. "Ignored" as the old action keeps std from installing its SIGSEGV handler and alternate stacks: a
/// stack overflow faults in the guard page, and the parent reports it.
#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(_: i32, _: *const SigAction, old: *mut SigAction) -> i32 {
    if !old.is_null() {
        let mut ignored: SigAction = [0; 19];
        ignored[0] = SIG_IGN;
        // SAFETY: C's contract.
        unsafe { old.write(ignored) };
    }
    0
}

/// std ignores SIGPIPE at start; so does this system.
#[unsafe(no_mangle)]
extern "C" fn signal(_: i32, _: usize) -> usize {
    SIG_IGN
}

#[unsafe(no_mangle)]
extern "C" fn sigaltstack(_: *const u8, _: *mut u8) -> i32 {
    fail(ENOSYS) as i32
}

/// std waits here if `exit` comes back, which it does not.
#[unsafe(no_mangle)]
extern "C" fn pause() -> i32 {
    crate::start::die("rt: pause was called\n")
}

/// std looks for functions that newer C libraries have. We have none of them.
#[unsafe(no_mangle)]
extern "C" fn dlsym(_: *mut u8, _: *const c_char) -> *mut u8 {
    null_mut()
}

/// The POSIX `strerror_r`, under the name that std uses with glibc.
#[unsafe(no_mangle)]
unsafe extern "C" fn __xpg_strerror_r(e: i32, buf: *mut u8, n: usize) -> i32 {
    let text = TEXTS.iter().find(|(code, _)| *code == e).map_or("Unknown error", |(_, t)| t);
    let Some(room) = n.checked_sub(1) else { return ERANGE };
    let len = text.len().min(room);
    // SAFETY: C's contract: `n` bytes at `buf`.
    unsafe {
        buf.copy_from_nonoverlapping(text.as_ptr(), len);
        buf.add(len).write(0);
    }
    if len < text.len() { ERANGE } else { 0 }
}
