//! QEMU's device `edu` (docs/specs/edu.rst there): a DMA engine between memory and a buffer of its own.

use std::time::{Duration, Instant};

/// Registers.
mod reg {
    pub const RAISE: u64 = 0x60;
    pub const ACKNOWLEDGE: u64 = 0x64;
    pub const SOURCE: u64 = 0x80;
    pub const DESTINATION: u64 = 0x88;
    pub const COUNT: u64 = 0x90;
    pub const COMMAND: u64 = 0x98;
}

/// Command: start, still running.
const RUN: u64 = 1;
/// Command: from the buffer to memory.
const TO_MEMORY: u64 = 2;
/// The buffer, as the engine sees it.
const BUFFER: u64 = 0x4_0000;
/// Bytes that are moved.
pub const LEN: u64 = 256;

/// The device.
#[derive(Clone, Copy)]
pub struct Edu {
    /// Requester.
    pub bdf: u16,
    base: u64,
}

impl Edu {
    /// Device and vendor, as in configuration space.
    pub const ID: u32 = 0x11e8_1234;

    /// The device with that requester, whose registers are mapped there.
    pub fn new(bdf: u16, base: u64) -> Edu {
        Edu { bdf, base }
    }

    fn write(&self, at: u64, v: u64) {
        // SAFETY: a register of the device.
        unsafe { ((self.base + at) as *mut u64).write_volatile(v) };
    }

    /// Raises its interrupt, and takes back that it is raised.
    pub fn interrupt(&self) {
        for at in [reg::RAISE, reg::ACKNOWLEDGE] {
            // SAFETY: registers of the device.
            unsafe { ((self.base + at) as *mut u32).write_volatile(1) };
        }
    }

    /// Begins to move [`LEN`] bytes.
    pub fn start(&self, to_memory: bool, address: u64) {
        let (from, to) = if to_memory { (BUFFER, address) } else { (address, BUFFER) };
        self.write(reg::SOURCE, from);
        self.write(reg::DESTINATION, to);
        self.write(reg::COUNT, LEN);
        self.write(reg::COMMAND, RUN | if to_memory { TO_MEMORY } else { 0 });
    }

    /// Waits until that is over.
    pub fn wait(&self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(5);
        // SAFETY: a register of the device.
        while unsafe { ((self.base + reg::COMMAND) as *const u64).read_volatile() } & RUN != 0 {
            if Instant::now() > end {
                return Err("the device does not finish".into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Both.
    pub fn dma(&self, to_memory: bool, address: u64) -> Result<(), String> {
        self.start(to_memory, address);
        self.wait()
    }

    /// Bus, device and function, as the kernel prints them.
    pub fn name(&self) -> String {
        format!("{:02x}:{:02x}.{:x}", self.bdf >> 8, self.bdf >> 3 & 0x1f, self.bdf & 7)
    }
}
