//! PIO space (spec 2.1.5): which ports a host or guest EC may access. A set bit denies, as the hardware has it.

use super::kernel_object;
use crate::mem::pool::Page;
use crate::mem::refs::{Header, Object, Ref};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Number of ports.
pub const PORTS: u64 = 1 << 16;

/// PIO space: two frames that are I/O permission bitmap and VMX I/O bitmaps A and B at once.
#[repr(C, align(32))]
pub struct PioSpace {
    header: Header,
    bitmap: [Page; 2],
}
kernel_object!(PioSpace, Pio);

impl PioSpace {
    /// A space in which every port has the same access.
    pub fn create(allow: bool) -> Option<Ref<PioSpace>> {
        let page = || Page::filled(if allow { 0 } else { 0xff });
        let bitmap = [page()?, page()?];
        Ref::new(PioSpace { header: Header::new(Self::KIND), bitmap })
    }

    /// Physical addresses of the two halves.
    pub fn frames(&self) -> [u64; 2] {
        [self.bitmap[0].phys(), self.bitmap[1].phys()]
    }

    fn byte(&self, port: u64) -> &AtomicU8 {
        let f = &self.bitmap[(port >> 15) as usize & 1];
        // SAFETY: byte of a frame that belongs to the space.
        unsafe { f.at::<AtomicU8>().add((port >> 3) as usize % abi::PAGE_SIZE).as_ref() }
    }

    /// Whether a port may be accessed.
    pub fn allows(&self, port: u64) -> bool {
        self.byte(port).load(Relaxed) & 1 << (port & 7) == 0
    }

    /// Allows or denies a port.
    pub fn set(&self, port: u64, allow: bool) {
        let bit = 1 << (port & 7);
        if allow {
            self.byte(port).fetch_and(!bit, Relaxed);
        } else {
            self.byte(port).fetch_or(bit, Relaxed);
        }
    }
}

impl Drop for PioSpace {
    fn drop(&mut self) {
        let c = crate::arch::cpu::cpu();
        if c.io_bitmap.get() == self.bitmap[0].phys() {
            c.io_bitmap.set(0);
            crate::arch::tables::enable_io_bitmap(false);
        }
    }
}
