//! System calls of Linux by number, as musl makes them for C programs (`ports/libc`): those that a function of C behind
//! std answers, too. Everything else is refused (ENOSYS).

use crate::errno::{ENOSYS, EROFS};
use crate::{clock, files, random, start, tcb};

/// `AT_FDCWD`: the path counts from the current directory, which is the root always.
const CWD: i32 = -100;

/// A result of C, as the kernel of Linux gives it: the error is the negative number.
fn raw(result: isize) -> isize {
    if result == -1 { -(tcb::my().errno.get() as isize) } else { result }
}

/// System call `nr`.
///
/// # Safety
/// As that of Linux.
#[unsafe(no_mangle)]
unsafe extern "C" fn __ferronova_syscall(
    nr: usize,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    _e: usize,
    _f: usize,
) -> isize {
    let fd = a as i32;
    // SAFETY: the same contract.
    unsafe {
        match nr {
            0 => raw(files::read(fd, b as *mut u8, c)),
            1 => raw(files::write(fd, b as *const u8, c)),
            2 => raw(files::open64(a as *const _, b as i32, c as u32) as isize),
            3 => raw(files::close(fd) as isize),
            4 => raw(files::stat64(a as *const _, b as *mut _) as isize),
            5 => raw(files::fstat64(fd, b as *mut _) as isize),
            6 => raw(files::lstat64(a as *const _, b as *mut _) as isize),
            8 => raw(files::lseek64(fd, b as i64, c as i32) as isize),
            16 => raw(files::ioctl(fd, b as u64, c) as isize),
            17 => raw(files::pread64(fd, b as *mut u8, c, d as i64)),
            19 => raw(files::readv(fd, b as *const _, c as i32)),
            20 => raw(files::writev(fd, b as *const _, c as i32)),
            35 => raw(clock::nanosleep(a as *const _, b as *mut _) as isize),
            72 => raw(files::fcntl(fd, b as i32, c as i32) as isize),
            // rename, mkdir, rmdir, creat, link, unlink, symlink, chmod
            82..=88 | 90 => -(EROFS as isize),
            228 => raw(clock::clock_gettime(fd, b as *mut _) as isize),
            // The error is the result.
            230 => -(clock::clock_nanosleep(fd, b as i32, c as *const _, d as *mut _) as isize),
            231 => start::exit(a as u64),
            257 if fd == CWD => raw(files::open64(b as *const _, c as i32, d as u32) as isize),
            318 => raw(random::getrandom(a as *mut u8, b, c as u32)),
            _ => -(ENOSYS as isize),
        }
    }
}
