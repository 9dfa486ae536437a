//! File descriptors: 0 (nothing), 1 and 2 (`output`), and ROMs opened read-only as `/rom/NAME`. Everything else is
//! refused.

use crate::errno::{EBADF, EFAULT, EINVAL, EMFILE, ENOENT, ENOSYS, ERANGE, EROFS, fail, ret};
use crate::lock::{Gate, Lock};
use crate::{domain, output};
use core::ffi::{CStr, c_char};
use core::ptr::null_mut;

/// Where ROMs are.
const DIR: &str = "/rom/";
/// Descriptors of open files start behind stdin, stdout and stderr.
const FIRST: usize = 3;
const MAX_OPEN: usize = 32;

/// An open ROM.
#[derive(Clone, Copy)]
struct File {
    bytes: &'static [u8],
    at: u64,
}

static FILES: Lock<[Option<File>; MAX_OPEN]> = Lock::new([None; MAX_OPEN]);

pub fn gate() -> &'static Gate {
    FILES.gate()
}

/// Runs `f` on an open file.
fn with_file<R>(fd: i32, f: impl FnOnce(&mut File) -> Result<R, i32>) -> Result<R, i32> {
    let index = usize::try_from(fd).ok().and_then(|n| n.checked_sub(FIRST)).ok_or(EBADF)?;
    FILES.with(|t| t.get_mut(index).and_then(Option::as_mut).ok_or(EBADF).and_then(f))
}

/// # Safety
/// `path` is null or a C string.
unsafe fn find(path: *const c_char) -> Result<&'static [u8], i32> {
    if path.is_null() {
        return Err(EFAULT);
    }
    // SAFETY: contract.
    let path = unsafe { CStr::from_ptr(path) }.to_str().map_err(|_| ENOENT)?;
    path.strip_prefix(DIR).and_then(domain::rom).ok_or(ENOENT)
}

const O_ACCMODE: i32 = 3;
const O_CREAT: i32 = 0x40;
const O_TRUNC: i32 = 0x200;
const O_DIRECTORY: i32 = 0x1_0000;

/// # Safety
/// As [`find`].
unsafe fn open_file(path: *const c_char, flags: i32) -> Result<usize, i32> {
    if flags & (O_ACCMODE | O_CREAT | O_TRUNC) != 0 {
        return Err(EROFS);
    }
    // SAFETY: contract.
    let bytes = unsafe { find(path) }?;
    if flags & O_DIRECTORY != 0 {
        return Err(ENOENT);
    }
    FILES.with(|t| {
        let (n, slot) = t.iter_mut().enumerate().find(|(_, s)| s.is_none()).ok_or(EMFILE)?;
        *slot = Some(File { bytes, at: 0 });
        Ok(n + FIRST)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: i32, _mode: u32) -> i32 {
    // SAFETY: C's contract.
    ret(unsafe { open_file(path, flags) }) as i32
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: i32, mode: u32) -> i32 {
    // SAFETY: C's contract.
    unsafe { open64(path, flags, mode) }
}

#[unsafe(no_mangle)]
pub extern "C" fn close(fd: i32) -> i32 {
    let index = usize::try_from(fd).ok().and_then(|n| n.checked_sub(FIRST));
    let closed = FILES.with(|t| index.and_then(|i| t.get_mut(i)).and_then(Option::take));
    if closed.is_some() { 0 } else { fail(EBADF) as i32 }
}

/// Copies what there is at `at`.
///
/// # Safety
/// `n` bytes at `p` are writable.
unsafe fn copy_out(bytes: &[u8], at: u64, p: *mut u8, n: usize) -> usize {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    let n = n.min(rest.len());
    // SAFETY: contract; ROMs and the caller's memory are different pages.
    unsafe { p.copy_from_nonoverlapping(rest.as_ptr(), n) };
    n
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: i32, p: *mut u8, n: usize) -> isize {
    ret(with_file(fd, |f| {
        // SAFETY: C's contract.
        let n = unsafe { copy_out(f.bytes, f.at, p, n) };
        f.at += n as u64;
        Ok(n)
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(fd: i32, p: *mut u8, n: usize, at: i64) -> isize {
    let Ok(at) = u64::try_from(at) else { return fail(EINVAL) };
    // SAFETY: C's contract.
    ret(with_file(fd, |f| Ok(unsafe { copy_out(f.bytes, at, p, n) })))
}

/// `struct iovec`.
#[repr(C)]
pub struct IoVec {
    base: *mut u8,
    len: usize,
}

/// The elements of an iovec array.
///
/// # Safety
/// As C's: `n` elements at `v`.
unsafe fn vectors<'a>(v: *const IoVec, n: i32) -> &'a [IoVec] {
    let n = usize::try_from(n).unwrap_or(0);
    // SAFETY: contract; an empty list may have any address.
    if n == 0 { &[] } else { unsafe { core::slice::from_raw_parts(v, n) } }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn readv(fd: i32, v: *const IoVec, n: i32) -> isize {
    let mut done = 0;
    // SAFETY: C's contract.
    for part in unsafe { vectors(v, n) } {
        // SAFETY: C's contract.
        match unsafe { read(fd, part.base, part.len) } {
            got if got < 0 => return if done > 0 { done } else { got },
            got => done += got,
        }
    }
    done
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: i32, p: *const u8, n: usize) -> isize {
    if !matches!(fd, 1 | 2) {
        return fail(EBADF);
    }
    if n > 0 {
        // SAFETY: C's contract.
        output::write(fd == 2, unsafe { core::slice::from_raw_parts(p, n) });
    }
    n as isize
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: i32, v: *const IoVec, n: i32) -> isize {
    let mut done = 0;
    // SAFETY: C's contract.
    for part in unsafe { vectors(v, n) } {
        // SAFETY: C's contract.
        match unsafe { write(fd, part.base, part.len) } {
            put if put < 0 => return put,
            put => done += put,
        }
    }
    done
}

#[unsafe(no_mangle)]
pub extern "C" fn lseek64(fd: i32, offset: i64, whence: i32) -> i64 {
    ret(with_file(fd, |f| {
        let base = match whence {
            0 => 0,
            1 => f.at as i64,
            2 => f.bytes.len() as i64,
            _ => return Err(EINVAL),
        };
        f.at = base.checked_add(offset).and_then(|p| u64::try_from(p).ok()).ok_or(EINVAL)?;
        Ok(f.at as usize)
    })) as i64
}

/// `struct stat` of x86-64, 144 bytes; what is not named here is 0.
#[repr(C)]
pub struct Stat {
    _dev_ino: [u64; 2],
    nlink: u64,
    mode: u32,
    _uid_gid: [u32; 2],
    _pad: u32,
    _rdev: u64,
    size: i64,
    blksize: i64,
    blocks: i64,
    _times: [u64; 6],
    _reserved: [u64; 3],
}

const _: () = assert!(size_of::<Stat>() == 144);

/// A regular file, readable by all.
const S_IFREG_R: u32 = 0o100_444;

/// # Safety
/// `st` is writable.
unsafe fn fill(st: *mut Stat, len: usize) {
    let blocks = len.div_ceil(512) as i64;
    let s = Stat {
        _dev_ino: [0; 2],
        nlink: 1,
        mode: S_IFREG_R,
        _uid_gid: [0; 2],
        _pad: 0,
        _rdev: 0,
        size: len as i64,
        blksize: 4096,
        blocks,
        _times: [0; 6],
        _reserved: [0; 3],
    };
    // SAFETY: contract.
    unsafe { st.write(s) };
}

/// # Safety
/// `st` is writable.
unsafe fn report(found: Result<usize, i32>, st: *mut Stat) -> i32 {
    match found {
        Ok(len) => {
            // SAFETY: contract.
            unsafe { fill(st, len) };
            0
        }
        Err(e) => fail(e) as i32,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstat64(fd: i32, st: *mut Stat) -> i32 {
    // SAFETY: C's contract.
    unsafe { report(with_file(fd, |f| Ok(f.bytes.len())), st) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn stat64(path: *const c_char, st: *mut Stat) -> i32 {
    // SAFETY: C's contract.
    unsafe { report(find(path).map(<[u8]>::len), st) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn lstat64(path: *const c_char, st: *mut Stat) -> i32 {
    // SAFETY: C's contract.
    unsafe { stat64(path, st) }
}

const F_GETFD: i32 = 1;
const F_SETFD: i32 = 2;
const F_GETFL: i32 = 3;
const FD_CLOEXEC: i32 = 1;
const O_WRONLY: i32 = 1;

#[unsafe(no_mangle)]
pub extern "C" fn fcntl(fd: i32, cmd: i32, arg: i32) -> i32 {
    let open = (0..FIRST as i32).contains(&fd) || with_file(fd, |_| Ok(())).is_ok();
    match cmd {
        _ if !open => fail(EBADF) as i32,
        F_GETFD => FD_CLOEXEC,
        // There is no exec, so the flag is as good as set.
        F_SETFD if arg == FD_CLOEXEC => 0,
        F_GETFL => i32::from(matches!(fd, 1 | 2)) * O_WRONLY,
        _ => fail(EINVAL) as i32,
    }
}

/// `struct pollfd`.
#[repr(C)]
pub struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

/// std asks at start whether descriptors 0 to 2 are open: no event means that they are. No other use is known here.
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut PollFd, n: u64, timeout: i32) -> i32 {
    // SAFETY: C's contract: `n` entries.
    let fds = if n == 0 { &mut [] } else { unsafe { core::slice::from_raw_parts_mut(fds, n as usize) } };
    if timeout != 0 || fds.iter().any(|f| f.events != 0 || !(0..FIRST as i32).contains(&f.fd)) {
        return fail(ENOSYS) as i32;
    }
    fds.iter_mut().for_each(|f| f.revents = 0);
    0
}

#[unsafe(no_mangle)]
extern "C" fn dup(_: i32) -> i32 {
    fail(ENOSYS) as i32
}

const ENOTTY: i32 = 25;

#[unsafe(no_mangle)]
extern "C" fn isatty(_: i32) -> i32 {
    crate::tcb::set_errno(ENOTTY);
    0
}

/// No descriptor is a device.
#[unsafe(no_mangle)]
pub extern "C" fn ioctl(_: i32, _: u64, _: usize) -> i32 {
    fail(ENOTTY) as i32
}

#[unsafe(no_mangle)]
extern "C" fn readlink(_: *const c_char, _: *mut u8, _: usize) -> isize {
    fail(EINVAL)
}

#[unsafe(no_mangle)]
extern "C" fn realpath(_: *const c_char, _: *mut u8) -> *mut u8 {
    fail(ENOENT);
    null_mut()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getcwd(p: *mut u8, n: usize) -> *mut u8 {
    const ROOT: [u8; 2] = *b"/\0";
    if p.is_null() || n < ROOT.len() {
        fail(if p.is_null() { EINVAL } else { ERANGE });
        return null_mut();
    }
    // SAFETY: C's contract: `n` bytes at `p`.
    unsafe { p.copy_from_nonoverlapping(ROOT.as_ptr(), ROOT.len()) };
    p
}
