//! Code of user mode: the section `.user`, mapped for user mode in the window, and the way there and back.

use super::paging::{self, WINDOW};
use super::trap::{self, Fault};
use crate::spec::pte;

/// INT of this vector ends user code; RAX is its result.
pub const EXIT: u8 = 0x81;

/// Where the code is mapped, and a page for stack and data.
pub const CODE: u64 = WINDOW + 0x10_0000;
/// Data page; the stack grows down from its end.
pub const DATA: u64 = WINDOW + 0x11_0000;

unsafe extern "C" {
    static USER_START: u8;
    fn enter_user(rip: u64, rsp: u64, rflags: u64, argument: u64);
}

/// Maps code and data for user mode.
pub fn map() {
    paging::map(CODE, (&raw const USER_START) as u64, pte::P | pte::U);
    paging::map(DATA, paging::page(1), pte::P | pte::U | pte::W | pte::NX);
}

/// Runs a piece of the section `.user` in user mode; returns how it ended. [`EXIT`] is the regular way.
pub fn run(code: *const u8, rflags: u64, argument: u64) -> Fault {
    map();
    run_at(CODE + (code as u64 - (&raw const USER_START) as u64), rflags, argument)
}

/// The same for code at any address that is mapped for user mode.
pub fn run_at(at: u64, rflags: u64, argument: u64) -> Fault {
    // SAFETY: user code runs on its own stack and comes back by an exception.
    let fault = trap::catch(|| unsafe { enter_user(at, DATA + 0xff0, rflags | 2, argument) });
    match fault {
        Some(fault) => fault,
        None => panic!("IRETQ to user mode went on"),
    }
}

/// Declares pieces of user code: assembly that runs with RDI = argument and ends by [`EXIT`], its result in RAX.
#[macro_export]
macro_rules! user_code {
    ($($(#[$doc:meta])* $name:ident: $($line:literal),+;)*) => { $(
        core::arch::global_asm!(
            ".pushsection .user, \"ax\"", ".balign 16",
            concat!(".global ", stringify!($name)), concat!(stringify!($name), ":"),
            $($line,)+ "int 0x81", ".popsection");
        unsafe extern "C" { $(#[$doc])* static $name: u8; }
    )* };
}
