//! Debug console: a memory ring that user land reads (C.1), and COM1 until the root task runs or when all is lost.

use crate::arch::time;
use crate::mem::pool;
use crate::object::sm::Sm;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use spin::{Mutex, Once};
use x86::io::{inb, outb};

const COM1: u16 = 0x3f8;
const HEADER: usize = 8;
const CHARS: usize = abi::PAGE_SIZE - HEADER;

#[repr(C)]
struct Ring {
    read: AtomicU32,
    write: AtomicU32,
    chars: [u8; CHARS],
}

struct Console {
    ring: Option<core::ptr::NonNull<Ring>>,
}

// SAFETY: the ring's frame belongs to the console and is reached under its lock.
unsafe impl Send for Console {}

static CONSOLE: Mutex<Console> = Mutex::new(Console { ring: None });
static SERIAL: AtomicBool = AtomicBool::new(false);
static SIGNAL: Once<&'static Sm> = Once::new();

/// Sets COM1 to 115200 8N1 if there is one.
pub fn init_serial() {
    // SAFETY: standard 16550 set-up on the ports of COM1, which nobody else uses before the root task runs.
    unsafe {
        outb(COM1 + 7, 0x5a);
        if inb(COM1 + 7) != 0x5a {
            return;
        }
        for (r, v) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
            outb(COM1 + r, v);
        }
    }
    SERIAL.store(true, Relaxed);
}

/// Allocates the ring; needs the pool.
pub fn init_ring() {
    CONSOLE.lock().ring = pool::alloc(&crate::object::account::KERNEL).map(|f| f.cast());
}

/// Physical range of the ring.
pub fn ring_range() -> (u64, u64) {
    match CONSOLE.lock().ring {
        Some(r) => (pool::phys(r.cast()), pool::phys(r.cast()) + abi::PAGE_SIZE as u64),
        None => (0, 0),
    }
}

/// From now on `sm` is upped at each line.
pub fn set_signal(sm: &'static Sm) {
    SIGNAL.call_once(|| sm);
}

/// From now on user land owns COM1. What was written there already is not left in the ring to be written again.
pub fn hand_over() {
    let seen = SERIAL.swap(false, Relaxed);
    if let Some(r) = CONSOLE.lock().ring.filter(|_| seen) {
        // SAFETY: the frame is ours.
        let r = unsafe { r.as_ref() };
        r.read.store(r.write.load(Relaxed), Relaxed);
    }
}

/// The kernel cannot go on: writes to COM1 whoever owns it.
pub fn last_words() {
    // SAFETY: only called by the panic handler; a lock held by the code that panicked would never be released.
    unsafe { CONSOLE.force_unlock() };
    SERIAL.store(true, Relaxed);
}

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for b in s.bytes() {
            if SERIAL.load(Relaxed) {
                serial(b);
            }
            self.store(b);
        }
        Ok(())
    }
}

impl Console {
    fn store(&mut self, b: u8) {
        let Some(mut ring) = self.ring else { return };
        // SAFETY: the frame is ours; user land maps it and may write the read index, which is atomic.
        let r = unsafe { ring.as_mut() };
        let w = r.write.load(Relaxed) as usize % CHARS;
        r.chars[w] = b;
        let next = (w + 1) % CHARS;
        if r.read.load(Relaxed) as usize % CHARS == next {
            r.read.store(((next + 1) % CHARS) as u32, Relaxed);
        }
        r.write.store(next as u32, core::sync::atomic::Ordering::Release);
    }
}

fn serial(b: u8) {
    if b == b'\n' {
        serial(b'\r');
    }
    for _ in 0..100_000 {
        // SAFETY: line status and transmit registers of COM1.
        unsafe {
            if inb(COM1 + 5) & 0x20 != 0 {
                return outb(COM1, b);
            }
        }
    }
}

/// Writes a line.
pub fn line(args: fmt::Arguments) {
    let _ = CONSOLE.lock().write_fmt(format_args!("{args}\n"));
    if let Some(sm) = SIGNAL.get() {
        let _ = sm.up();
    }
}

/// Writes a line to the debug console.
#[macro_export]
macro_rules! say {
    ($($a:tt)*) => { $crate::console::line(format_args!($($a)*)) };
}

struct Provoked {
    limit: iommu::Limit,
    left_out: u64,
}

static PROVOKED: Mutex<Provoked> = Mutex::new(Provoked { limit: iommu::Limit::new(), left_out: 0 });

/// Writes a line that user land can have written as often as it likes: so many a second, then only how many there were.
pub fn provoked(args: fmt::Arguments) {
    let left_out = {
        let mut p = PROVOKED.lock();
        if !p.limit.admit(time::now(), time::frequency()) {
            p.left_out += 1;
            return;
        }
        core::mem::take(&mut p.left_out)
    };
    if left_out != 0 {
        line(format_args!("{left_out} lines left out"));
    }
    line(args);
}

/// As [`say!`], for what user land can provoke.
#[macro_export]
macro_rules! complain {
    ($($a:tt)*) => { $crate::console::provoked(format_args!($($a)*)) };
}
