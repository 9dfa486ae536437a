//! The console: COM1, by polling. `print!` and `println!`; one CPU at a time.

use super::cpu::{in8, out8};
use crate::spec::port::COM1;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

/// Registers: interrupt enable, FIFO control, line control, modem control.
const IER: u16 = COM1 + 1;
const FCR: u16 = COM1 + 2;
const LCR: u16 = COM1 + 3;
const MCR: u16 = COM1 + 4;
/// Line status register: transmitter holding register empty, transmitter empty.
const LSR: u16 = COM1 + 5;
const THRE: u8 = 1 << 5;
const TEMT: u8 = 1 << 6;

static BUSY: AtomicBool = AtomicBool::new(false);

struct Com1;

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(put);
        Ok(())
    }
}

/// The device as the console wants it: no divisor latch, no loopback, no interrupts.
pub fn reset() {
    for (register, v) in [(LCR, 3), (IER, 0), (FCR, 1), (MCR, 3)] {
        out8(register, v);
    }
}

/// One byte, as soon as there is room.
pub fn put(byte: u8) {
    wait(THRE);
    out8(COM1, byte);
}

/// Until everything is on the line.
pub fn flush() {
    wait(TEMT);
}

/// Not without end: a fuzzing run may have told the device anything.
fn wait(bit: u8) {
    for _ in 0..1_000_000 {
        if in8(LSR) & bit != 0 {
            return;
        }
    }
}

/// What `print!` calls. A CPU that fails while it prints must not wait for itself: the wait is bounded.
pub fn write(text: fmt::Arguments) {
    for _ in 0..10_000_000 {
        if !BUSY.swap(true, Ordering::Acquire) {
            break;
        }
        super::cpu::pause();
    }
    let _ = Com1.write_fmt(text);
    BUSY.store(false, Ordering::Release);
}

/// To the console.
#[macro_export]
macro_rules! print {
    ($($t:tt)*) => { $crate::machine::serial::write(format_args!($($t)*)) };
}

/// A line to the console.
#[macro_export]
macro_rules! println {
    ($($t:tt)*) => { $crate::print!("{}\n", format_args!($($t)*)) };
}
