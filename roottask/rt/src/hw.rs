//! I/O ports.

use core::arch::asm;

/// A range of I/O ports that this component may use (the parent gave it; an access to others is a fault).
///
/// Accesses are checked against the range. They are safe in Rust's sense as long as the device behind them does no
/// DMA; what they do to the machine is the driver's business.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    count: u16,
}

macro_rules! accessors {
    ($($bits:literal $t:ty, $read:ident $write:ident $reg:tt;)*) => { $(
        #[doc = concat!("Reads ", $bits, " bits at offset `off`.")]
        #[inline]
        pub fn $read(&self, off: u16) -> $t {
            let port = self.port(off, size_of::<$t>());
            let v: $t;
            // SAFETY: reads a port of the own range.
            unsafe { asm!(concat!("in ", $reg, ", dx"), in("dx") port, out($reg) v, options(nomem, nostack, preserves_flags)) };
            v
        }
        #[doc = concat!("Writes ", $bits, " bits at offset `off`.")]
        #[inline]
        pub fn $write(&self, off: u16, v: $t) {
            let port = self.port(off, size_of::<$t>());
            // SAFETY: writes a port of the own range.
            unsafe { asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) v, options(nomem, nostack, preserves_flags)) };
        }
    )* };
}

impl Ports {
    /// `count` ports from `first` on. Panics if they are not all within 0 to 0xffff.
    pub const fn new(first: u16, count: u16) -> Ports {
        assert!(first as u32 + count as u32 <= 0x1_0000, "I/O ports end at 0xffff");
        Ports { first, count }
    }

    /// The port at an offset. Panics if an access of that size leaves the range.
    fn port(&self, off: u16, size: usize) -> u16 {
        assert!(usize::from(off) + size <= usize::from(self.count), "port offset {off:#x} is out of range");
        self.first + off
    }

    accessors! {
        8 u8, in8 out8 "al";
        16 u16, in16 out16 "ax";
        32 u32, in32 out32 "eax";
    }
}
