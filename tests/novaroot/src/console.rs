//! COM1, by port input and output: the ports come from the NOVA PIO space.

use core::arch::asm;
use core::fmt;

/// First of its eight ports.
pub const COM1: u16 = 0x3f8;

/// Writes a byte to a port.
pub fn out(port: u16, byte: u8) {
    // SAFETY: ports that were taken for devices which do not touch memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte from a port.
pub fn input(port: u16) -> u8 {
    let byte: u8;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") byte, options(nomem, nostack, preserves_flags)) }
    byte
}

/// 115200 baud, 8N1, FIFOs, no interrupts.
pub fn init() {
    for (register, byte) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0x0b)] {
        out(COM1 + register, byte);
    }
}

/// Waits until all has been sent: a machine that is off sends nothing.
pub fn drain() {
    while input(COM1 + 5) & 0x40 == 0 {}
}

/// The serial line as a sink of text.
pub struct Line;

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for b in text.bytes() {
            while input(COM1 + 5) & 0x20 == 0 {}
            out(COM1, b);
        }
        Ok(())
    }
}

/// Prints on the serial line.
#[macro_export]
macro_rules! print {
    ($($args:tt)*) => {{
        let _ = core::fmt::Write::write_fmt(&mut $crate::console::Line, format_args!($($args)*));
    }};
}
