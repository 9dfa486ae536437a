//! The error numbers of Linux/x86-64 that this runtime answers with, and how a C function reports them.

pub const ENOENT: i32 = 2;
pub const EBADF: i32 = 9;
pub const EAGAIN: i32 = 11;
pub const ENOMEM: i32 = 12;
pub const EFAULT: i32 = 14;
pub const EINVAL: i32 = 22;
pub const EMFILE: i32 = 24;
pub const EROFS: i32 = 30;
pub const ERANGE: i32 = 34;
pub const ENOSYS: i32 = 38;
pub const ETIMEDOUT: i32 = 110;

/// What `strerror` says, for these and for the codes that std maps to an `ErrorKind` of its own.
pub const TEXTS: &[(i32, &str)] = &[
    (1, "Operation not permitted"),
    (ENOENT, "No such file or directory"),
    (EBADF, "Bad file descriptor"),
    (EAGAIN, "Resource temporarily unavailable"),
    (ENOMEM, "Cannot allocate memory"),
    (13, "Permission denied"),
    (EFAULT, "Bad address"),
    (17, "File exists"),
    (EINVAL, "Invalid argument"),
    (EMFILE, "Too many open files"),
    (EROFS, "Read-only file system"),
    (ERANGE, "Numerical result out of range"),
    (ENOSYS, "Function not implemented"),
    (ETIMEDOUT, "Connection timed out"),
];

/// Sets errno and returns the -1 of C.
pub fn fail(e: i32) -> isize {
    crate::tcb::set_errno(e);
    -1
}

/// Result to C's convention.
pub fn ret(r: Result<usize, i32>) -> isize {
    match r {
        Ok(n) => n as isize,
        Err(e) => fail(e),
    }
}

/// `__errno_location(3)`.
#[unsafe(no_mangle)]
extern "C" fn __errno_location() -> *mut i32 {
    crate::tcb::my().errno.as_ptr()
}
